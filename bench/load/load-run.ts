import type { Histogram } from "hdr-histogram-js";
import type { Clock } from "../../daemon/engine/ports.ts";
import { Random } from "../scenario/random.ts";
import type { LoadPlan, PlannedBacklog, PlannedRequest } from "./plan.ts";
import { latencyHistogram, Recorder } from "./recorder.ts";
import type { CallOutcome, Target } from "./target.ts";

export interface LoadProgress {
  readonly elapsedUs: number;
  readonly durationUs: number;
  readonly phase: "warm-up" | "measuring" | "waiting for answers";
  readonly sent: number;
  readonly outstanding: number;
  readonly total: Recorder;
}

export interface LoadRunOptions {
  readonly plan: LoadPlan;
  readonly target: Target;
  readonly clock: Clock;
  /** How long after the last request answers are waited for. */
  readonly drainUs: number;
  /** Stops the run; what has ended by then is the result. */
  readonly signal?: AbortSignal;
  /** Called at the start and the end of the measured window, where the daemon's own counters are to be read. */
  readonly onWindow?: (edge: "begin" | "end") => void;
  /** Called every `progressUs`. */
  readonly onProgress?: (progress: LoadProgress) => void;
  readonly progressUs?: number;
}

export interface LoadRecord {
  /** Length of the window that was measured; shorter than planned where the run was stopped. */
  readonly measuredUs: number;
  readonly interrupted: boolean;
  readonly total: Recorder;
  readonly models: ReadonlyMap<string, Recorder>;
  /** How much later than scheduled requests were really sent. */
  readonly lagUs: Histogram;
  /** A message for each error code, from its first occurrence. */
  readonly errorExamples: ReadonlyMap<string, string>;
}

/** Time between the call that starts a run and its first request: the backlogs are sent in it. */
const LEAD_US = 200_000;
/** How long a backlog rests after a request of it that was not answered. */
const REST_US = 50_000;
const SWEEP_US = 10_000_000;

/**
 * Sends a plan's requests at their times whatever becomes of the earlier ones (an open loop), and judges each answer
 * from the time at which its request was due: a generator or a daemon that falls behind can't hide it.
 */
export class LoadRun {
  readonly #options: LoadRunOptions;
  readonly #clock: Clock;
  readonly #startUs: number;
  readonly #endUs: number;
  readonly #total: Recorder = new Recorder();
  readonly #models: Map<string, Recorder>;
  readonly #lagUs: Histogram = latencyHistogram();
  readonly #errorExamples = new Map<string, string>();
  readonly #backlogs: BacklogState[];
  readonly #done: Promise<LoadRecord>;
  #finish: (record: LoadRecord) => void = () => {};
  #next = 0;
  /** Requests of the plan that have no outcome yet. */
  readonly #outstanding: Set<PlannedRequest> = new Set();
  #windowBegun = false;
  #windowEnded = false;
  #finished = false;
  #progressAtUs: number;

