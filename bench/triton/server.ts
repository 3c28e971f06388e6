/** Triton from its Python wheel, as a child process. */
import { spawn } from "node:child_process";
import { chmodSync, closeSync, copyFileSync, cpSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import { killOnExit } from "../../tools/command-line/clean-up.ts";
import { ToolError } from "../../tools/command-line/run-tool.ts";
import { pythonEnvironment } from "../../tools/python/environment.ts";
import { lastLines, runCommand } from "../../tools/python/run-command.ts";
import { Skipped } from "../../tools/python/skipped.ts";
import { freePort, LOOPBACK } from "../live/free-port.ts";
import { childrenOf, ontoDeviceCore } from "./cores.ts";
import { RATE_LIMIT_FLAGS, type TritonModel, writeRepository } from "./repository.ts";
import type { TritonSettings } from "./settings.ts";

const READY_MS = 90_000;
const POLL_MS = 200;
const STOP_MS = 20_000;
const LAST_LINES = 12;

export interface RunningServer {
  /** HOST:PORT of its gRPC port. */
  readonly address: string;
  stop(): Promise<void>;
}

export class Triton {
  readonly #program: string;
  readonly #env: Readonly<Record<string, string>>;
  readonly #backends: string;
  readonly #folder: string;

  private constructor(program: string, env: Readonly<Record<string, string>>, backends: string, folder: string) {
    this.#program = program;
    this.#env = env;
    this.#backends = backends;
    this.#folder = folder;
  }

  /**
   * @param folder for what it writes
   * @throws {Skipped} where Python, the packages or Python's shared library can't be had
   */
  static async install(folder: string): Promise<Triton> {
    const python = await pythonEnvironment(
      "triton-venv",
      path.join(PACKAGE_ROOT, "bench", "triton", "requirements.txt"),
    );
    const asked = await runCommand(python, [
      "-c",
      "import json, sys, sysconfig; print(json.dumps([sysconfig.get_path('purelib'), sysconfig.get_config_var('LIBDIR'), '.'.join(map(str, sys.version_info[:2]))]))",
    ]);
    if (asked.code !== 0) throw new Skipped(`${python} does not run: ${lastLines(asked, 2)}`);
    const [packages, pythonLibraries, version] = JSON.parse(asked.stdout) as [string, string, string];
    const distribution = path.join(packages, "pytriton", "tritonserver");
    const backends = path.join(folder, "backends");
    cpSync(path.join(distribution, "backends"), backends, { recursive: true });
    const stub = path.join(backends, "python", "triton_python_backend_stub");
    copyFileSync(path.join(distribution, "python_backend_stubs", version, "triton_python_backend_stub"), stub);
    chmodSync(stub, 0o755);
    const libraries = [path.join(packages, "nvidia_pytriton.libs"), pythonLibraries].join(":");
    const env = {
      LD_LIBRARY_PATH: libraries,
      PATH: `${path.dirname(python)}:${process.env.PATH ?? ""}`,
      PYTHONPATH: packages,
    };
    const tried = await runCommand("ldd", [stub], { env });
    if (tried.stdout.includes("not found")) {
      const missing = tried.stdout.split("\n").filter((line) => line.includes("not found"));
      throw new Skipped(`Triton's Python backend needs Python's shared library: ${missing.join("; ").trim()}`);
    }
    const program = path.join(distribution, "bin", "tritonserver");
    chmodSync(program, 0o755);
    return new Triton(program, env, backends, folder);
  }

  /** @param onnxRepository where the models' ONNX files are */
  async start(
    models: readonly TritonModel[],
    onnxRepository: string,
    settings: TritonSettings,
  ): Promise<RunningServer> {
    const repository = mkdtempSync(path.join(this.#folder, "repository-"));
    writeRepository(repository, models, settings);
    const log = path.join(this.#folder, "triton.log");
    const [grpcPort, httpPort] = [await freePort(), await freePort()];
    const args = [
      ...["--model-repository", repository, "--backend-directory", this.#backends],
      ...["--grpc-address", LOOPBACK, "--grpc-port", String(grpcPort)],
      ...["--http-address", LOOPBACK, "--http-port", String(httpPort), "--allow-metrics=false"],
      ...(settings.oneAtATime ? RATE_LIMIT_FLAGS : []),
    ];
    const output = openSync(log, "w");
    const env = { ...process.env, ...this.#env, ONNX_REPOSITORY: onnxRepository };
    const child = spawn(this.#program, args, { env, stdio: ["ignore", output, output] });
    closeSync(output);
    killOnExit(child);
    const kill = (): void => void child.kill("SIGKILL");
    const ended = new Promise<void>((resolve) => {
      child.once("error", () => resolve());
      child.once("close", () => resolve());
    });
    let running = true;
    void ended.then(() => {
      running = false;
    });
    const untilMs = Date.now() + READY_MS;
    while (!(await isReady(httpPort))) {
      if (running && Date.now() < untilMs) {
        await sleep(POLL_MS);
        continue;
      }
      kill();
      const lines = readFileSync(log, "utf8").trim().split("\n");
      const errors = lines.filter((line) => /error|fail/i.test(line)).slice(-LAST_LINES);
      throw new ToolError(`Triton did not get ready:\n${errors.join("\n")}`);
    }
    // Each model executes in a process of its own.
    for (const pid of childrenOf(child.pid!)) ontoDeviceCore(pid);
    return {
      address: `${LOOPBACK}:${grpcPort}`,
      stop: async () => {
        child.kill("SIGTERM");
        const timer = setTimeout(kill, STOP_MS);
        await ended;
        clearTimeout(timer);
        rmSync(repository, { recursive: true });
      },
    };
  }
}

async function isReady(httpPort: number): Promise<boolean> {
  try {
    return (await fetch(`http://${LOOPBACK}:${httpPort}/v2/health/ready`)).ok;
  } catch {
    return false;
  }
}
