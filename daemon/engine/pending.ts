import type { RequestId, WaitExplanation } from "../scheduler/types.ts";
import { heldBytes } from "./held-bytes.ts";
import type { AcceptedRequest, FallbackStage, InferenceRequest, Reply } from "./ports.ts";
import type { Padding } from "./sequence.ts";
import type { InputTensor } from "./tensors.ts";

/** What is queued for one model: depths for metrics and admission messages. */
export class ModelQueue {
  readonly model: string;
  requests = 0;
  items = 0;
  bytes = 0;
  /** Of the items, those without a deadline (demoted ones included). */
  bestEffortItems = 0;

  constructor(model: string) {
    this.model = model;
  }

  add(request: PendingRequest): void {
    this.#count(request, 1);
  }

  remove(request: PendingRequest): void {
    this.#count(request, -1);
  }

  #count(request: PendingRequest, sign: 1 | -1): void {
    this.requests += sign;
    this.items += sign * request.items;
    this.bytes += sign * request.bytes;
    if (request.bestEffort) this.bestEffortItems += sign * request.items;
  }
}

/** A request from its arrival to its outcome: its payload, and who waits for the answer. */
export class PendingRequest implements AcceptedRequest {
  readonly id: RequestId;
  readonly model: string;
  readonly items: number;
  readonly shape: string;
  readonly padding: Padding | null;
  readonly inputs: readonly InputTensor[];
  readonly outputs: readonly string[] | null;
  readonly deadlineUs: number | null;
  readonly planByUs: number | null;
  readonly explicit: boolean;
  readonly expiresUs: number | null;
  readonly tenant: string;
  readonly fallback: FallbackStage | null;
  readonly arrivedUs: number;
  readonly bytes: number;
  readonly queue: ModelQueue;
  /** null once the caller has gone. */
  reply: Reply | null;
  /** Whether its batch was started; from then on it can no longer leave the batch. */
  started = false;
  /** Whether its batch executes, or has executed; one that was started may have to wait on its lane for another to end. */
  executing = false;
  /** When its batch began to execute. */
  startedUs = 0;
  /** Queued once more: its batch failed, or was lost before it executed. */
  again = false;
  /** Failed in a batch with others, and is tried once more by itself. */
  alone = false;
  /** Without a deadline, or demoted. */
  bestEffort: boolean;
  waited: WaitExplanation | null = null;

  constructor(id: RequestId, arrivedUs: number, request: InferenceRequest, queue: ModelQueue, reply: Reply) {
    this.id = id;
    this.model = request.model;
    this.items = request.items;
    this.shape = request.shape;
    this.padding = request.padding ?? null;
    this.inputs = request.inputs;
    this.outputs = request.outputs;
    this.deadlineUs = request.deadlineUs;
    this.planByUs = request.planByUs ?? request.deadlineUs;
    this.explicit = request.explicit;
    this.expiresUs = request.expiresUs;
    this.tenant = request.tenant;
    this.fallback = request.fallback ?? null;
    this.arrivedUs = arrivedUs;
    this.bytes = heldBytes(request.inputs);
    this.queue = queue;
    this.reply = reply;
    this.bestEffort = request.deadlineUs === null;
  }
}
