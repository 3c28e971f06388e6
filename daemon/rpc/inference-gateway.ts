/** The way of one request between wire and engine, whatever transport it came on. */
import { getHeapStatistics } from "node:v8";
import { type Ask, type FallbackEnd, Fallbacks, type Refused, type ReplaceableCall } from "../engine/fallback.ts";
import type { AcceptedRequest, Inference, InferenceRequest, Outcome } from "../engine/ports.ts";
import type { ModelVersion } from "../repository/model.ts";
import type { RequestId } from "../scheduler/types.ts";
import type { Arrivals } from "./arrivals.ts";
import type { ByteBudget } from "./byte-budget.ts";
import { type InferenceCodec, peekRequestId } from "./codec.ts";
import { type CallDeadline, type Deadline, resolveDeadline } from "./deadlines.ts";
import { modelPlan } from "./decode/model-plan.ts";
import { type RequestParameters, readRequestParameters } from "./decode/parameters.ts";
import { malformedMessage, unknownModel } from "./decode/refusals.ts";
import { decodeRequest } from "./decode/request.ts";
import type { RequestMemory } from "./decode/request-memory.ts";
import { type AskedAnswer, answerMessage } from "./encode.ts";
import { internalError, RpcError } from "./errors.ts";
import type { ReadRequest, WireResponse } from "./messages.ts";
import { outcomeError } from "./outcomes.ts";
import type { Peer } from "./peer.ts";
import type {
  FallenBack,
  ModelCatalog,
  ModelLookup,
  ModelNotReady,
  RequestObserver,
  RpcLogger,
  ServedModel,
} from "./ports.ts";
import { RequestRegions } from "./request-regions.ts";
import type { RpcSettings } from "./settings.ts";
import type { SharedMemoryRegions } from "./shared-memory.ts";
import { shown } from "./text.ts";

/** What a call says about all its requests. */
export interface CallContext {
  readonly deadline: CallDeadline;
  readonly tenant: string;
  readonly peer: Peer;
}

/** Where the one answer of a request goes. */
export interface Responder {
  /** The message holds views: it is to be encoded before this returns. */
  answered(message: WireResponse): void;
  /** `id` as the caller gave it; empty where the message could not be read. */
  refused(error: RpcError, id: string): void;
  /** The message asks to cancel the request of that id, and gets no answer; null where that means nothing. */
  readonly cancels: ((id: string) => void) | null;
  /** Why no further request is taken from this caller now, cancellations aside; null where one is, as always without it. */
  readonly refusal?: () => RpcError | null;
}

/** A request on its way. */
export interface Ticket {
  readonly id: string;
  /** The caller has gone: no answer comes any more. False where it already came. */
  cancel(): boolean;
}

export interface GatewayParts {
  readonly inference: Inference;
  readonly catalog: ModelCatalog;
  readonly codec: InferenceCodec;
  readonly budget: ByteBudget;
  readonly regions: SharedMemoryRegions;
  readonly arrivals: Arrivals;
  readonly settings: RpcSettings;
  readonly logger: RpcLogger;
  readonly observer: RequestObserver | null;
}

/** A request that was read, whichever model answers it. */
interface Taken {
  readonly pending: PendingCall;
  readonly request: ReadRequest;
  readonly parameters: RequestParameters;
  readonly tenant: string;
  readonly deadline: Deadline;
  readonly shared: RequestRegions;
  readonly responder: Responder;
}

/** Why the model that was asked for does not answer. */
interface Refusal {
  readonly asked: ModelVersion;
  readonly error: RpcError;
  readonly shed: FallenBack["shed"];
}

/** A request as one model is asked it, and how that one's answer is to be written. */
interface ReadFor {
  readonly asked: InferenceRequest;
  readonly answer: AskedAnswer;
}

type Found = Extract<ModelLookup, { type: "ready" }> | (ModelNotReady & { readonly model: ServedModel });

/** What a string takes besides its bytes: the object, its place in an array, and its share of what collecting the heap needs. */
const STRING_OBJECT_BYTES = 160;

