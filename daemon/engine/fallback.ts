/**
 * A layer in front of the engine, for requests that another model can answer: one that its model sheds or loses goes to that
 * model, by the same deadline. Where that can't answer in time either, all is as without it.
 */
import type { ShedCause } from "../scheduler/types.ts";
import type { AcceptedRequest, Inference, InferenceRequest, Outcome, Reply } from "./ports.ts";

/** Answered by the fallback; refused by it too; answered by the model itself, late; or its caller went. */
export type FallbackEnd = "answered" | "refused" | "late" | "cancelled";

/** What the model that was asked for said. */
export interface Refused {
  readonly outcome: Extract<Outcome, { type: "shed" | "lost" }>;
  readonly request: AcceptedRequest;
}

/** Hands a request to the engine. */
export type Ask = (request: InferenceRequest) => void;

/** A request with a deadline whose model has a fallback, as the layer needs it of whoever took it. */
export interface ReplaceableCall {
  /** Key of the model that was asked for. */
  readonly model: string;
  readonly deadlineUs: number;
  /** Whether the caller stated the deadline; where not, and unless `shedImplicit`, a late answer is better than none. */
  readonly explicit: boolean;
  readonly shedImplicit: boolean;
  /** Has the fallback asked; false where it is not there, or the request is none for it. */
  standIn(refused: Refused | null, ask: Ask): boolean;
  /** Has the model itself asked again; false where it is not there any more. */
  again(ask: Ask): boolean;
  /** What is to be cancelled where the caller goes, from now on. */
  underWay(id: number): void;
  /** How falling back ended; not told where nothing fell back. The answer is still to come. */
  fellBack(end: Exclude<FallbackEnd, "cancelled">): void;
  /** The last word: of the model or of its fallback. */
  reply(outcome: Outcome, request: AcceptedRequest): void;
  /** The last word: nobody answers, for what the model that was asked for had said. */
  refused(refused: Refused | null): void;
}

const TOO_LATE: ReadonlySet<ShedCause> = new Set(["late", "sacrificed", "expired"]);

export class Fallbacks {
  readonly #inference: Inference;
  readonly #reserves = new FallbackReserves();

  constructor(inference: Inference) {
    this.#inference = inference;
  }

  /** Asks the model, and where it does not answer its fallback. */
  ask(request: InferenceRequest, call: ReplaceableCall): void {
    const planByUs = this.#reserves.planByUs(call.model, call.deadlineUs, this.#inference.nowUs());
    // Where somebody else can still answer in time, it is not answered late.
    this.#submit({ ...request, planByUs, explicit: true, fallback: "ahead" }, call, (outcome, accepted) => {
      if (outcome.type === "shed" || outcome.type === "lost") {
        this.#askStandIn({ outcome, request: accepted }, call);
        return;
      }
      if (outcome.type === "answered") this.#reserves.wasNotNeeded(call.model, this.#inference.nowUs());
      call.reply(outcome, accepted);
    });
  }

  /** Where the model can't be asked: asks its fallback. */
  askStandIn(call: ReplaceableCall): void {
    this.#askStandIn(null, call);
  }

  #askStandIn(refused: Refused | null, call: ReplaceableCall): void {
    // Whether, without a fallback, it would have been answered late.
    const late = refused !== null && isTooLate(refused.outcome) && !call.explicit && !call.shedImplicit;
    const asked = call.standIn(refused, (request) => {
      // One that is not answered in time here either is answered late by the model that was asked for.
      this.#submit({ ...request, explicit: call.explicit || late, fallback: "instead" }, call, (outcome, accepted) => {
        if (outcome.type === "answered") {
          call.fellBack("answered");
          call.reply(outcome, accepted);
          return;
        }
        if (isTooLate(outcome)) this.#reserves.cameTooLate(call.model, this.#inference.nowUs());
        this.#notReplaced(refused, late, call);
      });
    });
    if (!asked) this.#notReplaced(refused, late, call);
  }

  /** The fallback does not answer either: it is as if there were none. */
  #notReplaced(refused: Refused | null, late: boolean, call: ReplaceableCall): void {
    const asked =
      late &&
      call.again((request) => {
        this.#submit({ ...request, explicit: false, fallback: "behind" }, call, (outcome, accepted) => {
          call.reply(outcome, accepted);
        });
      });
    call.fellBack(asked ? "late" : "refused");
    if (!asked) call.refused(refused);
  }

  #submit(request: InferenceRequest, call: ReplaceableCall, reply: Reply): void {
    let ended = false;
    const id = this.#inference.submit(request, (outcome, accepted) => {
      ended = true;
      reply(outcome, accepted);
    });
    // One that was refused at once may be under way with the other model by now.
    if (!ended) call.underWay(id);
  }
}

/** Whether it can't be answered in time, for want of time alone. */
function isTooLate(outcome: Outcome): boolean {
  return outcome.type === "shed" && TOO_LATE.has(outcome.cause);
}

/** The most of a request's time that is kept for the fallback. */
const RESERVE_MAX = 0.3;
/** How much more of it is kept after a fallback came too late, and how much less after the model answered by itself. */
const RESERVE_STEP_UP = 0.02;
const RESERVE_STEP_DOWN = 0.00005;
/** It halves in this time besides: kept, it may be what lets the model answer nothing by itself any more. */
const RESERVE_HALF_LIFE_US = 60_000_000;

/**
 * What part of its requests' time a model leaves to its fallback. A model that has too much to do finds that at the last moment: the
 * batch that displaces a request ends when it is too late for the fallback as well. So the model is planned by an earlier time than
 * the deadline, the more so the more often its fallback came too late lately. With little to do nothing is kept.
 */
class FallbackReserves {
  readonly #parts = new Map<string, { readonly part: number; readonly atUs: number }>();

  /** By when the model is to answer, so that its fallback can where it does not; microseconds. */
  planByUs(model: string, deadlineUs: number, nowUs: number): number {
    return deadlineUs - Math.round(this.#part(model, nowUs) * Math.max(0, deadlineUs - nowUs));
  }

  /** The fallback could not answer in time either. */
  cameTooLate(model: string, nowUs: number): void {
    this.#parts.set(model, { part: Math.min(RESERVE_MAX, this.#part(model, nowUs) + RESERVE_STEP_UP), atUs: nowUs });
  }

  /** The model answered a request that its fallback could have answered. */
  wasNotNeeded(model: string, nowUs: number): void {
    if (!this.#parts.has(model)) return;
    this.#parts.set(model, { part: Math.max(0, this.#part(model, nowUs) - RESERVE_STEP_DOWN), atUs: nowUs });
  }

  #part(model: string, nowUs: number): number {
    const known = this.#parts.get(model);
    return known === undefined ? 0 : known.part * 2 ** ((known.atUs - nowUs) / RESERVE_HALF_LIFE_US);
  }
}
