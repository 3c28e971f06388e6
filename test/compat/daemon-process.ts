/** A daemon as users start it: a process of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import path from "node:path";

const START_MS_MAX = 120_000;

export interface DaemonProcess {
  /** HOST:PORT of its gRPC side. */
  readonly target: string;
  /** Messages of its log so far, warnings and above. */
  warnings(): readonly string[];
  /** Resolves to its exit code. */
  stop(): Promise<number | null>;
}

/** Starts a daemon on free ports of the loopback and resolves when it is ready. */
export async function startDaemonProcess(
  repository: string,
  profileCache: string,
  flags: readonly string[] = [],
): Promise<DaemonProcess> {
  const main = path.join(import.meta.dirname, "..", "..", "daemon", "main.js");
  const ports = ["--grpc-port", "0", "--http-port", "0"];
  const quiet = ["--log-format", "json", "--log-level", "warn"];
  const child = spawn(
    process.execPath,
    [
      "--enable-source-maps",
      main,
      "--models",
      repository,
      "--profile-cache",
      profileCache,
      ...ports,
      ...quiet,
      ...flags,
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  let log = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    log += text;
  });
  // However this process ends, no daemon is left behind.
  const kill = (): void => void child.kill("SIGKILL");
  process.once("exit", kill);
  const exited = new Promise<number | null>((resolve) => {
    child.once("exit", (code) => {
      process.off("exit", kill);
      resolve(code);
    });
  });
  const target = await readyTarget(child, () => log);
  return {
    target,
    warnings: () => log.split("\n").flatMap(messageOf),
    async stop() {
      child.kill("SIGTERM");
      return exited;
    },
  };
}

function readyTarget(child: ChildProcess, log: () => string): Promise<string> {
  return new Promise((resolve, reject) => {
    const fail = (why: string): void => {
      child.kill("SIGKILL");
      reject(new Error(`the daemon ${why}:\n${log()}`));
    };
    const timer = setTimeout(() => fail("was not ready in time"), START_MS_MAX);
    let output = "";
    child.once("error", (error) => fail(`can't be started (${error.message})`));
    const onExit = (code: number | null): void => fail(`ended with ${code} before it was ready`);
    child.once("exit", onExit);
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      const ready = /^ready grpc=(\S+)/m.exec(output);
      if (ready === null) return;
      clearTimeout(timer);
      child.off("exit", onExit);
      resolve(ready[1]!);
    });
  });
}

function messageOf(line: string): string[] {
  if (!line.startsWith("{")) return line === "" ? [] : [line];
  return [(JSON.parse(line) as { msg: string }).msg];
}
