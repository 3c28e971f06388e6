import { Fairness } from "./fairness.ts";
import type { Lane } from "./lane.ts";
import { ProfileTable } from "./profiles.ts";
import { RequestQueue } from "./queue.ts";
import { ArrivalRate } from "./rates.ts";
import type { QueuedRequest } from "./request.ts";
import { ShareAccount } from "./shares.ts";
import type { ModelSpec, Profile, ShapeProfiles } from "./types.ts";

/** Rates and what follows from them are read anew at this interval, not at each decision. */
export const REFRESH_US = 50_000;
/** Gain of the running means over requests: typical time to the deadline, number of items, weight. */
const MEAN_GAIN = 0.02;
/** Of the time to the deadline of those in a hurry, who are not served by others having time: it follows shorter ones quickly and longer ones slowly. */
const SHORTER_GAIN = 0.05;
const LONGER_GAIN = 0.005;

/** What running a group on one lane means: the times, and the batch size that its arrivals let it aim at. */
export class LanePlan {
  readonly table: ProfileTable;
  /** The shape was never warmed on this lane: the first executions may take seconds, so it never runs before deadlines. */
  readonly fillOnly: boolean;
  /** Largest batch that still meets the typical deadline when its items are gathered from arrivals alone. */
  target = 1;
  /** Device time an item costs where batches are as large as arrivals let them be, on average. */
  perItemUs = 0;
  /** Part of a batch's time that does not grow with its size: what is saved where two batches become one. */
  overheadUs = 0;

  constructor(table: ProfileTable, fillOnly: boolean) {
    this.table = table;
    this.fillOnly = fillOnly;
    this.aim(0, 0);
  }

  /** `rate` in items per microsecond. */
  aim(rate: number, sloUs: number): void {
    const { us, cap, best } = this.table;
    let low = 1;
    let high = cap;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (us[middle]! + (rate > 0 ? (middle - 1) / rate : Number.POSITIVE_INFINITY) <= sloUs) low = middle;
      else high = middle - 1;
    }
    this.target = best[low]!;
    this.perItemUs = us[this.target]! / this.target;
    this.overheadUs = cap > 1 ? Math.max(0, us[1]! - (us[cap]! - us[1]!) / (cap - 1)) : 0;
    if (low === cap || rate === 0) return;
    // Some batches have time for one item more. Where few items arrive within the SLO that makes much of the difference.
    const growthUs = us[low + 1]! - us[low]!;
    const larger = Math.max(0, (sloUs - us[low]! - (low - 1) / rate) / (growthUs + 1 / rate));
    this.perItemUs = Math.min(this.perItemUs, (us[low]! + larger * growthUs) / (low + larger));
  }
}

/** Requests of one model and one shape: those that may share a batch. */
export class Group {
  readonly model: ModelState;
  readonly shape: string;
  /** Under which the model knows it: the shape, unless it is the group of a request that is to run alone. */
  readonly key: string;
  /** Work with deadlines, the earliest first. */
  readonly queue: RequestQueue = new RequestQueue();
  /** Best-effort and demoted work, in order of arrival. */
  readonly bestEffort: RequestQueue = new RequestQueue();
  readonly arrivals: ArrivalRate = new ArrivalRate();
  /** By lane slot; undefined where the model is not loaded. */
  readonly plans: (LanePlan | undefined)[] = [];
  /** Place in the list of active groups; -1 while inactive. */
  activeIndex = -1;
  /** Place in the heap of urgent groups, -1 outside it, and its key there. */
  urgencyIndex = -1;
  urgencyKey: number = Number.POSITIVE_INFINITY;
  /** Items per microsecond with deadlines, as of the last refresh. */
  rate = 0;
  /** The same where what comes next is waited for: less after a burst has ended. */
  awaitedRate = 0;
  /** Typical time from arrival to deadline. */
  sloUs: number;
  /** The same of requests in a hurry, where callers state different ones. */
  hurryUs: number;
  itemsMean = 1;
  weightMean = 1;
  /** How many device lanes may run it before deadlines. */
  deviceLanes = 0;
  /** The same of replicas. */
  replicaLanes = 0;
  #refreshedUs: number = Number.NEGATIVE_INFINITY;
  #observed = false;

  constructor(model: ModelState, shape: string, key: string = shape) {
    this.model = model;
    this.shape = shape;
    this.key = key;
    this.sloUs = model.spec.sloUs;
    this.hurryUs = model.spec.sloUs;
  }

