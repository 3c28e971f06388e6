/** Utilisation, memory and power of NVIDIA GPUs, as `nvidia-smi` tells them. */
import { type ChildProcess, spawn } from "node:child_process";
import type { Socket } from "node:net";
import { createInterface } from "node:readline";
import { Gauge, type Registry } from "prom-client";

/** One GPU; null where the driver does not say. */
export interface GpuReading {
  readonly uuid: string;
  readonly name: string;
  /** 0..1. */
  readonly utilization: number | null;
  readonly memoryTotalBytes: number | null;
  readonly memoryUsedBytes: number | null;
  readonly powerW: number | null;
  readonly powerLimitW: number | null;
}

const FIELDS = "uuid,name,utilization.gpu,memory.total,memory.used,power.draw,power.limit";
/** A program that has not answered by then is not waited for; what it says later is still read. */
const FIRST_ANSWER_MS = 10_000;
/** After so many intervals without an answer, and no less than this, the driver is taken to hang. */
const SILENT_INTERVALS = 5;
const SILENT_MS_MIN = 10_000;
const RESTART_INTERVALS = 5;
/** Of what the program says against itself. */
const COMPLAINT_LENGTH_MAX = 1000;
const MIB = 1024 * 1024;

export interface GpuMetricsOptions {
  /** Program to ask; `nvidia-smi` in the PATH by default. */
  readonly program?: string;
  readonly intervalMs: number;
  /** Told once when the figures stop coming, with the reason. */
  readonly onError?: (reason: string) => void;
}

/**
 * Lets `nvidia-smi` repeat its answers and shows the last of each GPU; without the program it does nothing.
 *
 * One process for as long as it runs: to start one for each answer would make a copy of this process's memory tables each time, which halts the
 * event loop for milliseconds, and would open and close the driver's management interface, which halts others that use the GPU.
 */
export class GpuMetrics {
  readonly #options: GpuMetricsOptions;
  readonly #silentMs: number;
  readonly #readings = new Map<string, { readonly reading: GpuReading; readonly atMs: number }>();
  #child: ChildProcess | null = null;
  #restart: NodeJS.Timeout | null = null;
  #stopped = false;
  /** Whether it was told that no figures come, and none have come since. */
  #told = false;

