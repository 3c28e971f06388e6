/** A model that blocks its lane for about half a second, and how to tell that it does. */
import { type InferInputs, tensor } from "slackline-client";
import { slow } from "../../models/onnx/tiny.ts";
import { type LiveDaemon, type ModelFiles, until } from "./live-daemon.ts";

/** Many rows and narrow layers: the runtime keeps a packed copy of the weights for each layer. */
const WIDTH = 256;
export const BOULDER_ITEMS = 1024;

/** What it is asked with. */
export function boulderInputs(): InferInputs {
  return { x: tensor.float32([BOULDER_ITEMS, WIDTH], new Float32Array(BOULDER_ITEMS * WIDTH)) };
}

/** One bucket, and nothing to try out, so that loading it takes few executions. */
export function boulderFiles(layers: number = 600): ModelFiles {
  return {
    "1/model.onnx": slow({ layers, width: WIDTH }),
    "config.yaml": `max_batch_size: ${BOULDER_ITEMS}\nbuckets: [${BOULDER_ITEMS}]\nslo_ms: 60000\nthreads: 1\ndevice: gpu\nbatched: true\n`,
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
  const done = live.client
    .infer("boulder", boulderInputs(), { retry: false, ...(signal === undefined ? {} : { signal }) })
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
