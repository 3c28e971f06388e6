/** The scenario format, used unchanged by the simulator and the load test: its schema, and how problems are told. */
import { z } from "zod";
import type { ProfileSpec, Scenario, ScenarioDevice, ScenarioModel } from "./types.ts";

export type {
  ArrivalsSpec,
  BestEffortSpec,
  ProfileSpec,
  Scenario,
  ScenarioDevice,
  ScenarioModel,
  TraceSpec,
} from "./types.ts";

const positive = z.number().positive();
const share = z.number().min(0).max(1);
const name = z.string().min(1);

/** As in a daemon. */
const BATCH_MAX = 65_536;
/** Lanes of a device, and replicas of a model. */
const LANES_MAX = 256;

function countUpTo(most: number): z.ZodInt {
  return z
    .int()
    .min(1)
    .max(most, { error: ({ input }) => `${input} is too much; it is a whole number from 1 to ${most}` });
}

const profileSchema = z.union(
  [
    z
      .strictObject({ alpha_ms: z.number().min(0), beta_ms: z.number().min(0) })
      .refine((p) => p.alpha_ms + p.beta_ms > 0, {
        message: "alpha_ms + beta_ms must be more than 0",
      }),
    z.strictObject({
      points_ms: z
        .array(z.tuple([countUpTo(BATCH_MAX), positive]))
        .min(1)
        .refine(
          (points) => points.every((p, i) => i === 0 || (p[0] > points[i - 1]![0] && p[1] >= points[i - 1]![1])),
          {
            message: "points must be [batch, ms] with batches ascending and times not falling",
          },
        ),
    }),
  ],
  {
    error: `expected {"alpha_ms": A, "beta_ms": B} or {"points_ms": [[batch, ms], ...]} with ascending batches, up to ${BATCH_MAX}`,
  },
);

const arrivalsSchema = z
  .strictObject({
    process: z.enum(["poisson", "gamma", "uniform"]),
    rate_per_s: positive,
    cv: positive.optional(),
    curve: z
      .array(z.tuple([z.number().min(0), z.number().min(0)]))
      .min(1)
      .refine((points) => points.every((p, i) => i === 0 || p[0] > points[i - 1]![0]), {
        message: "curve must be [seconds, factor] with seconds ascending",
      })
      .optional(),
  })
  .refine((a) => (a.process === "gamma") === (a.cv !== undefined), {
    message: 'cv (the gaps\' coefficient of variation) goes with process "gamma", and only with it',
    path: ["cv"],
  });

const itemsSchema = z.union(
  [
    z.int().min(1),
    z.strictObject({ min: z.int().min(1), max: z.int().min(1) }).refine((r) => r.min <= r.max, {
      message: "min must not exceed max",
    }),
  ],
  { error: 'expected a whole number of at least 1, or {"min": A, "max": B}' },
);

const modelSchema = z
  .strictObject({
    name,
    max_batch: countUpTo(BATCH_MAX),
    slo_ms: positive,
    profile: profileSchema.optional(),
    arrivals: arrivalsSchema.optional(),
    items: itemsSchema.default(1),
    /** Shapes of one item by input, for inputs whose dimensions vary (a sequence's length); load test only. */
    shapes: z.record(z.string(), z.array(z.int().min(1))).optional(),
    weight: positive.default(1),
    min_share: share.default(0),
    explicit_deadlines: z.boolean().default(true),
    shed: z.boolean().default(false),
    deadline_spread: z.number().min(0).lt(1).default(0),
    cpu_replicas: z.strictObject({ count: countUpTo(LANES_MAX), profile: profileSchema }).optional(),
    time_ratios: z.array(positive).min(1).optional(),
    devices: z.array(name).optional(),
    tenant: z.string().default(""),
    queue_items_max: z.int().min(1).default(1_000_000),
    fallback: name.optional(),
  })
  .superRefine((model, context) => {
    const problem = itemsProblem(model.items, model);
    if (problem !== null) context.addIssue({ code: "custom", path: ["items"], message: problem });
    if (model.devices?.length === 0 && model.cpu_replicas === undefined) {
      context.addIssue({
        code: "custom",
        path: ["devices"],
        message: "a model on no device needs cpu_replicas",
      });
    }
  });

