/** Chooses a link for each request, keeps those that can't be sent yet, and decides what is sent again. */
import { SlacklineError } from "./errors.ts";
import { LANE_LOST } from "./failures.ts";
import { type InferCall, nowMs } from "./infer-call.ts";
import type { Failure, Link, LinkEvents, ReplaceableLink } from "./link.ts";
import { URGENCIES, type Urgency } from "./urgency.ts";
import { WaitingLine } from "./waiting-line.ts";
import type { WireResponse } from "./wire/response.ts";

/** Timers are exact to a millisecond. */
const TIMER_SLACK_MS = 2;
const RESEND_MS_MIN = 20;
const RESEND_MS_MAX = 1_000;
/** A daemon that has had a request for so long has taken it: what becomes of it then has nothing to do with what was before. */
const TAKEN_MS = 1_000;
/** Attempts on other daemons after sheds. */
const SHED_RETRIES_MAX = 3;
/** Like `LANE_LOST` a cause of UNAVAILABLE after which trying again makes sense although the daemon gives no hint. */
const DRAINING = "draining";

export interface RouterSettings {
  readonly graceMs: number;
  readonly connectTimeoutMs: number;
  readonly queueMax: number;
  /** Why there is no connection, for messages. */
  readonly problem: () => string;
  /** Where requests go that may have broken a stream: alone, so that only the guilty one fails; null: they fail. */
  readonly isolation: Router | null;
}

