/** `slackline serve` as a process of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import path from "node:path";

const ENTRY = path.join(import.meta.dirname, "../../daemon", `main${path.extname(import.meta.filename)}`);

export interface ServeProcess {
  readonly child: ChildProcess;
  /** What it has written so far. */
  readonly output: { out: string; err: string };
  /** Its exit code, once it has ended. */
  readonly exited: Promise<number | null>;
  /** Resolves with the ports of its `ready` line; rejects where it ends before. */
  readonly ready: Promise<{ readonly grpcPort: number; readonly httpPort: number }>;
}

export interface ServeOptions {
  readonly cwd?: string;
  readonly command?: readonly [string, ...string[]];
}

/**
 * Starts it with these arguments.
 *
 * @param options.command what starts it, in place of Node with the daemon's entry
 */
export function serve(
  args: readonly string[],
  { command: [program, ...first] = [process.execPath, ENTRY], ...options }: ServeOptions = {},
): ServeProcess {
  const environment = Object.entries(process.env).filter(([name]) => !name.startsWith("SLACKLINE_"));
  const child = spawn(program, [...first, ...args], {
    ...options,
    env: { ...Object.fromEntries(environment), NODE_TEST_CONTEXT: undefined },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const output = { out: "", err: "" };
  child.stderr.setEncoding("utf8").on("data", (text) => {
    output.err += text;
  });
  const exited = new Promise<number | null>((resolve) => child.once("close", (code) => resolve(code)));
  const ready = new Promise<{ grpcPort: number; httpPort: number }>((resolve, reject) => {
    child.stdout.setEncoding("utf8").on("data", (text) => {
      output.out += text;
      const match = /^ready grpc=\S+:(\d+) http=\S+:(\d+)$/m.exec(output.out);
      if (match !== null) resolve({ grpcPort: Number(match[1]), httpPort: Number(match[2]) });
    });
    void exited.then((code) => reject(new Error(`it ended with ${code}: ${output.err}`)));
  });
  ready.catch(() => undefined);
  return { child, output, exited, ready };
}
