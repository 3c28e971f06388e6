/** An engine for tests: answers each output with an input's data at once, or when told to. */
import type {
  AcceptedRequest,
  Inference,
  InferenceRequest,
  Outcome,
  Reply,
  RequestTimings,
} from "../../daemon/engine/ports.ts";
import type { InputTensor, Tensor, TensorData } from "../../daemon/engine/tensors.ts";
import type { RequestId } from "../../daemon/scheduler/types.ts";

export const TIMINGS: RequestTimings = {
  queueUs: 1200,
  gatherUs: 30,
  executeUs: 4000,
  collectUs: 20,
  batchItems: 3,
  bucket: 4,
  lane: "gpu0",
  lateUs: 0,
  waited: { blockedUs: 1000, blockedBy: "ranker/1", ownBatchesUs: 200, mispredictedUs: 50, heldUs: 0 },
};

interface Held {
  readonly request: AcceptedRequest;
  readonly reply: Reply;
}

export class PuppetInference implements Inference {
  /** Whether requests are answered as they come; else they wait for `answer` or `end`. */
  immediate = true;
  /** What is said of a request that is answered at once, instead of its echo. */
  outcome: Outcome | null = null;
  /** Models, by key, whose requests end at once in this way. */
  readonly outcomes: Map<string, Outcome> = new Map();
  readonly received: AcceptedRequest[] = [];
  readonly cancelled: RequestId[] = [];
  readonly held: Map<RequestId, Held> = new Map();
  /** Every look at the clock takes so long, as if the process had much to do. */
  lookUs = 0;
  #lookedUs = 0;
  #lastId = 0;
  readonly #waiters: { readonly done: () => boolean; readonly resolve: () => void }[] = [];

  nowUs(): number {
    this.#lookedUs += this.lookUs;
    return Math.round(performance.now() * 1000) + this.#lookedUs;
  }

  submit(request: InferenceRequest, reply: Reply): RequestId {
    const id = ++this.#lastId;
    const accepted: AcceptedRequest = { ...request, id, arrivedUs: this.nowUs(), bytes: 0 };
    this.received.push(accepted);
    const own = this.outcomes.get(request.model);
    if (own !== undefined) reply(own, accepted);
    else if (this.immediate) reply(this.outcome ?? echo(accepted), accepted);
    else this.held.set(id, { request: accepted, reply });
    this.#wake();
    return id;
  }

  cancel(id: RequestId): void {
    if (!this.held.delete(id)) return;
    this.cancelled.push(id);
    this.#wake();
  }

  /** Answers a held request: with its echo, or with what is given. */
  end(id: RequestId, outcome?: Outcome): void {
    const held = this.held.get(id);
    if (held === undefined) throw new Error(`request ${id} is not held`);
    this.held.delete(id);
    held.reply(outcome ?? echo(held.request), held.request);
  }

  /** The most recent request; fails the test when there is none. */
  last(): AcceptedRequest {
    const request = this.received.at(-1);
    if (request === undefined) throw new Error("no request has arrived");
    return request;
  }

  /** Resolves when the condition holds, which is looked at after every call from the server. */
  until(done: () => boolean): Promise<void> {
    if (done()) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push({ done, resolve }));
  }

  #wake(): void {
    for (const waiter of [...this.#waiters]) {
      if (!waiter.done()) continue;
      this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
      waiter.resolve();
    }
  }
}

/**
 * Outputs `out_X` hold input `X`. Their bytes live in one buffer that is overwritten when the reply returns, as those of a
 * lane are: an adapter that keeps views sends garbage.
 */
export function echo(request: AcceptedRequest): Outcome {
  const wanted = request.outputs ?? request.inputs.map((input) => `out_${input.name}`);
  const outputs: Tensor[] = [];
  for (const name of wanted) {
    const input = request.inputs.find((tensor) => `out_${tensor.name}` === name);
    if (input === undefined) throw new Error(`no input for output ${name}`);
    try {
      outputs.push({ ...input, name, data: volatileCopy(input) });
    } catch (error) {
      return { type: "unreadable", error: error as Error };
    }
  }
  return { type: "answered", outputs, timings: TIMINGS };
}

function volatileCopy({ data }: InputTensor): TensorData {
  if (!("byteLength" in data)) return data;
  const copy = new Uint8Array(data.byteLength);
  if (data instanceof Uint8Array) copy.set(data);
  else data.copyTo(copy);
  queueMicrotask(() => copy.fill(0xee));
  return copy;
}
