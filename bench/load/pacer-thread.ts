/** The sleeping half of `PacedClock`: waits until the due time in shared memory, then sends one message. */
import { parentPort, workerData } from "node:worker_threads";
import { NEVER, type PacerMemory, SEQUENCE } from "./paced-clock.ts";

const { control, due } = workerData as PacerMemory;

for (;;) {
  // The sequence is read first: a due time that changes after this line makes the wait below return at once.
  const sequence = Atomics.load(control, SEQUENCE);
  const dueNs = Atomics.load(due, 0);
  if (dueNs === NEVER) {
    Atomics.wait(control, SEQUENCE, sequence);
    continue;
  }
  const leftNs = dueNs - process.hrtime.bigint();
  if (leftNs > 0n) {
    Atomics.wait(control, SEQUENCE, sequence, Number(leftNs) / 1e6);
    continue;
  }
  if (Atomics.compareExchange(due, 0, dueNs, NEVER) === dueNs) parentPort?.postMessage(null);
}