  observeArrival({ items, weight }: QueuedRequest, relativeUs: number, nowUs: number): void {
    this.arrivals.observe(items, nowUs);
    if (!this.#observed) {
      this.#observed = true;
      this.sloUs = Math.min(relativeUs, this.model.spec.sloUs);
      this.hurryUs = this.sloUs;
      this.itemsMean = items;
      this.weightMean = weight;
      return;
    }
    // However long one is, it counts as no more than twice what is typical.
    this.sloUs += MEAN_GAIN * Math.min(relativeUs - this.sloUs, this.sloUs);
    const gain = relativeUs < this.hurryUs ? SHORTER_GAIN : LONGER_GAIN;
    this.hurryUs += gain * Math.min(relativeUs - this.hurryUs, this.hurryUs);
    this.itemsMean += MEAN_GAIN * (items - this.itemsMean);
    this.weightMean += MEAN_GAIN * (weight - this.weightMean);
  }

  refresh(nowUs: number): void {
    if (nowUs - this.#refreshedUs < REFRESH_US) return;
    this.#refreshedUs = nowUs;
    this.rate = this.arrivals.read(nowUs);
    this.awaitedRate = Math.min(this.rate, this.arrivals.limit(nowUs));
    for (const plan of this.plans) plan?.aim(this.rate, this.sloUs);
  }

  /** Where nothing is queued and arrivals are this rare, decisions need not look at the group. */
  isIdle(): boolean {
    return this.queue.length === 0 && this.bestEffort.length === 0 && this.rate * this.sloUs < 0.02;
  }

  /** Adopts what `loaded` said of a lane; what was learnt of a profile that is still the same is kept. */
  place(lane: Lane, profiles: ShapeProfiles): void {
    const { maxBatch } = this.model.spec;
    const exact = profiles[this.shape] ?? profiles["*"];
    const known = exact !== undefined && exact.length > 0;
    const profile = known ? exact : slowestOf(profiles);
    const fillOnly = !known && lane.kind === "device";
    const before = this.plans[lane.slot];
    if (profile !== null && before?.fillOnly === fillOnly && before.table.isMadeFrom(profile, maxBatch)) return;
    this.unplace(lane);
    if (profile !== null) this.plans[lane.slot] = new LanePlan(new ProfileTable(profile, maxBatch), fillOnly);
    this.#countLane(lane, 1);
    this.#refreshedUs = Number.NEGATIVE_INFINITY;
  }

  unplace(lane: Lane): void {
    this.#countLane(lane, -1);
    this.plans[lane.slot] = undefined;
  }

  #countLane(lane: Lane, by: 1 | -1): void {
    if (this.plans[lane.slot]?.fillOnly !== false) return;
    if (lane.kind === "device") this.deviceLanes += by;
    else this.replicaLanes += by;
  }

  /** Least time in which any lane could execute so many items; 0 while no lane has the model, Infinity if none can. */
  aloneUs(items: number): number {
    let least = Number.POSITIVE_INFINITY;
    let placed = false;
    for (const plan of this.plans) {
      if (plan === undefined || plan.fillOnly) continue;
      placed = true;
      if (items <= plan.table.cap) least = Math.min(least, plan.table.us[items]!);
    }
    return placed ? least : 0;
  }

  /** Whether some lane, once free, could take a request of so many items; true while no lane has the model. */
  fits(items: number): boolean {
    let placed = false;
    for (const plan of this.plans) {
      if (plan === undefined) continue;
      if (items <= plan.table.cap) return true;
      placed = true;
    }
    return !placed;
  }

  /** Whether lanes have the model, but none may run this shape before other work's deadlines. */
  isFillOnly(): boolean {
    let any = false;
    for (const plan of this.plans) {
      if (plan === undefined) continue;
      if (!plan.fillOnly) return false;
      any = true;
    }
    return any;
  }
}

/** Another shape's times are a guess, the slowest the safest; observations correct it. */
function slowestOf(profiles: ShapeProfiles): Profile | null {
  let slowest: Profile | null = null;
  for (const profile of Object.values(profiles)) {
    if (profile.length > 0 && (slowest === null || profile[0]!.us > slowest[0]!.us)) slowest = profile;
  }
  return slowest;
}

/** A model: its spec, its groups by shape, and what is counted per model. */
export class ModelState {
  spec: ModelSpec;
  readonly groups: Map<string, Group> = new Map();
  readonly fairness: Fairness = new Fairness();
  readonly share: ShareAccount = new ShareAccount();
  queuedItems = 0;
  queuedBytes = 0;
  /** When its replicas may next look whether devices need their help with it. */
  spillAtUs: number = Number.NEGATIVE_INFINITY;
  /** Requests with deadlines, of all its groups. */
  queuedDeadlines = 0;

  constructor(spec: ModelSpec) {
    this.spec = spec;
  }
}