  constructor(options: LoadRunOptions) {
    const { plan, clock } = options;
    this.#options = options;
    this.#clock = clock;
    this.#startUs = clock.nowUs() + LEAD_US;
    this.#endUs = this.#startUs + plan.warmupUs + plan.measureUs;
    this.#progressAtUs = this.#startUs;
    this.#models = new Map(plan.models.map((model) => [model, new Recorder()]));
    this.#backlogs = plan.backlogs.map((backlog) => ({
      backlog,
      left: backlog.count,
      outstanding: 0,
      restUntilUs: 0,
      random: new Random(plan.seed, `backlog:${backlog.model}`),
    }));
    this.#done = new Promise((resolve) => {
      this.#finish = resolve;
    });
  }

  /** Runs to the end; call it once. */
  run(): Promise<LoadRecord> {
    const { signal } = this.#options;
    if (signal?.aborted) this.#end(true);
    else {
      signal?.addEventListener("abort", () => this.#end(true), { once: true });
      for (const state of this.#backlogs) this.#fill(state);
      this.#turn();
    }
    return this.#done;
  }

  /** Does everything that is due and arms the timer for what comes next. */
  #turn(): void {
    if (this.#finished) return;
    const { plan } = this.#options;
    const windowUs = this.#startUs + plan.warmupUs;
    if (!this.#windowBegun && this.#clock.nowUs() >= windowUs) {
      this.#windowBegun = true;
      this.#options.onWindow?.("begin");
    }
    for (let request = plan.requests[this.#next]; request !== undefined; request = plan.requests[this.#next]) {
      const nowUs = this.#clock.nowUs();
      if (this.#startUs + request.atUs > nowUs) break;
      this.#next++;
      this.#send(request, nowUs);
    }
    const nowUs = this.#clock.nowUs();
    for (const state of this.#backlogs) if (state.restUntilUs <= nowUs) this.#fill(state);
    if (!this.#windowEnded && nowUs >= this.#endUs) {
      this.#windowEnded = true;
      this.#options.onWindow?.("end");
    }
    if (nowUs >= this.#progressAtUs) this.#report(nowUs);
    const drained = this.#outstanding.size === 0 || nowUs >= this.#endUs + this.#options.drainUs;
    if (this.#windowEnded && this.#next === plan.requests.length && drained) {
      this.#end(false);
      return;
    }
    this.#clock.wakeAt(this.#nextTurnUs(nowUs), () => this.#turn());
  }

  #nextTurnUs(nowUs: number): number {
    const { plan } = this.#options;
    const request = plan.requests[this.#next];
    let atUs = nowUs + SWEEP_US;
    if (request !== undefined) atUs = Math.min(atUs, this.#startUs + request.atUs);
    if (!this.#windowBegun) atUs = Math.min(atUs, this.#startUs + plan.warmupUs);
    if (!this.#windowEnded) atUs = Math.min(atUs, this.#endUs);
    else atUs = Math.min(atUs, this.#endUs + this.#options.drainUs);
    if (this.#options.onProgress !== undefined) atUs = Math.min(atUs, this.#progressAtUs);
    for (const state of this.#backlogs) if (state.restUntilUs > nowUs) atUs = Math.min(atUs, state.restUntilUs);
    return atUs;
  }

  #send(request: PlannedRequest, nowUs: number): void {
    const { plan, target } = this.#options;
    const dueUs = this.#startUs + request.atUs;
    const counted = request.atUs >= plan.warmupUs;
    if (counted) this.#lagUs.recordValue(nowUs - dueUs);
    // A caller's deadline does not move because the generator is behind: what is left of it is what the daemon gets.
    const leftMs = Math.max(1, (request.deadlineUs - (nowUs - dueUs)) / 1000);
    this.#outstanding.add(request);
    const { model, tenant, items } = request;
    const deadlineMs = request.stated ? leftMs : null;
    void target.send({ model, tenant, items, deadlineMs, bestEffort: false }).then((outcome) => {
      if (this.#finished || !this.#outstanding.delete(request)) return;
      if (counted) this.#ended(request, outcome, this.#clock.nowUs() - dueUs);
      if (this.#windowEnded && this.#outstanding.size === 0) this.#turn();
    });
  }

  #ended(request: PlannedRequest, outcome: CallOutcome, latencyUs: number): void {
    const { items, deadlineUs } = request;
    this.#total.ended(outcome, items, latencyUs, deadlineUs);
    this.#models.get(request.model)?.ended(outcome, items, latencyUs, deadlineUs);
    this.#keepExample(outcome);
  }

  #fill(state: BacklogState): void {
    while (!this.#windowEnded && state.left > 0 && state.outstanding < state.backlog.outstandingMax) {
      state.left--;
      state.outstanding++;
      const { model, tenant, items: spec } = state.backlog;
      const items = typeof spec === "number" ? spec : state.random.integer(spec.min, spec.max);
      const call = { model, tenant, items, deadlineMs: null, bestEffort: true };
      void this.#options.target.send(call).then((outcome) => this.#filled(state, items, outcome));
    }
  }

  #filled(state: BacklogState, items: number, outcome: CallOutcome): void {
    state.outstanding--;
    if (this.#finished) return;
    if (this.#windowBegun && !this.#windowEnded) {
      this.#total.bestEffortEnded(outcome, items);
      this.#models.get(state.backlog.model)?.bestEffortEnded(outcome, items);
      this.#keepExample(outcome);
    }
    const nowUs = this.#clock.nowUs();
    if (outcome.type === "answered") {
      if (state.restUntilUs <= nowUs) this.#fill(state);
    } else if (state.restUntilUs <= nowUs) {
      state.restUntilUs = nowUs + REST_US;
      this.#clock.wakeAt(this.#nextTurnUs(nowUs), () => this.#turn());
    }
  }

  #keepExample(outcome: CallOutcome): void {
    if (outcome.type === "error" && !this.#errorExamples.has(outcome.code))
      this.#errorExamples.set(outcome.code, outcome.message);
  }

  #report(nowUs: number): void {
    const { plan, onProgress, progressUs = 1_000_000 } = this.#options;
    this.#progressAtUs = nowUs + progressUs;
    const elapsedUs = Math.max(0, nowUs - this.#startUs);
    onProgress?.({
      elapsedUs,
      durationUs: plan.warmupUs + plan.measureUs,
      phase: this.#windowEnded ? "waiting for answers" : elapsedUs < plan.warmupUs ? "warm-up" : "measuring",
      sent: this.#next,
      outstanding: this.#outstanding.size,
      total: this.#total,
    });
  }

  #end(interrupted: boolean): void {
    if (this.#finished) return;
    const nowUs = this.#clock.nowUs();
    if (!interrupted) {
      const unanswered: CallOutcome = {
        type: "error",
        code: "UNANSWERED",
        message: `no answer within ${this.#options.drainUs / 1e6} s of the end of the run`,
      };
      for (const request of this.#outstanding)
        if (request.atUs >= this.#options.plan.warmupUs)
          this.#ended(request, unanswered, nowUs - this.#startUs - request.atUs);
    }
    this.#finished = true;
    this.#clock.wakeAt(null, () => {});
    const measuredUs = Math.min(nowUs, this.#endUs) - this.#startUs - this.#options.plan.warmupUs;
    this.#finish({
      measuredUs: Math.max(0, measuredUs),
      interrupted,
      total: this.#total,
      models: this.#models,
      lagUs: this.#lagUs,
      errorExamples: this.#errorExamples,
    });
  }
}

interface BacklogState {
  readonly backlog: PlannedBacklog;
  readonly random: Random;
  left: number;
  outstanding: number;
  /** Nothing of the backlog is sent before this time. */
  restUntilUs: number;
}
