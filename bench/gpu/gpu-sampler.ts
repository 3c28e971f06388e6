/** What nvidia-smi says of a GPU while something runs. */
import { Registry } from "prom-client";
import { GpuMetrics, type GpuReading } from "../../daemon/metrics/gpu-metrics.ts";

const INTERVAL_MS = 250;

export interface GpuUse {
  readonly name: string;
  readonly samples: number;
  /** Mean share of the driver's sampling period in which a kernel ran. */
  readonly utilization: number | null;
  readonly memory_used_bytes_max: number | null;
  readonly power_w_mean: number | null;
}

export class GpuSampler {
  readonly #metrics = new GpuMetrics(new Registry(), { intervalMs: INTERVAL_MS });
  readonly #samples: GpuReading[] = [];
  #timer: NodeJS.Timeout | null = null;

  /** Of the GPU that nvidia-smi lists at `index`. */
  async start(index = 0): Promise<void> {
    if (!(await this.#metrics.start())) return;
    this.#timer = setInterval(() => {
      const reading = this.#metrics.readings[index];
      if (reading !== undefined) this.#samples.push(reading);
    }, INTERVAL_MS);
  }

  /** Null where there is no nvidia-smi, or it lists no GPU. */
  stop(): GpuUse | null {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#metrics.stop();
    const first = this.#samples[0];
    if (first === undefined) return null;
    const values = (of: (reading: GpuReading) => number | null): number[] =>
      this.#samples.map(of).filter((value) => value !== null);
    const mean = (all: number[]): number | null =>
      all.length === 0 ? null : all.reduce((sum, value) => sum + value, 0) / all.length;
    const used = values((reading) => reading.memoryUsedBytes);
    return {
      name: first.name,
      samples: this.#samples.length,
      utilization: mean(values((reading) => reading.utilization)),
      memory_used_bytes_max: used.length === 0 ? null : Math.max(...used),
      power_w_mean: mean(values((reading) => reading.powerW)),
    };
  }
}
