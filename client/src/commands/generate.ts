/** `slackline-client generate`: typed functions for the models of a live server. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import type { SlacklineClient } from "../client.ts";
import { SlacklineError } from "../errors.ts";
import { type DescribedModel, moduleText } from "../generator/module.ts";
import { modelConfigIfAny } from "../model-config.ts";
import { type Command, connect, namesFlag, parsed, positiveFlag, UsageError } from "./command.ts";

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

interface GenerateOptions {
  readonly target: string;
  readonly out: string;
  readonly models: readonly string[] | null;
  readonly check: boolean;
  readonly tls: boolean;
  readonly timeoutMs: number;
  readonly clientModule: string;
}

function parse(argv: readonly string[]): GenerateOptions {
  const { values } = parsed(() =>
    parseArgs({
      args: [...argv],
      options: {
        target: { type: "string" },
        out: { type: "string" },
        models: { type: "string" },
        check: { type: "boolean", default: false },
        tls: { type: "boolean", default: false },
        "timeout-ms": { type: "string", default: "10000" },
        import: { type: "string", default: "slackline-client" },
      },
    }),
  );
  const { target, out } = values;
  if (target === undefined || out === undefined) throw new UsageError("generate needs --target and --out");
  return {
    target,
    out,
    models: namesFlag(values.models),
    check: values.check,
    tls: values.tls,
    timeoutMs: positiveFlag("timeout-ms", values["timeout-ms"]),
    clientModule: values.import,
  };
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
      const config = await modelConfigIfAny(client, name, { timeoutMs });
      return { ...metadata, name, maxBatchSize: config?.max_batch_size ?? null };
    }),
  );
}

async function run(argv: readonly string[]): Promise<number> {
  const options = parse(argv);
  const client = connect(options.target, options.tls);
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

export const generate: Command = { usage: USAGE, run };
