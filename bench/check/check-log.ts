/**
 * Verifies that what a decision log says is possible, and recomputes the goodput from it. Shares no code with the
 * simulator, the engine or any scheduler.
 */
import { type Expectations, type ModelExpectations, readExpectations } from "./expectations.ts";
import type { ArriveLine, DropLine, EndLine, StartLine } from "./log-lines.ts";
import { linesOf, parseLine } from "./log-lines.ts";

export type ProblemKind =
  /** The line's form. */
  | "syntax"
  /** Time runs backwards. */
  | "time"
  /** A model, lane or request that does not exist. */
  | "unknown"
  /** A lane that was given a batch while it ran another. */
  | "overlap"
  /** A request executed twice, after its end, or announced twice. */
  | "repeat"
  /** A batch that is not the sum of its requests, or too large. */
  | "size"
  /** A bucket that the profile does not have, or that the batch does not fit. */
  | "bucket"
  /** An execution that took another time than its profile says. */
  | "duration"
  /** A request overtaken by one that came later and is due later. */
  | "order"
  /** A request or execution without an end. */
  | "unfinished"
  /** No request at all, though the scenario has some. */
  | "empty";

export interface Problem {
  /** 1-based; 0 for what concerns the log as a whole. */
  readonly line: number;
  readonly kind: ProblemKind;
  readonly message: string;
}

/** What became of requests with deadlines. */
export interface Tally {
  readonly offered: number;
  readonly on_time: number;
  readonly late: number;
  /** Dropped, failed or lost. */
  readonly dropped: number;
  readonly attainment: number;
}

export interface LogCheck {
  readonly problems: readonly Problem[];
  /** Over the whole log. */
  readonly total: Tally;
  /** Of requests that arrived in the scenario's measured window; null for a live log, whose clock begins elsewhere. */
  readonly window: (Tally & { readonly goodput_per_s: number }) | null;
  readonly executions: number;
  readonly best_effort_answered: number;
}

export interface CheckOptions {
  /** A live run's log: lanes and durations are the machine's own, models are named `name/version`, the end may be cut off. */
  readonly live?: boolean;
}

/** Checks a decision log file against the scenario file it was made with. */
export function checkLog(logFile: string, scenarioFile: string, options: CheckOptions = {}): LogCheck {
  const checker = new LogChecker(readExpectations(scenarioFile), options.live ?? false);
  for (const line of linesOf(logFile)) checker.take(line);
  return checker.finish();
}

interface Request {
  readonly id: number;
  readonly model: string;
  readonly items: number;
  readonly arrivedUs: number;
  readonly deadlineUs: number | null;
  state: "queued" | "executing" | "answered" | "dropped";
  /** When its batch was chosen; Infinity before that. */
  chosenUs: number;
  endUs: number;
  /** Failed in a batch with others: it may run once more, by itself. */
  alone: boolean;
}

interface Running {
  readonly start: StartLine;
  readonly line: number;
  readonly requests: readonly Request[];
}

/** A request that stood in the queue, by the log, when one that should come after it was started. */
interface Overtaken {
  readonly waiting: Request;
  /** When the other's batch was chosen. */
  readonly chosenUs: number;
  readonly message: string;
  readonly line: number;
}

class LogChecker {
  readonly #expected: Expectations;
  readonly #live: boolean;
  readonly #problems: Problem[] = [];
  readonly #requests = new Map<number, Request>();
  readonly #queues = new Map<string, Set<Request>>();
  readonly #running = new Map<string, Running>();
  /** Starts of the present instant; judged for order when it is over, since what they displace may be dropped in it. */
  #starts: Running[] = [];
  readonly #overtaken: Overtaken[] = [];
  #line = 0;
  #nowUs = Number.NEGATIVE_INFINITY;
  #executions = 0;
  /** Of requests with deadlines. */
  #lastArrivalUs = Number.NEGATIVE_INFINITY;

  constructor(expected: Expectations, live: boolean) {
    this.#expected = expected;
    this.#live = live;
  }

