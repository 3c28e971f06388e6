/** Utilisation, memory and power of NVIDIA GPUs, as `nvidia-smi` tells them. */
import { execFile } from "node:child_process";
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
const TIMEOUT_MS = 10_000;
const MIB = 1024 * 1024;

export interface GpuMetricsOptions {
  /** Program to ask; `nvidia-smi` in the PATH by default. */
  readonly program?: string;
  readonly intervalMs: number;
  /** Told once when the figures stop coming, with the reason. */
  readonly onError?: (reason: string) => void;
}

/** Asks in the background and shows the last answer; without the program it does nothing. */
export class GpuMetrics {
  readonly #options: GpuMetricsOptions;
  #readings: readonly GpuReading[] = [];
  #timer: NodeJS.Timeout | null = null;
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

  /** The last answer, by GPU; empty where there is none. */
  get readings(): readonly GpuReading[] {
    return this.#readings;
  }

  /** Asks once, then at the interval. Resolves with whether the program is there; it is not asked again where it is not. */
  async start(): Promise<boolean> {
    const found = await this.#ask();
    if (found && !this.#stopped) this.#schedule();
    return found;
  }

  stop(): void {
    this.#stopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  /** The next question waits for the last answer: a driver that hangs must not gather processes. */
  #schedule(): void {
    this.#timer = setTimeout(() => {
      this.#ask().then(
        () => {
          if (!this.#stopped) this.#schedule();
        },
        () => undefined,
      );
    }, this.#options.intervalMs);
    this.#timer.unref();
  }

  #ask(): Promise<boolean> {
    const args = [`--query-gpu=${FIELDS}`, "--format=csv,noheader,nounits"];
    return new Promise((resolve) => {
      execFile(this.#options.program ?? "nvidia-smi", args, { timeout: TIMEOUT_MS }, (error, stdout) => {
        if (error === null) {
          this.#readings = parseReadings(stdout);
          this.#failing = false;
        } else if (error.code !== "ENOENT") {
          this.#readings = [];
          if (!this.#failing) this.#options.onError?.(`nvidia-smi failed: ${error.message.trim().split("\n").at(-1)}`);
          this.#failing = true;
        }
        resolve(error === null || error.code !== "ENOENT");
      });
    });
  }

  #gauge(registry: Registry, name: string, help: string, field: keyof GpuReading): void {
    const readings = (): readonly GpuReading[] => this.#readings;
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
