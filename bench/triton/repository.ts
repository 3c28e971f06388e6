/** A model repository for Triton that serves ONNX files through its Python backend. */
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import type { TritonSettings } from "./settings.ts";

export interface TritonModel {
  readonly name: string;
  readonly maxBatch: number;
  readonly sloMs: number;
}

/** The one thing that the rate limiter gives out. */
const DEVICE = "device";
/** Flags of the server that the configurations need. */
export const RATE_LIMIT_FLAGS: readonly string[] = [
  "--rate-limit=execution_count",
  `--rate-limit-resource=${DEVICE}:1`,
];

const BACKEND: string = path.join(PACKAGE_ROOT, "bench", "triton", "model.py");

export function writeRepository(folder: string, models: readonly TritonModel[], settings: TritonSettings): void {
  for (const model of models) {
    const dir = path.join(folder, model.name);
    mkdirSync(path.join(dir, "1"), { recursive: true });
    copyFileSync(BACKEND, path.join(dir, "1", "model.py"));
    writeFileSync(path.join(dir, "config.pbtxt"), configuration(model, settings));
  }
}

/** Inputs and outputs are filled in by the model itself. Level 1 is for work with deadlines, level 2 for work without. */
export function configuration({ name, maxBatch, sloMs }: TritonModel, settings: TritonSettings): string {
  const { queueDelayUs, oneAtATime, rejectAfterSlo } = settings;
  const limiter = oneAtATime ? `, rate_limiter { resources [ { name: "${DEVICE}", count: 1 } ] }` : "";
  const urgent =
    rejectAfterSlo === null
      ? ""
      : `
  priority_queue_policy [ {
    key: 1
    value { timeout_action: REJECT, default_timeout_microseconds: ${Math.round(rejectAfterSlo * sloMs * 1000)} }
  } ]`;
  return `name: "${name}"
backend: "python"
max_batch_size: ${maxBatch}
instance_group [ { kind: KIND_CPU, count: 1${limiter} } ]
dynamic_batching {
  max_queue_delay_microseconds: ${queueDelayUs}
  priority_levels: 2
  default_priority_level: 1${urgent}
}
`;
}