  #problem(kind: ProblemKind, message: string, line: number = this.#line): void {
    this.#problems.push({ line, kind, message });
  }

  take(text: string): void {
    this.#line++;
    if (text === "") return;
    const line = parseLine(text);
    if (typeof line === "string") {
      this.#problem("syntax", line);
      return;
    }
    if (line.t < this.#nowUs) this.#problem("time", `t is ${line.t}, after ${this.#nowUs}`);
    if (line.t > this.#nowUs) {
      this.#judgeOrder();
      this.#nowUs = line.t;
    }
    if (line.ev === "arrive") this.#arrive(line);
    else if (line.ev === "start") this.#start(line);
    else if (line.ev === "end") this.#end(line);
    else this.#drop(line);
  }

  #model(name: string): ModelExpectations | undefined {
    const exact = this.#expected.models.get(name);
    return exact ?? (this.#live ? this.#expected.models.get(name.replace(/\/\d+$/, "")) : undefined);
  }

  #arrive({ id, model, items, t, deadline }: ArriveLine): void {
    if (this.#requests.has(id)) {
      this.#problem("repeat", `request ${id} arrived before`);
      return;
    }
    const expected = this.#model(model);
    if (expected === undefined) this.#problem("unknown", `the scenario has no model '${model}'`);
    else if (items > expected.maxBatch) {
      this.#problem("size", `request ${id} has ${items} items; '${model}' takes ${expected.maxBatch}`);
    }
    const request: Request = {
      id,
      model,
      items,
      arrivedUs: t,
      deadlineUs: deadline,
      state: "queued",
      chosenUs: Number.POSITIVE_INFINITY,
      endUs: -1,
      alone: false,
    };
    this.#requests.set(id, request);
    if (deadline !== null) this.#lastArrivalUs = t;
    let queue = this.#queues.get(model);
    if (queue === undefined) {
      queue = new Set();
      this.#queues.set(model, queue);
    }
    queue.add(request);
  }

  #start(start: StartLine): void {
    this.#executions++;
    const { device, model, ids } = start;
    if (!this.#live && !this.#expected.lanes.has(device))
      this.#problem("unknown", `the scenario has no lane '${device}'`);
    const before = this.#running.get(device);
    if (before !== undefined) {
      this.#problem(
        "overlap",
        `'${device}' still runs the batch of '${before.start.model}' started in line ${before.line}`,
      );
    }
    const requests: Request[] = [];
    for (const id of ids) {
      const request = this.#requests.get(id);
      if (request === undefined) {
        this.#problem("unknown", `request ${id} has not arrived`);
        continue;
      }
      if (request.state !== "queued") this.#problem("repeat", `request ${id} is not queued: it is ${request.state}`);
      if (request.alone && ids.length > 1)
        this.#problem("repeat", `request ${id} failed with others, and is not alone`);
      if (request.model !== model) this.#problem("unknown", `request ${id} is for '${request.model}', not '${model}'`);
      request.state = "executing";
      request.chosenUs = start.chosen ?? start.t;
      this.#queues.get(request.model)!.delete(request);
      requests.push(request);
    }
    if (start.chosen !== undefined) this.#judgeChosen(start, start.chosen, requests);
    this.#judgeSize(start, requests);
    const running: Running = { start, line: this.#line, requests };
    this.#running.set(device, running);
    this.#starts.push(running);
  }

  /** A batch can be chosen before it starts, but not before its requests came. */
  #judgeChosen({ t }: StartLine, chosen: number, requests: readonly Request[]): void {
    if (chosen > t) this.#problem("time", `the batch was chosen at ${chosen}, after its start at ${t}`);
    for (const { id, arrivedUs } of requests) {
      if (arrivedUs > chosen) this.#problem("time", `request ${id} came at ${arrivedUs}, after its batch was chosen`);
    }
  }

  #judgeSize({ device, model, size, bucket }: StartLine, requests: readonly Request[]): void {
    const items = requests.reduce((sum, request) => sum + request.items, 0);
    if (items !== size) this.#problem("size", `size is ${size}, but its requests have ${items} items`);
    if (bucket < size) this.#problem("bucket", `${size} items do not fit into bucket ${bucket}`);
    const expected = this.#model(model);
    if (expected === undefined) return;
    if (size > expected.maxBatch) this.#problem("size", `size is ${size}; '${model}' takes ${expected.maxBatch}`);
    if (this.#live || expected.lanes.size === 0) return;
    const profile = expected.lanes.get(device);
    if (profile === undefined) this.#problem("unknown", `'${model}' is not on '${device}'`);
    else if (profile.duration(bucket) === null || bucket > Math.max(expected.maxBatch, size)) {
      this.#problem("bucket", `'${model}' has no bucket ${bucket} on '${device}'`);
    }
  }

  #end({ device, model, t, ok, again }: EndLine): void {
    const running = this.#running.get(device);
    if (running === undefined) {
      this.#problem("unknown", `'${device}' ran nothing that could end`);
      return;
    }
    this.#running.delete(device);
    const { start, requests } = running;
    if (start.model !== model) this.#problem("unknown", `'${device}' ran '${start.model}', not '${model}'`);
    for (const request of requests) {
      if (request.state !== "executing") continue;
      if (ok === false && again === true) {
        request.state = "queued";
        request.alone = true;
        this.#queues.get(request.model)!.add(request);
        continue;
      }
      request.state = ok === false ? "dropped" : "answered";
      request.endUs = t;
    }
    const range = this.#live ? null : (this.#model(start.model)?.lanes.get(device)?.duration(start.bucket) ?? null);
    const us = t - start.t;
    if (range !== null && ok !== false && (us < range.leastUs || us > range.mostUs)) {
      const allowed = `${range.leastUs} to ${range.mostUs}`;
      this.#problem(
        "duration",
        `bucket ${start.bucket} of '${model}' took ${us} µs on '${device}'; its profile allows ${allowed}`,
      );
    }
  }

  #drop({ id, cause, t }: DropLine): void {
    const request = this.#requests.get(id);
    if (request === undefined) {
      this.#problem("unknown", `request ${id} has not arrived`);
      return;
    }
    const allowed = request.state === "queued" || (request.state === "executing" && cause === "cancelled");
    if (!allowed) this.#problem("repeat", `request ${id} is dropped (${cause}), but it is ${request.state}`);
    request.state = "dropped";
    request.endUs = t;
    this.#queues.get(request.model)!.delete(request);
  }

  /**
   * Nobody may be left behind in favour of one that came later and is due later, where it would have been on time in
   * that one's place: exchanging the two never hurts.
   */
  #judgeOrder(): void {
    const starts = this.#starts;
    if (starts.length === 0) return;
    this.#starts = [];
    if (this.#live) return;
    for (const { start, line, requests } of starts) {
      const expected = this.#model(start.model);
      const range = expected?.lanes.get(start.device)?.duration(start.bucket);
      if (expected === undefined || range === undefined || range === null) continue;
      const chosenUs = start.chosen ?? start.t;
      for (const waiting of this.#queues.get(start.model)!) {
        // What arrived after the batch was chosen is at the queue's end.
        if (waiting.arrivedUs > chosenUs) break;
        if (waiting.deadlineUs === null ? expected.bestEffortMayOvertake : expected.mayOvertake) continue;
        if (waiting.deadlineUs !== null && waiting.deadlineUs < start.t + 2 * range.mostUs) continue;
        const overtaker = requests.find((request) => overtakes(request, waiting));
        if (overtaker === undefined) continue;
        const message = `request ${overtaker.id} was run before request ${waiting.id}, which came and is due earlier`;
        this.#overtaken.push({ waiting, chosenUs, message, line });
        break;
      }
    }
  }

  finish(): LogCheck {
    this.#judgeOrder();
    if (this.#requests.size === 0 && this.#expected.asks) {
      this.#problem("empty", "no request arrives in the log, though the scenario has some", 0);
    }
    for (const { waiting, chosenUs, message, line } of this.#overtaken) {
      // One that was chosen already, and had to wait for another lane, was not in the queue any more.
      if (waiting.chosenUs > chosenUs) this.#problem("order", message, line);
    }
    if (!this.#live) {
      for (const [device, { line, start }] of this.#running) {
        this.#problem("unfinished", `the batch of '${start.model}' on '${device}' never ends`, line);
      }
      for (const { id, state } of this.#requests.values()) {
        if (state === "queued") this.#problem("unfinished", `request ${id} is neither executed nor dropped`, 0);
      }
    }
    const { fromUs } = this.#expected;
    const toUs = this.#windowEndUs();
    const window = this.#live ? null : this.#tally(fromUs, toUs);
    const answered = [...this.#requests.values()].filter((r) => r.deadlineUs === null && r.state === "answered");
    return {
      problems: this.#problems,
      total: this.#tally(Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY),
      window: window === null ? null : { ...window, goodput_per_s: (window.on_time * 1e6) / (toUs - fromUs) },
      executions: this.#executions,
      best_effort_answered: answered.length,
    };
  }

  /** The simulated window ends with a trace that is shorter. */
  #windowEndUs(): number {
    const { fromUs, toUs, arrivalsMayEnd } = this.#expected;
    return arrivalsMayEnd && this.#lastArrivalUs >= fromUs ? Math.min(toUs, this.#lastArrivalUs + 1) : toUs;
  }

  #tally(fromUs: number, toUs: number): Tally {
    let offered = 0;
    let onTime = 0;
    let late = 0;
    for (const { arrivedUs, deadlineUs, state, endUs } of this.#requests.values()) {
      if (deadlineUs === null || arrivedUs < fromUs || arrivedUs >= toUs) continue;
      offered++;
      if (state !== "answered") continue;
      if (endUs <= deadlineUs) onTime++;
      else late++;
    }
    const attainment = offered === 0 ? 1 : onTime / offered;
    return { offered, on_time: onTime, late, dropped: offered - onTime - late, attainment };
  }
}

function overtakes(request: Request, waiting: Request): boolean {
  if (request.arrivedUs <= waiting.arrivedUs || request.items < waiting.items) return false;
  if (request.deadlineUs === null || waiting.deadlineUs === null) return request.deadlineUs === waiting.deadlineUs;
  return request.deadlineUs > waiting.deadlineUs;
}
