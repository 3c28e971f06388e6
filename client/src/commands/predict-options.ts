/** The command line of `slackline-client predict`. */
import path from "node:path";
import { parseArgs } from "node:util";
import type { Existing } from "../predict/rows.ts";
import { countFlag, namesFlag, parsed, positiveFlag, UsageError } from "./command.ts";

export const PREDICT_USAGE = `Usage: slackline-client predict MODEL --target HOST:PORT --input INPUT --output OUTPUT [options]

Runs a model over a file of any size, in time that no deadline of the server's other callers needs.

  --target HOST:PORT     the server
  --input FILE           JSON lines, one item on each: {"id": …, "inputs": {"NAME": nested arrays, …}}; - for standard input
  --input NAME=FILE.npy  or NumPy arrays, one for each input of the model, items along the first axis
  --output FILE          JSON lines, in the order of the input; - for standard output
  --output FOLDER/       or, of NumPy arrays, one NAME.npy for each output, and errors.jsonl (the slash tells them apart)
  --resume               go on with an output that is there
  --force                overwrite an output that is there
  --outputs A,B          only these outputs
  --version N            this version of the model (the server's choice)
  --tenant NAME          on whose behalf
  --tls                  connect with TLS
  --items-per-request N  items that share a request (an eighth of what the model batches)
  --outstanding N        items that are under way at once (4 times what the model batches, 4096 at most)
  --timeout-ms N         give a request up after so long (never)
  --connect-timeout-ms N how long to wait for the server at the start (10000)

Exit code: 0 where all rows were answered; 1 where some failed, or the run did; 2 for a wrong command line; 130 or 143 when
stopped by SIGINT or SIGTERM.
`;

type Input =
  | { readonly type: "lines"; readonly file: string }
  | { readonly type: "arrays"; readonly files: ReadonlyMap<string, string> };

type Output = { readonly type: "lines"; readonly file: string } | { readonly type: "arrays"; readonly folder: string };

export interface PredictOptions {
  readonly model: string;
  readonly target: string;
  readonly input: Input;
  readonly output: Output;
  readonly existing: Existing;
  readonly outputs: readonly string[] | null;
  readonly version: string | undefined;
  readonly tenant: string | undefined;
  readonly tls: boolean;
  readonly itemsPerRequest: number | null;
  readonly outstanding: number | null;
  readonly timeoutMs: number | null;
  readonly connectTimeoutMs: number;
}

/** Throws UsageError. */
export function parsePredict(argv: readonly string[]): PredictOptions {
  const { values, positionals } = parsed(() =>
    parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        target: { type: "string" },
        input: { type: "string", multiple: true, default: [] },
        output: { type: "string" },
        resume: { type: "boolean", default: false },
        force: { type: "boolean", default: false },
        outputs: { type: "string" },
        version: { type: "string" },
        tenant: { type: "string" },
        tls: { type: "boolean", default: false },
        "items-per-request": { type: "string" },
        outstanding: { type: "string" },
        "timeout-ms": { type: "string" },
        "connect-timeout-ms": { type: "string", default: "10000" },
      },
    }),
  );
  const [model, ...more] = positionals;
  if (model === undefined || more.length > 0) throw new UsageError("predict needs the name of one model");
  const { target } = values;
  if (target === undefined || values.input.length === 0 || values.output === undefined) {
    throw new UsageError("predict needs --target, --input and --output");
  }
  const input = inputOf(values.input);
  const output = outputOf(values.output, input);
  const { resume, force } = values;
  if (resume && force) throw new UsageError("--resume and --force exclude each other");
  if (resume && values.output === "-") {
    throw new UsageError("--resume needs an output in a file: standard output is gone");
  }
  const outputs = namesFlag(values.outputs);
  if (outputs?.length === 0) throw new UsageError("--outputs names none");
  const timeout = values["timeout-ms"];
  return {
    model,
    target,
    input,
    output,
    existing: resume ? "resume" : force ? "overwrite" : "refuse",
    outputs,
    version: values.version,
    tenant: values.tenant,
    tls: values.tls,
    itemsPerRequest: countFlag("items-per-request", values["items-per-request"]),
    outstanding: countFlag("outstanding", values.outstanding),
    timeoutMs: timeout === undefined ? null : positiveFlag("timeout-ms", timeout),
    connectTimeoutMs: positiveFlag("connect-timeout-ms", values["connect-timeout-ms"]),
  };
}

function inputOf(inputs: readonly string[]): Input {
  const packed = inputs.find((input) => /\.npz$/i.test(input));
  if (packed !== undefined) {
    throw new UsageError(`--input ${packed}: a .npz file packs several arrays; expected NAME=FILE.npy for each input`);
  }
  const arrays = inputs.filter((input) => /^[^=]+=.*\.npy$/is.test(input));
  if (arrays.length === 0) {
    const [file, ...more] = inputs as [string, ...string[]];
    if (more.length > 0) throw new UsageError("--input takes one file of JSON lines, or NAME=FILE.npy for each input");
    if (/\.npy$/i.test(file)) throw new UsageError(`--input ${file}: which input is it? Say NAME=${file}`);
    return { type: "lines", file };
  }
  if (arrays.length < inputs.length) throw new UsageError("--input takes either JSON lines or .npy files, not both");
  const files = new Map<string, string>();
  for (const array of arrays) {
    const at = array.indexOf("=");
    const name = array.slice(0, at);
    if (files.has(name)) throw new UsageError(`--input gives '${name}' twice`);
    files.set(name, array.slice(at + 1));
  }
  return { type: "arrays", files };
}

function outputOf(output: string, input: Input): Output {
  if (output.endsWith("/") || output.endsWith(path.sep)) {
    if (input.type === "lines") {
      throw new UsageError(`--output ${output} is a folder of arrays, which needs an input of .npy files; name a file`);
    }
    return { type: "arrays", folder: output };
  }
  if (/\.npy$/i.test(output)) {
    throw new UsageError(
      `--output ${output}: arrays go to a folder, one file for each output; name it with a slash at its end`,
    );
  }
  return { type: "lines", file: output };
}
