/** A daemon of one's own, as a child process: for the quickstart and for benchmarks. */
import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream, mkdirSync, type WriteStream } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import type { DaemonStatus } from "../../daemon/status.ts";
import { killOnExit } from "../../tools/command-line/clean-up.ts";
import { ToolError } from "../../tools/command-line/run-tool.ts";
import { fetchStatus } from "../load/daemon-status.ts";
import { freePort, LOOPBACK } from "./free-port.ts";

export interface DaemonOptions {
  /** Folder of the model repository. */
  readonly models: string;
  /** Further flags of `serve`. */
  readonly flags?: readonly string[];
  /** Where the daemon's output goes. */
  readonly logFile: string;
  readonly readyMs: number;
  /** Compiled entry in place of the daemon's own; it takes the flags of `serve`. */
  readonly entry?: string;
  /** Told once for each thing that the daemon says it is doing until it is ready. */
  readonly onActivity?: (activity: string) => void;
}

/** The daemon did not start, or is gone; the message holds the end of what it said. */
export class DaemonError extends ToolError {}

/** The daemon of the same build as this. */
const MAIN = fileURLToPath(new URL("../../daemon/main.js", import.meta.url));
const POLL_MS = 200;
const LAST_LINES = 15;
/** After SIGTERM; the daemon drains first. */
const STOP_MS = 15_000;

export class DaemonProcess {
  readonly grpcAddress: string;
  readonly httpAddress: string;
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #exited: Promise<string>;

  private constructor(child: ChildProcess, exited: Promise<string>, grpcAddress: string, httpAddress: string) {
    this.#child = child;
    this.#exited = exited;
    this.pid = child.pid!;
    this.grpcAddress = grpcAddress;
    this.httpAddress = httpAddress;
  }

  /**
   * Starts a daemon on free ports of the loopback interface and waits until it is ready.
   *
   * @throws {DaemonError} where it ends before that, or is not ready in time
   */
  static async start({
    models,
    flags = [],
    logFile,
    readyMs,
    entry = MAIN,
    onActivity,
  }: DaemonOptions): Promise<DaemonProcess> {
    // The status is to be had before the daemon says where, so its port is chosen here.
    const httpPort = await freePort();
    const ports = ["--host", LOOPBACK, "--grpc-port", "0", "--http-port", String(httpPort)];
    const args = [entry, "--models", models, ...ports, ...flags];
    const child = spawn(process.execPath, args, { cwd: PACKAGE_ROOT, stdio: ["ignore", "pipe", "pipe"] });
    killOnExit(child);
    const output = new Output(child, logFile);
    const exited = new Promise<string>((resolve) => {
      child.once("error", (error) => resolve(error.message));
      child.once("close", (code, signal) => resolve(signal === null ? `exit code ${code}` : `signal ${signal}`));
    });
    const watch = onActivity === undefined ? null : new ActivityWatch(`${LOOPBACK}:${httpPort}`, onActivity);
    const timeout = new Promise<null>((resolve) => setTimeout(resolve, readyMs, null).unref());
    const ended = exited.then((how) => ({ how }));
    const first = await Promise.race([output.ready, ended, timeout]);
    watch?.stop();
    if (first !== null && "grpcPort" in first) {
      return new DaemonProcess(child, exited, `${LOOPBACK}:${first.grpcPort}`, `${LOOPBACK}:${httpPort}`);
    }
    child.kill("SIGKILL");
    const what =
      first === null ? `was not ready after ${readyMs / 1000} s` : `ended before it was ready (${first.how})`;
    throw new DaemonError(`the daemon ${what}. Its last words, all of them in ${logFile}:\n${output.tail()}`);
  }

  async status(): Promise<DaemonStatus> {
    const status = await fetchStatus(this.httpAddress, 5000);
    if (status === null) throw new DaemonError(`the daemon does not answer at http://${this.httpAddress}/status`);
    return status;
  }

  /** Asks it to drain and end, and waits for it; how it ended ("exit code 0"). */
  async stop(): Promise<string> {
    this.#child.kill("SIGTERM");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), STOP_MS);
    const how = await this.#exited;
    clearTimeout(timer);
    return how;
  }
}

/** The daemon's output: to the log file, the last lines kept for messages, and searched for the line that says ready. */
class Output {
  readonly ready: Promise<{ readonly grpcPort: number }>;
  readonly #last: string[] = [];

  constructor(child: ChildProcess, logFile: string) {
    mkdirSync(path.dirname(logFile), { recursive: true });
    const log = createWriteStream(logFile);
    this.ready = new Promise((resolve) => {
      for (const stream of [child.stdout!, child.stderr!]) {
        createInterface({ input: stream }).on("line", (line) => {
          this.#take(line, log);
          const ports = /^ready\b.*?\bgrpc\D*(?:\d+\.\d+\.\d+\.\d+:)?(\d+)/.exec(line);
          if (ports !== null) resolve({ grpcPort: Number(ports[1]) });
        });
      }
    });
    child.once("close", () => log.end());
  }

  tail(): string {
    return this.#last.map((line) => `  ${line}`).join("\n");
  }

  #take(line: string, log: WriteStream): void {
    log.write(`${line}\n`);
    this.#last.push(line.length > 300 ? `${line.slice(0, 300)}…` : line);
    if (this.#last.length > LAST_LINES) this.#last.shift();
  }
}

/** Asks the daemon now and then what it is doing. */
class ActivityWatch {
  #stopped = false;
  #last: string | null = null;

  constructor(address: string, tell: (activity: string) => void) {
    void this.#watch(address, tell);
  }

  async #watch(address: string, tell: (activity: string) => void): Promise<void> {
    while (!this.#stopped) {
      const activity = (await fetchStatus(address, 1000))?.activity ?? null;
      if (!this.#stopped && activity !== null && activity !== this.#last) tell(activity);
      this.#last = activity ?? this.#last;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  stop(): void {
    this.#stopped = true;
  }
}
