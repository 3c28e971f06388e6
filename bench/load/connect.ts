/** Makes a server ready for a load: what it serves, and inputs for it. */
import { type ModelMetadata, SlacklineClient, SlacklineError, type Transport } from "slackline-client";
import { ToolError } from "../../tools/command-line/run-tool.ts";
import type { Scenario } from "../scenario/schema.ts";
import { type Inputs, type ItemShapes, makeInputs, type PreparedModel } from "./payloads.ts";
import { PlainTarget } from "./plain-target.ts";
import type { LoadPlan } from "./plan.ts";
import { SdkTarget } from "./sdk-target.ts";
import type { Target } from "./target.ts";

/** The SDK's transports, or `plain`: unary calls without the SDK. */
export type LoadTransport = Transport | "plain";

/** The target can't be loaded as the scenario asks; the message says what to do. */
export class TargetError extends ToolError {}

export interface TargetOptions {
  /** HOST:PORT */
  readonly address: string;
  readonly transport: LoadTransport;
  readonly scenario: Scenario;
  /** Asked once the server has answered: a plan may take seconds. */
  readonly plan: () => LoadPlan;
}

const CONNECT_MS = 3_000;
const TRIAL_MS = 30_000;
/** Answers that come late are measured, not given up; only what is hopeless ends with its deadline and this. */
const GRACE_MS = 30_000;
/** Requests that may wait in the client; with an open loop and a daemon that hangs, they are many. */
const QUEUE_MAX = 100_000;
const VARIANTS = 4;

/**
 * Connects, checks that every model of the plan is served, makes inputs and tries one request of each model.
 *
 * @throws {TargetError}
 */
export async function connectTarget({
  address,
  transport,
  scenario,
  plan: makePlan,
}: TargetOptions): Promise<{ readonly target: Target & { close(): void }; readonly plan: LoadPlan }> {
  const client = new SlacklineClient({
    target: address,
    transport: transport === "plain" ? "unary" : transport,
    graceMs: GRACE_MS,
    queueMax: QUEUE_MAX,
    retry: false,
  });
  try {
    await checkAnswers(client, address);
    const plan = makePlan();
    await checkServed(client, address, plan.models);
    const counts = itemCounts(plan);
    const models = new Map<string, PreparedModel>();
    for (const [name, items] of counts) {
      const shapes = scenario.models.find((model) => model.name === name)?.shapes ?? {};
      models.set(name, await prepareModel(client, name, items, shapes));
    }
    const target = transport === "plain" ? new PlainTarget(address, models) : new SdkTarget(client, models);
    if (transport === "plain") client.close();
    for (const [name, [fewest]] of counts) await tryOnce(target, name, fewest!);
    return { target, plan };
  } catch (error) {
    client.close();
    throw error;
  }
}

async function checkAnswers(client: SlacklineClient, address: string): Promise<void> {
  try {
    await client.serverMetadata({ timeoutMs: CONNECT_MS });
  } catch (error) {
    throw new TargetError(
      `no daemon answers at ${address}: ${messageOf(error)}. Is it running there? \`npm start\` starts one on port 8001`,
    );
  }
}

async function checkServed(client: SlacklineClient, address: string, wanted: readonly string[]): Promise<void> {
  const ready = await Promise.all(wanted.map((name) => client.modelReady(name)));
  const missing = wanted.filter((_, i) => !ready[i]);
  if (missing.length === 0) return;
  throw new TargetError(
    `${address} does not serve ${missing.map((name) => `'${name}'`).join(", ")}; ${await served(client)}`,
  );
}

async function served(client: SlacklineClient): Promise<string> {
  try {
    const index = await client.repositoryIndex();
    if (index.length === 0) return "it serves no model at all";
    const models = index.map(({ name, version, state, reason }) =>
      state === "READY" ? `${name} (version ${version})` : `${name} (${state}${reason === "" ? "" : `: ${reason}`})`,
    );
    return `it has: ${models.join(", ")}`;
  } catch {
    return "and it does not tell what it serves";
  }
}

/** Every number of items with which the plan calls each of its models, ascending. */
function itemCounts({ models, requests, backlogs }: LoadPlan): ReadonlyMap<string, readonly number[]> {
  const counts = new Map(models.map((name) => [name, new Set<number>()]));
  for (const { model, items } of requests) counts.get(model)!.add(items);
  for (const { model, items } of backlogs) {
    const { min, max } = typeof items === "number" ? { min: items, max: items } : items;
    for (let count = min; count <= max; count++) counts.get(model)!.add(count);
  }
  return new Map([...counts].map(([name, of]) => [name, [...of].sort((a, b) => a - b)]));
}

async function prepareModel(
  client: SlacklineClient,
  name: string,
  itemCounts: readonly number[],
  shapes: ItemShapes,
): Promise<PreparedModel> {
  const metadata = await client.modelMetadata(name);
  const itemsMax = await largestBatch(client, name, metadata);
  const most = itemCounts.at(-1)!;
  if (most > Math.max(1, itemsMax)) {
    throw new TargetError(`the scenario sends ${name} requests of ${most} items; the daemon takes ${itemsMax} at most`);
  }
  const prepared = new Map<number, readonly Inputs[]>();
  try {
    for (const items of itemCounts) {
      const variants = Array.from({ length: VARIANTS }, (_, seed) =>
        makeInputs(metadata.inputs, itemsMax > 0, items, shapes, seed),
      );
      prepared.set(items, variants);
    }
  } catch (error) {
    throw new TargetError(`model ${name}: ${messageOf(error)}`);
  }
  return prepared;
}

/** The model's `max_batch_size`; 0 where its tensors have no batch dimension. */
async function largestBatch(client: SlacklineClient, name: string, { inputs }: ModelMetadata): Promise<number> {
  try {
    return (await client.modelConfig(name)).max_batch_size;
  } catch (error) {
    if (!(error instanceof SlacklineError) || error.code !== "UNIMPLEMENTED") throw error;
    return inputs.every(({ shape }) => shape[0] === -1) ? Number.POSITIVE_INFINITY : 0;
  }
}

/** One request before the run: it opens the streams, and a model that refuses the inputs is known before the load. */
async function tryOnce(target: Target, model: string, items: number): Promise<void> {
  const outcome = await target.send({ model, tenant: "", items, deadlineMs: TRIAL_MS, bestEffort: false });
  if (outcome.type === "error") {
    throw new TargetError(
      `a first request to ${model} failed with ${outcome.code}: ${outcome.message}. ` +
        'Inputs whose sizes vary can be given in the scenario: "shapes": {"INPUT": [SIZES OF ONE ITEM]}',
    );
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
