/** Watches abort signals with one listener each, however many requests share a signal. */

const watchers = new WeakMap<AbortSignal, Set<() => void>>();

/** Calls `onAbort` when the signal aborts; returns how to stop that. */
export function watchSignal(signal: AbortSignal, onAbort: () => void): () => void {
  let waiting = watchers.get(signal);
  if (waiting === undefined) {
    const all = new Set<() => void>();
    waiting = all;
    watchers.set(signal, all);
    signal.addEventListener(
      "abort",
      () => {
        for (const notify of [...all]) notify();
      },
      { once: true },
    );
  }
  const all = waiting;
  all.add(onAbort);
  return () => all.delete(onAbort);
}