  constructor(registry: Registry, options: GpuMetricsOptions) {
    this.#options = options;
    this.#silentMs = Math.max(SILENT_MS_MIN, SILENT_INTERVALS * options.intervalMs);
    this.#gauge(
      registry,
      "nv_gpu_utilization",
      "Share of the last second in which the GPU ran a kernel, 0 to 1",
      "utilization",
    );
    this.#gauge(registry, "nv_gpu_memory_total_bytes", "GPU memory", "memoryTotalBytes");
    this.#gauge(registry, "nv_gpu_memory_used_bytes", "GPU memory in use", "memoryUsedBytes");
    this.#gauge(registry, "nv_gpu_power_usage", "Power drawn by the GPU, watts", "powerW");
    this.#gauge(registry, "nv_gpu_power_limit", "Power limit of the GPU, watts", "powerLimitW");
  }

  /** The last answer about each GPU; none that is old. */
  get readings(): readonly GpuReading[] {
    const since = performance.now() - this.#silentMs;
    return [...this.#readings.values()].filter(({ atMs }) => atMs >= since).map(({ reading }) => reading);
  }

  /** Resolves, once there is a first answer or none to be had, with whether the program is there; if not it is not tried again. */
  async start(): Promise<boolean> {
    const found = await new Promise<boolean>((resolve) => {
      const late = setTimeout(resolve, FIRST_ANSWER_MS, true);
      this.#run((isThere) => {
        clearTimeout(late);
        resolve(isThere);
      });
    });
    this.#letGo();
    return found;
  }

  stop(): void {
    this.#stopped = true;
    if (this.#restart !== null) clearTimeout(this.#restart);
    this.#child?.kill();
  }

  /** @param onFirst told at the first answer, or at the end of a program that gives none */
  #run(onFirst: (isThere: boolean) => void): void {
    const { program = "nvidia-smi", intervalMs } = this.#options;
    const args = [`--query-gpu=${FIELDS}`, "--format=csv,noheader,nounits", `--loop-ms=${Math.round(intervalMs)}`];
    let child: ChildProcess;
    try {
      // Out of reach of a Ctrl-C, which the daemon answers by draining; without the daemon its next line ends it.
      child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], detached: true });
    } catch (error) {
      this.#ended((error as Error).message);
      onFirst(true);
      return;
    }
    this.#child = child;
    const silent = setTimeout(() => {
      this.#tell(`no answer for ${this.#silentMs / 1000} s`);
      child.kill("SIGKILL");
    }, this.#silentMs).unref();
    const answered = new Set<string>();
    let complaint = "";
    const complain = (text: string): void => {
      complaint = `${complaint}${text}`.slice(-COMPLAINT_LENGTH_MAX);
    };
    // Where descriptors ran out there are no streams, and an error follows.
    child.stderr?.on("data", (chunk: Buffer) => complain(String(chunk)));
    if (child.stdout) {
      createInterface({ input: child.stdout }).on("line", (line) => {
        const [reading] = parseReadings(line);
        // What is no reading may be the reason why there is none.
        if (reading === undefined) return complain(`\n${line}`);
        const { uuid } = reading;
        silent.refresh();
        this.#readings.set(uuid, { reading, atMs: performance.now() });
        // It may tell of one GPU, and fail at the next.
        if (answered.has(uuid)) this.#told = false;
        if (answered.size === 0) onFirst(true);
        answered.add(uuid);
      });
    }
    child.once("error", (error: NodeJS.ErrnoException) => {
      if (child.pid !== undefined) return;
      clearTimeout(silent);
      if (error.code !== "ENOENT") this.#ended(error.message);
      onFirst(error.code !== "ENOENT");
    });
    child.once("close", (code, signal) => {
      if (child.pid === undefined) return;
      clearTimeout(silent);
      this.#ended(complaint.trim().split("\n").at(-1) || `it ended with ${signal ?? `exit code ${code}`}`);
      onFirst(true);
    });
  }

  #ended(reason: string): void {
    this.#child = null;
    if (this.#stopped) return;
    this.#tell(reason);
    this.#restart = setTimeout(() => {
      this.#run(() => undefined);
      this.#letGo();
    }, RESTART_INTERVALS * this.#options.intervalMs).unref();
  }

  #tell(reason: string): void {
    if (!this.#told) this.#options.onError?.(`nvidia-smi failed: ${reason}`);
    this.#told = true;
  }

  /** So that a process which has nothing else to do ends without waiting for the program. */
  #letGo(): void {
    for (const handle of [this.#child, this.#child?.stdout as Socket, this.#child?.stderr as Socket]) handle?.unref();
  }

  #gauge(registry: Registry, name: string, help: string, field: keyof GpuReading): void {
    const readings = (): readonly GpuReading[] => this.readings;
    new Gauge({
      name,
      help,
      labelNames: ["gpu_uuid"],
      registers: [registry],
      collect() {
        this.reset();
        for (const reading of readings()) {
          const value = reading[field];
          if (typeof value === "number") this.set({ gpu_uuid: reading.uuid }, value);
        }
      },
    });
  }
}

/** Parses `nvidia-smi --format=csv,noheader,nounits`; lines that are no GPU's are left out. */
export function parseReadings(csv: string): readonly GpuReading[] {
  const readings: GpuReading[] = [];
  for (const line of csv.split("\n")) {
    const cells = line.split(",").map((cell) => cell.trim());
    if (cells.length !== FIELDS.split(",").length || !cells[0]!.startsWith("GPU-")) continue;
    const [uuid, name, utilization, total, used, power, limit] = cells as [string, string, ...string[]];
    const scaled = (cell: string | undefined, factor: number): number | null =>
      cell !== undefined && /^\d+(\.\d+)?$/.test(cell) ? Number(cell) * factor : null;
    readings.push({
      uuid,
      name,
      utilization: scaled(utilization, 0.01),
      memoryTotalBytes: scaled(total, MIB),
      memoryUsedBytes: scaled(used, MIB),
      powerW: scaled(power, 1),
      powerLimitW: scaled(limit, 1),
    });
  }
  return readings;
}