export class Router implements LinkEvents {
  readonly #settings: RouterSettings;
  readonly #links: Link[] = [];
  /** Links that were replaced and still have requests outstanding. */
  readonly #retired = new Set<ReplaceableLink>();
  /** Requests that no link can take now. */
  readonly #waiting: Readonly<Record<Urgency, WaitingLine>> = {
    deadline: new WaitingLine(),
    slo: new WaitingLine(),
    background: new WaitingLine(),
  };
  /** Requests that are sent again after a pause. */
  readonly #pausing = new Set<InferCall>();
  /** Every request that has not ended. */
  readonly #open = new Set<InferCall>();
  #turn = 0;
  /** Those that wait will be sent as soon as all has been told. */
  #sending = false;
  #lastUsedMs = nowMs();

  constructor(settings: RouterSettings) {
    this.#settings = settings;
  }

  /** Requests that have not ended. */
  get open(): number {
    return this.#open.size;
  }

  get lastUsedMs(): number {
    return this.#lastUsedMs;
  }

  add(link: Link): void {
    this.#links.push(link);
    this.available();
  }

  /** Sends nothing more over a link, which ends once its requests have. */
  retire(link: ReplaceableLink): void {
    const index = this.#links.indexOf(link);
    if (index >= 0) this.#links.splice(index, 1);
    this.#retired.add(link);
    link.drain(() => this.#retired.delete(link));
  }

  submit(call: InferCall): void {
    this.#lastUsedMs = nowMs();
    this.#open.add(call);
    call.giveUp = (error) => this.#abandon(call, error);
    if (call.deadlineAt !== null) call.arm(call.remainingMs, () => this.#deadlinePassed(call));
    this.#route(call);
  }

  close(error: SlacklineError): void {
    for (const call of [...this.#open]) this.#reject(call, error);
    this.closeLinks();
  }

  /** For a router without open requests. */
  closeLinks(): void {
    for (const link of [...this.#links, ...this.#retired]) link.close();
    this.#links.length = 0;
    this.#retired.clear();
  }

  answered(call: InferCall, response: WireResponse): void {
    this.#forget(call);
    call.resolve(response);
  }

  failed(call: InferCall, failure: Failure, link: Link): void {
    if (call.settled) return;
    switch (failure.type) {
      case "expired":
        this.#reject(call, this.#noAnswer(call));
        return;
      case "lost":
        this.#resend(call, failure.error);
        return;
      case "suspect":
        this.#isolate(call, failure.error);
        return;
      case "answered":
        this.#answeredWithError(call, failure, link);
        return;
    }
  }

  /** Sends once for all that is told at the same time: of many requests that are aborted together none takes another's place. */
  available(): void {
    if (this.#sending) return;
    this.#sending = true;
    queueMicrotask(() => {
      this.#sending = false;
      this.#sendWaiting();
    });
  }

  #sendWaiting(): void {
    for (const urgency of URGENCIES) {
      const waiting = this.#waiting[urgency];
      if (waiting.size === 0) continue;
      for (const call of waiting.inTurn()) {
        // Its timer is late where the event loop is.
        if (call.remainingMs <= 0) {
          this.#reject(call, this.#notSent(call));
          continue;
        }
        const link = this.#pick(call);
        if (link === null) {
          // What is less urgent finds no room either.
          if (!this.#links.some((any) => any.takes(urgency))) return;
          continue;
        }
        waiting.delete(call);
        if (call.deadlineAt === null && call.timer !== null) clearTimeout(call.timer);
        this.#send(call, link);
      }
    }
  }

  #abandon(call: InferCall, error: SlacklineError): void {
    call.link?.abandon(call);
    this.#reject(call, error);
  }

  #route(call: InferCall): void {
    // What was shed before and lost since may have to go where it was shed.
    call.shedBy.length = 0;
    // Those that wait were here first; where more urgent ones do, there is no room for this one either.
    const link = this.#waiting[call.urgency].size === 0 ? this.#pick(call) : null;
    if (link !== null) this.#send(call, link);
    else this.#wait(call);
  }

  #send(call: InferCall, link: Link): void {
    call.sentMs = nowMs();
    try {
      link.send(call);
    } catch (error) {
      if (!(error instanceof SlacklineError)) throw error;
      this.#reject(call, error);
    }
  }

  #pick(call: InferCall): Link | null {
    let best: Link | null = null;
    const count = this.#links.length;
    const first = this.#turn++;
    for (let i = 0; i < count; i++) {
      const link = this.#links[(first + i) % count]!;
      if (!link.takes(call.urgency) || (best !== null && link.load >= best.load)) continue;
      if (call.shedBy.length > 0 && call.shedBy.includes(link.peer)) continue;
      best = link;
    }
    return best;
  }

  #wait(call: InferCall): void {
    const { queueMax, connectTimeoutMs } = this.#settings;
    const waiting = this.#waiting[call.urgency];
    if (waiting.size >= queueMax) {
      const message = `${queueMax} requests already wait in this client for a connection or for earlier ones (queueMax)`;
      this.#reject(call, new SlacklineError("RESOURCE_EXHAUSTED", message, { reason: "client_queue" }));
      return;
    }
    waiting.add(call);
    if (call.deadlineAt === null) this.#limitWait(call, connectTimeoutMs);
  }

  /** A request without a deadline waits its turn for as long as that takes, but not for a daemon that isn't there. */
  #limitWait(call: InferCall, connectTimeoutMs: number): void {
    call.arm(connectTimeoutMs, () => {
      if (!this.#waiting[call.urgency].has(call)) return;
      if (this.#connected) this.#limitWait(call, connectTimeoutMs);
      else this.#reject(call, this.#noConnection(`within ${connectTimeoutMs} ms (connectTimeoutMs)`));
    });
  }

  get #connected(): boolean {
    return this.#links.some((link) => link.connected);
  }

  #noConnection(when: string): SlacklineError {
    const message = `no daemon was reached ${when}: ${this.#settings.problem()}`;
    return new SlacklineError("UNAVAILABLE", message, { reason: "no_connection" });
  }

  #deadlinePassed(call: InferCall): void {
    if (call.remainingMs > TIMER_SLACK_MS) {
      // Timers take 24 days at most.
      call.arm(call.remainingMs, () => this.#deadlinePassed(call));
      return;
    }
    if (call.link !== null) {
      call.link.overdue(call);
      // Whatever has arrived is read before the request is given up.
      call.arm(this.#settings.graceMs, () => setImmediate(() => this.#graceOver(call)));
    } else if (this.#connected && !this.#pausing.has(call)) {
      this.#reject(call, this.#notSent(call));
    } else {
      this.#reject(call, this.#noConnection(`by the deadline of ${call.settings.deadlineMs} ms`));
    }
  }

  #graceOver(call: InferCall): void {
    if (call.settled) return;
    if (call.link === null) this.#reject(call, this.#noConnection(`by the deadline of ${call.settings.deadlineMs} ms`));
    else this.#abandon(call, this.#noAnswer(call));
  }

  #noAnswer(call: InferCall): SlacklineError {
    const { request, deadlineMs } = call.settings;
    const grace = `nor within ${this.#settings.graceMs} ms after it (graceMs)`;
    const message = `model '${request.model}' gave no answer by the deadline of ${deadlineMs} ms ${grace}`;
    return new SlacklineError("DEADLINE_EXCEEDED", message, { reason: "no_answer" });
  }

  #notSent(call: InferCall): SlacklineError {
    const { request, deadlineMs } = call.settings;
    const message = `a request for model '${request.model}' still waited to be sent, behind earlier ones, at its deadline of ${deadlineMs} ms`;
    return new SlacklineError("DEADLINE_EXCEEDED", message, { reason: "client_queue" });
  }

  #answeredWithError(call: InferCall, failure: Failure & { type: "answered" }, link: Link): void {
    const { error, shed } = failure;
    // The request may be what brought the lane down: it gets one more chance, on whatever daemon, not one lane after another.
    const lostAgain = error.reason === LANE_LOST && (!call.settings.retry || call.lanesLost++ > 0);
    if (!shed || lostAgain || call.remainingMs <= 0) {
      this.#reject(call, error);
      return;
    }
    if (call.settings.retry && call.shedBy.length < SHED_RETRIES_MAX) {
      call.shedBy.push(link.roams ? "" : link.peer);
      const other = this.#pick(call);
      if (other !== null) {
        this.#send(call, other);
        return;
      }
    }
    if (error.code === "UNAVAILABLE" && mayPass(error)) {
      this.#resend(call, error, error.retryAfterMs);
    } else {
      this.#reject(call, error);
    }
  }

  /**
   * Sends again what lost its stream or connection, or was asked to come back: at once the first time, then less and less often, until
   * the deadline leaves no time. Without a deadline, for as long as it would wait for a connection: as long again each time that a daemon
   * has had it for a while.
   */
  #resend(call: InferCall, error: SlacklineError, pauseMs = 0): void {
    if (nowMs() - call.sentMs >= TAKEN_MS) {
      call.resends = 0;
      call.firstLostMs = undefined;
    }
    const resends = call.resends++;
    call.firstLostMs ??= nowMs();
    const backoffMs = resends === 0 ? 0 : Math.min(RESEND_MS_MAX, RESEND_MS_MIN * 2 ** (resends - 1));
    const delayMs = Math.max(backoffMs * (0.5 + Math.random()), pauseMs);
    const leftMs =
      call.deadlineAt === null ? call.firstLostMs + this.#settings.connectTimeoutMs - nowMs() : call.remainingMs;
    if (leftMs <= delayMs) {
      this.#reject(call, error);
    } else if (delayMs === 0) {
      this.#route(call);
    } else {
      this.#pausing.add(call);
      setTimeout(() => {
        if (this.#pausing.delete(call)) this.#route(call);
      }, delayMs);
    }
  }

  #isolate(call: InferCall, error: SlacklineError): void {
    this.#forget(call);
    if (this.#settings.isolation === null) call.reject(error);
    else this.#settings.isolation.submit(call);
  }

  #reject(call: InferCall, error: SlacklineError): void {
    this.#forget(call);
    call.reject(error);
  }

  #forget(call: InferCall): void {
    this.#open.delete(call);
    this.#waiting[call.urgency].delete(call);
    this.#pausing.delete(call);
  }
}

/** Whether a daemon's UNAVAILABLE is a state that passes: it or its device restarts, or it says when to come back. */
function mayPass({ reason, retryAfterMs }: SlacklineError): boolean {
  return reason === LANE_LOST || reason === DRAINING || retryAfterMs !== undefined;
}
