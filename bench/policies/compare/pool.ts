import { Worker } from "node:worker_threads";
import type { Job, Outcome } from "./job.ts";

const WORKER = new URL("./worker.js", import.meta.url);

/**
 * Runs jobs in worker threads, in their order; outcomes come in the same order, whatever finishes first.
 *
 * @param onDone told of each job that is done
 * @throws what a job throws; the others are given up
 */
export async function runJobs(
  jobs: readonly Job[],
  workers: number,
  onDone: (job: Job, done: number) => void,
): Promise<Outcome[]> {
  const outcomes = new Array<Outcome>(jobs.length);
  let next = 0;
  let done = 0;
  const work = async (worker: Worker): Promise<void> => {
    while (next < jobs.length) {
      const at = next++;
      outcomes[at] = await new Promise<Outcome>((resolve, reject) => {
        worker.removeAllListeners("message").once("message", resolve);
        worker.removeAllListeners("error").once("error", reject);
        worker.postMessage(jobs[at]!);
      });
      onDone(jobs[at]!, ++done);
    }
  };
  const threads = Array.from({ length: Math.min(workers, jobs.length) }, () => new Worker(WORKER));
  try {
    await Promise.all(threads.map(work));
  } finally {
    await Promise.all(threads.map((thread) => thread.terminate()));
  }
  return outcomes;
}