/** As a part of the budget: strings are objects of V8's heap, half of which they may take, whatever the budget for bytes outside is. */
function stringBytes(budgetMax: number): number {
  const heapMax = getHeapStatistics().heap_size_limit / 2;
  return Math.ceil(STRING_OBJECT_BYTES * Math.max(1, budgetMax / heapMax));
}

/** Small messages are decoded before their bytes are counted, so that a cancellation gets through when memory is short. */
const SMALL_MESSAGE_BYTES = 4096;

export class InferenceGateway {
  readonly #parts: GatewayParts;
  #draining = false;
  readonly #stringBytes: number;
  #underWay = 0;
  readonly #fallbacks: Fallbacks;
  /** Fallbacks that could not take a request: told once each. */
  readonly #unfit = new Set<string>();
  readonly #idleWaiters = new Set<() => void>();

  constructor(parts: GatewayParts) {
    this.#parts = parts;
    this.#fallbacks = new Fallbacks(parts.inference);
    this.#stringBytes = stringBytes(parts.budget.max);
  }

  get underWay(): number {
    return this.#underWay;
  }

  get draining(): boolean {
    return this.#draining;
  }

  /** From now on requests are refused; resolves once those under way have been answered. */
  drain(): Promise<void> {
    this.#draining = true;
    if (this.#underWay === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.add(resolve));
  }

  /** Takes one received message. The responder may be called before this returns; then the result is null. */
  submit(bytes: Uint8Array, call: CallContext, responder: Responder): Ticket | null {
    let id: string | null = null;
    let pending: PendingCall | null = null;
    try {
      if (bytes.byteLength > SMALL_MESSAGE_BYTES && !this.#parts.budget.fits(bytes.byteLength))
        throw this.#full(bytes.byteLength);
      const request = this.#decode(bytes);
      id = request.id;
      const parameters = readRequestParameters(request.parameters);
      if (parameters.cancel) {
        this.#cancelById(id, responder);
        return null;
      }
      const refusal = responder.refusal?.() ?? null;
      if (refusal !== null) throw refusal;
      pending = new PendingCall(request.id, this.#parts.inference, {
        ended: (held) => this.#ended(held),
        cancelled: (insteadOf) => this.#tellFellBack(insteadOf, "cancelled"),
      });
      this.#underWay++;
      this.#hold(pending, bytes.byteLength);
      pending.messageBytes = bytes.byteLength;
      this.#begin(pending, request, parameters, call, responder);
      return pending.ended ? null : pending;
    } catch (thrown) {
      pending?.end();
      this.#refuse(thrown, id ?? peekRequestId(bytes), pending?.model ?? null, responder);
      return null;
    }
  }

  #decode(bytes: Uint8Array): ReadRequest {
    try {
      return this.#parts.codec.decodeRequest(bytes);
    } catch (thrown) {
      throw thrown instanceof RpcError ? thrown : malformedMessage();
    }
  }

