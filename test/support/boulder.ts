/** A model that blocks its lane for about half a second, and how to tell that it does. */
import { tensor } from "slackline-client";
import { slow } from "../../models/onnx/tiny.ts";
import { type LiveDaemon, type ModelFiles, until } from "./live-daemon.ts";

const WIDTH = 1024;
const ITEMS = 32;

/** One bucket, so that warming and measuring it takes few executions. */
export function boulderFiles(layers: number = 1600): ModelFiles {
  return {
    "1/model.onnx": slow({ layers, width: WIDTH }),
    "config.yaml": `max_batch_size: ${ITEMS}\nbuckets: [${ITEMS}]\nslo_ms: 60000\nthreads: 1\ndevice: gpu\n`,
  };
}

export interface Boulder {
  readonly name: string;
  /** Resolves when its execution has ended, answered or not. */
  readonly done: Promise<void>;
  /** Whether it has ended. */
  readonly ended: () => boolean;
}

/** Starts an execution of `boulder` and resolves once it occupies the device lane. */
export async function roll(live: LiveDaemon, signal?: AbortSignal): Promise<Boulder> {
  const { counts } = await live.modelStatus("boulder");
  let ended = false;
  const input = tensor.float32([ITEMS, WIDTH], new Float32Array(ITEMS * WIDTH));
  const done = live.client
    .infer("boulder", { x: input }, { retry: false, ...(signal === undefined ? {} : { signal }) })
    .then(
      () => {
        ended = true;
      },
      () => {
        ended = true;
      },
    );
  await until("the boulder rolls", async () => {
    const now = await live.modelStatus("boulder");
    return now.counts.requests > counts.requests && now.queued_items === 0;
  });
  return { name: "boulder", done, ended: () => ended };
}