const scenarioObject = z.strictObject({
  name,
  description: z.string().optional(),
  seed: z.int().min(0).default(1),
  warmup_s: z.number().min(0).default(0),
  measure_s: positive,
  devices: z
    .array(
      z.strictObject({
        name,
        lanes: countUpTo(LANES_MAX).default(1),
        speed: positive.default(1),
      }),
    )
    .min(1)
    .default([{ name: "gpu0", lanes: 1, speed: 1 }]),
  models: z.array(modelSchema).min(1),
  trace: z
    .strictObject({
      file: name,
      speed: positive.default(1),
      models: z.record(z.string(), name).optional(),
    })
    .optional(),
  best_effort: z
    .array(
      z.strictObject({
        model: name,
        backlog: z.union([z.literal("infinite"), z.int().min(1)], {
          error: 'expected "infinite" or a whole number of at least 1',
        }),
        outstanding: z.int().min(1).optional(),
        /** Items of each request; the model's own where absent. */
        items: itemsSchema.optional(),
        tenant: z.string().default(""),
      }),
    )
    .default([]),
  noise: z.number().min(0).max(0.3).default(0),
  profile_error: z.number().min(0).lt(1).default(0),
  fairness: z.boolean().default(false),
  best_effort_share_min: share.default(0),
  tenant_weights: z.record(z.string(), positive).default({}),
  gather_ms: z.number().min(0).default(0),
  handover_ms: z.number().min(0).default(0),
});

const scenarioSchema: z.ZodType<Scenario> = scenarioObject;

/** What a scenario and each of its models may have. */
export const SCENARIO_KEYS: readonly string[] = Object.keys(scenarioObject.shape);
export const MODEL_KEYS: readonly string[] = Object.keys(modelSchema.shape);

/** A scenario that cannot be used, with every problem found in it. */
export class ScenarioError extends Error {
  override readonly name = "ScenarioError";
  readonly problems: readonly string[];

  constructor(source: string, problems: readonly string[]) {
    super(
      `${source}: ${problems.length === 1 ? "1 problem" : `${problems.length} problems`}\n  ${problems.join("\n  ")}`,
    );
    this.problems = problems;
  }
}

/** What of a model limits its batches. */
type Batching = Pick<ScenarioModel, "max_batch" | "profile" | "devices" | "cpu_replicas">;

/** Largest batch that can be executed: a measured profile, of the replicas where there are only these, may end below `max_batch`. */
export function batchMax({ max_batch, profile, devices, cpu_replicas }: Batching): number {
  const limiting: ProfileSpec | undefined = devices?.length === 0 ? cpu_replicas?.profile : profile;
  if (limiting === undefined || !("points_ms" in limiting)) return max_batch;
  return Math.min(max_batch, limiting.points_ms.at(-1)?.[0] ?? max_batch);
}

function itemsProblem(items: ScenarioModel["items"], model: Batching): string | null {
  const most = typeof items === "number" ? items : items.max;
  const max = batchMax(model);
  if (most <= max) return null;
  const profile = model.devices?.length === 0 ? "the replicas' profile's" : "the profile's";
  return `requests of ${most} items do not fit into ${max === model.max_batch ? "max_batch" : `${profile} largest bucket`} (${max})`;
}

/**
 * Checks a parsed JSON value against the scenario format and fills in the defaults.
 *
 * @param source names the scenario in error messages
 * @throws {ScenarioError} with all problems, each with its path
 */
export function parseScenario(value: unknown, source: string): Scenario {
  const parsed = scenarioSchema.safeParse(value);
  const problems = parsed.error?.issues.map((issue) => `${pathOf(issue.path)}${issue.message}`) ?? [];
  problems.push(...crossProblems(value));
  if (parsed.success) problems.push(...bestEffortProblems(parsed.data), ...laneProblems(parsed.data));
  if (parsed.success && problems.length === 0) return parsed.data;
  throw new ScenarioError(source, problems);
}