  #cancelById(id: string, responder: Responder): void {
    if (responder.cancels === null) {
      throw new RpcError(
        "INVALID_ARGUMENT",
        "invalid",
        "slackline_cancel is for streams; a unary call is cancelled itself",
      );
    }
    if (id === "") throw new RpcError("INVALID_ARGUMENT", "invalid", "slackline_cancel needs the id of a request");
    responder.cancels(id);
  }

  #begin(
    pending: PendingCall,
    request: ReadRequest,
    parameters: RequestParameters,
    call: CallContext,
    responder: Responder,
  ): void {
    const { catalog, regions, arrivals, settings } = this.#parts;
    if (this.#draining)
      throw new RpcError("UNAVAILABLE", "draining", "the daemon is shutting down and takes no more requests");
    const found = this.#find(request, parameters.trafficKey);
    const { model } = found;
    pending.model = model.version.key;
    const { bestEffortDefault } = model.version.settings;
    const deadline = resolveDeadline({
      receivedUs: arrivals.latestUs(call.peer.address),
      call: call.deadline,
      parameters,
      sloUs: model.sloUs,
      bestEffortDefault: bestEffortDefault || settings.bestEffortTenants.has(call.tenant),
      replyMarginUs: settings.replyMarginUs,
    });
    const shared = new RequestRegions(regions, call.peer, (bytes) => this.#hold(pending, bytes));
    pending.regions = shared;
    const taken: Taken = { pending, request, parameters, tenant: call.tenant, deadline, shared, responder };
    // Best-effort work is not late, and nobody waits for it.
    const replaceable =
      deadline.deadlineUs !== null &&
      model.version.settings.fallback !== null &&
      this.#standIn(model.version, (name, version) => catalog.find(name, version)) !== null;
    const error = found.type === "ready" ? null : notReady(request.model_name, found);
    if (!replaceable) {
      if (error !== null) throw error;
      this.#ask(taken, model);
    } else if (error === null) {
      this.#askReplaceable(taken, model);
    } else {
      // What is wrong with the request itself is not the fallback's to say.
      this.#read(taken, model, null);
      this.#fallbacks.askStandIn(this.#replaceableCall(taken, model, error));
    }
  }

  /** The model that was asked for, where it is known. */
  #find({ model_name: name, model_version: version }: ReadRequest, trafficKey: string | null): Found {
    const found = this.#parts.catalog.route(name, version, trafficKey);
    if (found.type === "unknown") throw unknownModel(name, version);
    if (found.type === "not-ready" && found.model === null) throw notReady(name, found);
    return found as Found;
  }

  /** Throws `RpcError`, as all that reads a request does, where it is none for the model. */
  #ask(taken: Taken, model: ServedModel): void {
    const { pending, responder } = taken;
    const { asked, answer } = this.#read(taken, model, null);
    pending.requestId = this.#parts.inference.submit(asked, (outcome, accepted) => {
      pending.end();
      this.#reply(outcome, accepted, answer, responder);
    });
  }

  #askReplaceable(taken: Taken, model: ServedModel): void {
    const read = this.#read(taken, model, null);
    this.#fallbacks.ask(read.asked, this.#replaceableCall(taken, model, null, read.answer));
  }

  /**
   * @param unready why the model can't be asked; null where it can
   * @param answer how the answer of whoever is asked is to be written
   */
  #replaceableCall(
    taken: Taken,
    { version }: ServedModel,
    unready: RpcError | null,
    answer: AskedAnswer | null = null,
  ): ReplaceableCall {
    const { catalog } = this.#parts;
    const { pending, parameters, deadline, responder } = taken;
    let refusal: Refusal;
    const askAs = (model: ServedModel, insteadOf: Refusal | null, ask: Ask): true => {
      const read = this.#read(taken, model, insteadOf);
      answer = read.answer;
      ask(read.asked);
      return true;
    };
    return {
      model: version.key,
      deadlineUs: deadline.deadlineUs!,
      explicit: deadline.explicit,
      shedImplicit: version.settings.shedImplicit,
      standIn: (refused, ask) => {
        refusal = this.#refusal(version, refused, unready);
        const standIn = this.#standIn(version, (name, wanted) => catalog.route(name, wanted, parameters.trafficKey));
        if (standIn === null) return false;
        pending.insteadOf = refusal;
        this.#forgetDecoded(pending);
        try {
          return askAs(standIn, refusal, ask);
        } catch (thrown) {
          this.#tellUnfit(version.key, standIn.version.key, thrown);
          return false;
        }
      },
      again: (ask) => {
        pending.insteadOf = null;
        this.#forgetDecoded(pending);
        // It may have been loaded anew meanwhile, from other files.
        const found = catalog.find(version.name, String(version.version));
        if (found.type !== "ready") return false;
        try {
          return askAs(found.model, null, ask);
        } catch (thrown) {
          // Not any more a request for it, or there is no room: what it said first is the answer.
          if (!(thrown instanceof RpcError)) this.#tellUnforeseen(version.key, thrown);
          return false;
        }
      },
      underWay: (id) => {
        pending.requestId = id;
      },
      fellBack: (end) => {
        pending.insteadOf = null;
        this.#tellFellBack(refusal, end);
      },
      reply: (outcome, accepted) => {
        pending.end();
        this.#reply(outcome, accepted, answer!, responder);
      },
      refused: (refused) => {
        pending.end();
        // What the engine did not see, others count.
        if (refused === null) this.#refuse(refusal.error, pending.id, version.key, responder);
        else responder.refused(refusal.error, pending.id);
      },
    };
  }

  #refusal(asked: ModelVersion, refused: Refused | null, unready: RpcError | null): Refusal {
    if (refused === null) return { asked, error: unready!, shed: null };
    const { outcome, request } = refused;
    const nowUs = this.#parts.inference.nowUs();
    const shed = outcome.type === "shed" ? { cause: outcome.cause, afterUs: nowUs - request.arrivedUs } : null;
    return { asked, error: outcomeError(outcome, request, modelPlan(asked), nowUs), shed };
  }

  /** The request, decoded for one model. */
  #read(
    { pending, request, parameters, tenant, deadline, shared }: Taken,
    model: ServedModel,
    insteadOf: Refusal | null,
  ): ReadFor {
    const plan = modelPlan(model.version);
    const decoded = decodeRequest(plan, request, shared, this.#memoryOf(pending), parameters.allOutputs);
    const answer: AskedAnswer = {
      plan,
      id: request.id,
      withTimings: parameters.timings,
      fallbackCause: insteadOf?.error.cause ?? null,
      // Places that the caller measured for another model's outputs need not fit.
      shared: shared.outputs(request.outputs, parameters.allOutputs || insteadOf !== null),
    };
    // Written out: spreading objects costs more than decoding does.
    const asked: InferenceRequest = {
      model: plan.version.key,
      items: decoded.items,
      shape: decoded.shape,
      padding: decoded.padding,
      inputs: decoded.inputs,
      outputs: decoded.outputs,
      deadlineUs: deadline.deadlineUs,
      planByUs: null,
      explicit: deadline.explicit,
      expiresUs: deadline.expiresUs,
      tenant,
      fallback: null,
      cacheAs: plan.cacheAs,
    };
    return { asked, answer };
  }

  #tellFellBack({ asked, error, shed }: Refusal, end: FallbackEnd): void {
    this.#parts.observer?.fellBack({ model: asked.key, cause: error.cause, shed }, end);
  }

  #tellUnforeseen(model: string, thrown: unknown): void {
    this.#parts.logger.error({ model, err: thrown }, "falling back failed by an unforeseen error");
  }

  /** What it says of the request it would say of most: its interface is another one. */
  #tellUnfit(key: string, standIn: string, thrown: unknown): void {
    if (!(thrown instanceof RpcError)) {
      this.#tellUnforeseen(standIn, thrown);
      return;
    }
    const pair = `${key} ${standIn}`;
    if (thrown.code !== "INVALID_ARGUMENT" || this.#unfit.has(pair)) return;
    this.#unfit.add(pair);
    const details = { model: key, fallback: standIn };
    this.#parts.logger.warn(details, `${standIn} can't answer for ${key}, whose fallback it is: ${thrown.message}`);
  }

  /** Who answers in a model's place, as far as `look` finds it ready. */
  #standIn({ key, settings }: ModelVersion, look: ModelCatalog["find"]): ServedModel | null {
    if (settings.fallback === null) return null;
    const found = look(settings.fallback.model, settings.fallback.version);
    return found.type === "ready" && found.model.version.key !== key ? found.model : null;
  }

  #reply(outcome: Outcome, accepted: AcceptedRequest, asked: AskedAnswer, responder: Responder): void {
    if (outcome.type !== "answered") {
      responder.refused(outcomeError(outcome, accepted, asked.plan, this.#parts.inference.nowUs()), asked.id);
      return;
    }
    try {
      responder.answered(answerMessage(asked, outcome.outputs, outcome.timings));
    } catch (thrown) {
      this.#refuse(thrown, asked.id, asked.plan.version.key, responder);
    }
  }

  #memoryOf(pending: PendingCall): RequestMemory {
    return {
      takeBytes: (bytes) => this.#hold(pending, bytes),
      takeStrings: (input, elements) => {
        const each = this.#stringBytes;
        this.#hold(
          pending,
          elements * each,
          `${elements} strings of input '${input}', ${each} bytes each besides their own,`,
        );
      },
    };
  }

  /** Counts bytes of a request for as long as it is under way; `what` they are, where they are not the message's. */
  #hold(pending: PendingCall, bytes: number, what?: string): void {
    if (!this.#parts.budget.tryTake(bytes)) throw this.#full(bytes, what);
    pending.heldBytes += bytes;
  }

  /** What a model's decoding held is not needed by the next. */
  #forgetDecoded(pending: PendingCall): void {
    this.#parts.budget.give(pending.heldBytes - pending.messageBytes);
    pending.heldBytes = pending.messageBytes;
  }

  #ended(heldBytes: number): void {
    this.#parts.budget.give(heldBytes);
    this.#underWay--;
    if (this.#underWay > 0) return;
    for (const resolve of this.#idleWaiters) resolve();
    this.#idleWaiters.clear();
  }

  #full(bytes: number, what = `the request's ${bytes} bytes`): RpcError {
    const { max, held } = this.#parts.budget;
    return new RpcError(
      "RESOURCE_EXHAUSTED",
      "inflight_bytes",
      `${what} do not fit: inflight_bytes_max is ${max}, of which ${held} are in use`,
      bytes > max ? null : RETRY_AFTER_MS,
    );
  }

  /** Answers a request that never reached the engine. */
  #refuse(thrown: unknown, id: string, model: string | null, responder: Responder): void {
    const { logger, observer } = this.#parts;
    let error: RpcError;
    if (thrown instanceof RpcError) {
      error = thrown;
    } else {
      error = internalError();
      logger.error({ err: thrown, id }, "a request failed by an unforeseen error");
    }
    observer?.refused(model, error.code, error.cause);
    responder.refused(error, id);
  }
}

