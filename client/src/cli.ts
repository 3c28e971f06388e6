/** The command line of the package: `slackline-client generate`. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { credentials } from "@grpc/grpc-js";
import { SlacklineClient } from "./client.ts";
import { SlacklineError } from "./errors.ts";
import { type DescribedModel, moduleText } from "./generator/module.ts";

const USAGE = `Usage: slackline-client generate --target HOST:PORT --out FILE [options]

Writes a TypeScript module with one typed function for each model that a live server has ready.

  --target HOST:PORT   the server
  --out FILE           where to write the module
  --models A,B         only these models; needed where the server has no repository index
  --check              write nothing; exit with 1 when FILE is not what would be written
  --tls                connect with TLS
  --timeout-ms N       how long to wait for the server (10000)
  --import NAME        what the module imports the client from (slackline-client)
`;

class UsageError extends Error {}

interface GenerateOptions {
  readonly target: string;
  readonly out: string;
  readonly models: readonly string[] | null;
  readonly check: boolean;
  readonly tls: boolean;
  readonly timeoutMs: number;
  readonly clientModule: string;
}

function parse(argv: readonly string[]): GenerateOptions | "help" {
  let parsed: ReturnType<typeof parseFlags>;
  try {
    parsed = parseFlags(argv);
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  const { values, positionals } = parsed;
  if (values.help || positionals[0] === "help") return "help";
  if (positionals.length !== 1 || positionals[0] !== "generate") {
    throw new UsageError(`unknown command '${positionals.join(" ")}'; there is one: generate`);
  }
  const { target, out, models } = values;
  if (target === undefined || out === undefined) throw new UsageError("generate needs --target and --out");
  const timeoutMs = Number(values["timeout-ms"]);
  if (!(timeoutMs > 0)) throw new UsageError(`--timeout-ms must be a number > 0, got '${values["timeout-ms"]}'`);
  return {
    target,
    out,
    models: models === undefined ? null : models.split(",").filter((name) => name !== ""),
    check: values.check,
    tls: values.tls,
    timeoutMs,
    clientModule: values.import,
  };
}

function parseFlags(argv: readonly string[]) {
  return parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      target: { type: "string" },
      out: { type: "string" },
      models: { type: "string" },
      check: { type: "boolean", default: false },
      tls: { type: "boolean", default: false },
      "timeout-ms": { type: "string", default: "10000" },
      import: { type: "string", default: "slackline-client" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
}

async function describe(client: SlacklineClient, options: GenerateOptions): Promise<DescribedModel[]> {
  const { timeoutMs } = options;
  const index =
    options.models ?? (await client.repositoryIndex({ readyOnly: true, timeoutMs })).map(({ name }) => name);
  const names = [...new Set(index)];
  if (names.length === 0) throw new SlacklineError("NOT_FOUND", `${options.target} has no model that is ready`);
  return Promise.all(
    names.map(async (name) => {
      const metadata = await client.modelMetadata(name, { timeoutMs });
      // ModelConfig is an extension: other servers may not have it.
      const config = await client.modelConfig(name, { timeoutMs }).catch(() => null);
      return { ...metadata, name, maxBatchSize: config?.max_batch_size ?? null };
    }),
  );
}

async function generate(options: GenerateOptions): Promise<number> {
  const client = new SlacklineClient({
    target: options.target,
    ...(options.tls ? { credentials: credentials.createSsl() } : {}),
  });
  try {
    const models = await describe(client, options);
    const text = moduleText(models, options.clientModule);
    const count = `${models.length} ${models.length === 1 ? "model" : "models"}`;
    if (options.check) {
      const same = existsSync(options.out) && readFileSync(options.out, "utf8") === text;
      process.stdout.write(`${options.out} ${same ? "is up to date" : "is stale"} (${count} at ${options.target})\n`);
      return same ? 0 : 1;
    }
    mkdirSync(path.dirname(path.resolve(options.out)), { recursive: true });
    writeFileSync(options.out, text);
    process.stdout.write(`${options.out}: ${count} at ${options.target}\n`);
    return 0;
  } finally {
    client.close();
  }
}

/** Runs the command line; resolves with the exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  try {
    const options = parse(argv);
    if (options === "help") {
      process.stdout.write(USAGE);
      return 0;
    }
    return await generate(options);
  } catch (error) {
    if (error instanceof UsageError) {
      process.stderr.write(`slackline-client: ${error.message}\n\n${USAGE}`);
      return 2;
    }
    const known = error instanceof SlacklineError || (error as NodeJS.ErrnoException).code !== undefined;
    if (!known) throw error;
    process.stderr.write(`slackline-client: ${(error as Error).message}\n`);
    return 1;
  }
}