function pathOf(path: readonly PropertyKey[]): string {
  let text = "";
  for (const part of path) text += typeof part === "number" ? `[${part}]` : `${text === "" ? "" : "."}${String(part)}`;
  return text === "" ? "" : `${text}: `;
}

/** What no single field can tell: names that are used twice or not at all. Works on values that failed the schema, too. */
function crossProblems(value: unknown): string[] {
  const problems: string[] = [];
  const models = namesIn(value, "models", problems);
  const devices = namesIn(value, "devices", problems);
  listIn(value, "best_effort").forEach((entry, i) => {
    const model = field(entry, "model");
    if (typeof model === "string" && !models.has(model)) {
      problems.push(`best_effort[${i}].model: no model is named '${model}'`);
    }
  });
  if (devices.size === 0) devices.add("gpu0");
  listIn(value, "models").forEach((model, i) => {
    listIn(model, "devices").forEach((device, j) => {
      if (typeof device === "string" && !devices.has(device)) {
        problems.push(`models[${i}].devices[${j}]: no device is named '${device}'`);
      }
    });
    const fallback = field(model, "fallback");
    if (typeof fallback !== "string") return;
    if (!models.has(fallback)) problems.push(`models[${i}].fallback: no model is named '${fallback}'`);
    else if (fallback === field(model, "name")) problems.push(`models[${i}].fallback: a model can't be its own`);
  });
  const renamed = field(field(value, "trace"), "models");
  if (typeof renamed === "object" && renamed !== null) {
    for (const [from, to] of Object.entries(renamed)) {
      if (typeof to === "string" && !models.has(to)) problems.push(`trace.models.${from}: no model is named '${to}'`);
    }
  }
  return problems;
}

function bestEffortProblems({ best_effort, models }: Scenario): string[] {
  return best_effort.flatMap(({ model: asked, items }, i) => {
    const model = models.find((one) => one.name === asked);
    const problem = items === undefined || model === undefined ? null : itemsProblem(items, model);
    return problem === null ? [] : [`best_effort[${i}].items: ${problem} of '${asked}'`];
  });
}

/** Names of a device's lanes, as logs and the scheduler have them. */
export function deviceLanes({ name, lanes }: ScenarioDevice): string[] {
  return lanes === 1 ? [name] : Array.from({ length: lanes }, (_, i) => `${name}/${i}`);
}

/** Names of the lanes of a model's replicas. */
export function replicaLanes({ name, cpu_replicas }: ScenarioModel): string[] {
  return Array.from({ length: cpu_replicas?.count ?? 0 }, (_, i) => `cpu/${name}/${i}`);
}

function laneProblems({ devices, models }: Scenario): string[] {
  const owners = new Map<string, string>();
  const problems: string[] = [];
  const take = (field: string, name: string, lanes: readonly string[]): void => {
    const taken = lanes.find((lane) => owners.has(lane));
    // Two of one name are told already.
    if (taken !== undefined && owners.get(taken) !== name) {
      problems.push(`${field}: '${name}' has a lane '${taken}', and so has '${owners.get(taken)}'; name one otherwise`);
    }
    for (const lane of lanes) owners.set(lane, name);
  };
  devices.forEach((device, i) => void take(`devices[${i}].name`, device.name, deviceLanes(device)));
  models.forEach((model, i) => void take(`models[${i}].name`, model.name, replicaLanes(model)));
  return problems;
}

function namesIn(value: unknown, list: string, problems: string[]): Set<string> {
  const names = new Set<string>();
  listIn(value, list).forEach((entry, i) => {
    const found = field(entry, "name");
    if (typeof found !== "string") return;
    if (names.has(found)) problems.push(`${list}[${i}].name: '${found}' is used more than once`);
    names.add(found);
  });
  return names;
}

function field(value: unknown, key: string): unknown {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>)[key] : undefined;
}

function listIn(value: unknown, key: string): unknown[] {
  const list = field(value, key);
  return Array.isArray(list) ? list : [];
}
