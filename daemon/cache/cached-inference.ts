import { heldBytes } from "../engine/held-bytes.ts";
import type { AcceptedRequest, Inference, InferenceRequest, Reply, RequestTimings } from "../engine/ports.ts";
import type { Tensor } from "../engine/tensors.ts";
import type { RequestId } from "../scheduler/types.ts";
import type { AnswerCache } from "./answer-cache.ts";
import { requestKey } from "./request-key.ts";

/** Learns what became of requests that may be cached; `us` are microseconds that the cache itself took. */
export interface CacheObserver {
  /** Answered from the cache: nobody else hears of the request. */
  cacheHit(request: AcceptedRequest, timings: RequestTimings, us: number, nowUs: number): void;
  /** It goes on to be executed. */
  cacheMiss(request: InferenceRequest, us: number): void;
  /** Its answer was looked at, and kept where it is not too large. */
  cacheKept(request: InferenceRequest, us: number): void;
}

/**
 * Answers requests from memory where an equal one was answered before. Equal ones under way at the same time are all executed, each
 * by its own deadline: the first may yet be shed, cancelled or lost.
 */
export class CachedInference implements Inference {
  readonly #next: Inference;
  readonly #answers: AnswerCache;
  readonly #observer: CacheObserver;
  #lastHit = 0;

  constructor(next: Inference, answers: AnswerCache, observer: CacheObserver) {
    this.#next = next;
    this.#answers = answers;
    this.#observer = observer;
  }

  nowUs(): number {
    return this.#next.nowUs();
  }

  submit(request: InferenceRequest, reply: Reply): RequestId {
    // One that comes back from its fallback was looked up before.
    if (request.cacheAs == null || request.fallback === "behind") return this.#next.submit(request, reply);
    const arrivedUs = this.nowUs();
    const key = requestKey(request);
    const outputs = this.#answers.find(key);
    if (outputs !== null) return this.#hit(request, outputs, arrivedUs, reply);
    this.#observer.cacheMiss(request, this.nowUs() - arrivedUs);
    return this.#next.submit(request, (outcome, accepted) => {
      reply(outcome, accepted);
      if (outcome.type === "answered") this.#keep(key, request, outcome.outputs);
    });
  }

  cancel(id: RequestId): void {
    this.#next.cancel(id);
  }

  #hit(request: InferenceRequest, outputs: readonly Tensor[], arrivedUs: number, reply: Reply): RequestId {
    // Below those of the engine, which count up from 1.
    const id = --this.#lastHit;
    const nowUs = this.nowUs();
    const accepted: AcceptedRequest = { ...request, id, arrivedUs, bytes: heldBytes(request.inputs) };
    const lateUs = request.deadlineUs === null ? 0 : Math.max(0, nowUs - request.deadlineUs);
    const timings: RequestTimings = { ...NOT_EXECUTED, lateUs };
    this.#observer.cacheHit(accepted, timings, nowUs - arrivedUs, nowUs);
    reply({ type: "answered", outputs, timings }, accepted);
    return id;
  }

  #keep(key: string, request: InferenceRequest, outputs: readonly Tensor[]): void {
    const beganUs = this.nowUs();
    this.#answers.keep(key, outputs);
    this.#observer.cacheKept(request, this.nowUs() - beganUs);
  }
}

const NOT_EXECUTED: Omit<RequestTimings, "lateUs"> = {
  queueUs: 0,
  gatherUs: 0,
  executeUs: 0,
  collectUs: 0,
  batchItems: 0,
  bucket: 0,
  lane: null,
  waited: null,
};
