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
/** A program that has not answered by then is left to itself; what it says later is still read. */
const FIRST_ANSWER_MS = 10_000;
/** A reading that so many intervals have not renewed is no longer shown: the driver may hang. */
const STALE_INTERVALS = 5;
const STALE_MS_MIN = 5_000;
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
  readonly #readings = new Map<string, { readonly reading: GpuReading; readonly atMs: number }>();
  #child: ChildProcess | null = null;
  #restart: NodeJS.Timeout | null = null;
  #stopped = false;
  #failing = false;

  constructor(registry: Registry, options: GpuMetricsOptions) {
    this.#options = options;
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

  /** The last answers, by GPU; empty where there are none. */
  get readings(): readonly GpuReading[] {
    const staleMs = Math.max(STALE_MS_MIN, STALE_INTERVALS * this.#options.intervalMs);
    const since = performance.now() - staleMs;
    return [...this.#readings.values()].filter(({ atMs }) => atMs >= since).map(({ reading }) => reading);
  }

  /** Resolves, once there is a first answer or none to be had, with whether the program is there; if not it is not tried again. */
  start(): Promise<boolean> {
    return new Promise((resolve) => {
      const child = this.#run((found) => {
        clearTimeout(late);
        letGo(child);
        resolve(found);
      });
      const late = setTimeout(() => {
        letGo(child);
        resolve(true);
      }, FIRST_ANSWER_MS);
    });
  }

  stop(): void {
    this.#stopped = true;
    if (this.#restart !== null) clearTimeout(this.#restart);
    this.#child?.kill();
  }

  /** @param onFirst told at the first answer or at the end, whichever comes first */
  #run(onFirst: (found: boolean) => void): ChildProcess {
    const { program = "nvidia-smi", intervalMs } = this.#options;
    const args = [`--query-gpu=${FIELDS}`, "--format=csv,noheader,nounits", `--loop-ms=${Math.round(intervalMs)}`];
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
    this.#child = child;
    let complaint = "";
    child.stderr.on("data", (chunk: Buffer) => {
      complaint = `${complaint}${chunk}`.slice(-COMPLAINT_LENGTH_MAX);
    });
    createInterface({ input: child.stdout }).on("line", (line) => {
      const [reading] = parseReadings(line);
      // What is no reading may be the reason why there is none.
      if (reading === undefined) complaint = `${complaint}\n${line}`.slice(-COMPLAINT_LENGTH_MAX);
      else {
        this.#readings.set(reading.uuid, { reading, atMs: performance.now() });
        this.#failing = false;
        onFirst(true);
      }
    });
    child.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") onFirst(false);
      else this.#ended(error.message, onFirst);
    });
    child.once("close", (code, signal) => {
      if (child.pid === undefined) return;
      this.#ended(complaint.trim().split("\n").at(-1) || `it ended with ${signal ?? `exit code ${code}`}`, onFirst);
    });
    return child;
  }

  #ended(reason: string, onFirst: (found: boolean) => void): void {
    this.#child = null;
    this.#readings.clear();
    onFirst(true);
    if (this.#stopped) return;
    if (!this.#failing) this.#options.onError?.(`nvidia-smi failed: ${reason}`);
    this.#failing = true;
    this.#restart = setTimeout(() => letGo(this.#run(() => undefined)), this.#options.intervalMs);
    this.#restart.unref();
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

/** So that a process which has nothing else to do ends without waiting for it. */
function letGo(child: ChildProcess): void {
  for (const handle of [child, child.stdout as Socket, child.stderr as Socket]) handle.unref();
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
