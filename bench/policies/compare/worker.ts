/** A worker thread: runs one job after another. */
import { parentPort } from "node:worker_threads";
import type { Job } from "./job.ts";
import { run } from "./measure.ts";

parentPort!.on("message", (job: Job) => parentPort!.postMessage(run(job)));