/** Nothing tells when there is room again; requests in flight last milliseconds. */
export const RETRY_AFTER_MS = 20;

/** Loading takes from a fraction of a second to minutes. */
const NOT_READY_RETRY_MS = 200;

export function notReady(model: string, { reason, passing }: ModelNotReady): RpcError {
  const why = reason === "" ? "" : `: ${reason}`;
  const message = `model '${shown(model)}' is not ready${why}`;
  return new RpcError("UNAVAILABLE", "not_ready", message, passing ? NOT_READY_RETRY_MS : null);
}

interface PendingEvents {
  ended(heldBytes: number): void;
  /** While a fallback was to answer it. */
  cancelled(insteadOf: Refusal): void;
}

class PendingCall implements Ticket {
  readonly id: string;
  /** Key of its model, once that is known. */
  model: string | null = null;
  requestId: RequestId | null = null;
  /** Of the budget: its message, and what was decoded from it for the model that is to answer. */
  heldBytes = 0;
  messageBytes = 0;
  regions: RequestRegions | null = null;
  /** While a fallback is to answer it: why. */
  insteadOf: Refusal | null = null;
  ended = false;
  readonly #inference: Inference;
  readonly #events: PendingEvents;

  constructor(id: string, inference: Inference, events: PendingEvents) {
    this.id = id;
    this.#inference = inference;
    this.#events = events;
  }

  end(): void {
    if (this.ended) return;
    this.ended = true;
    this.regions?.release();
    this.#events.ended(this.heldBytes);
  }

  cancel(): boolean {
    if (this.ended) return false;
    if (this.requestId !== null) this.#inference.cancel(this.requestId);
    if (this.insteadOf !== null) this.#events.cancelled(this.insteadOf);
    this.end();
    return true;
  }
}
