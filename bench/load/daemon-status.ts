/** Reading the daemon's own figures before and after a measured window. */
import type { DaemonStatus, LaneStatus, ModelStatus } from "../../daemon/status.ts";

/** One device lane over the measured window; the simulator reports devices under the same keys. */
export interface DeviceFigures {
  readonly provider: string;
  /** Share of the window in which something executed, of whatever kind. */
  readonly busy_share: number;
  /** Share of the window in which best-effort work executed. */
  readonly best_effort_share: number;
  readonly executions: number;
  /** Mean items of an execution, padding left out. */
  readonly batch_size_mean: number;
  /** Share of what was executed that was padding. */
  readonly padding_share: number;
}

/** What the daemon counted for one model over the measured window. */
export interface ServedFigures {
  readonly executions: number;
  /** Mean items of an execution, padding left out; null where nothing was executed. */
  readonly batch_size_mean: number | null;
  /** Share of what was executed that was padding. */
  readonly padding_share: number;
  /** Answers that ended after their deadline by the daemon's clock, in the window. */
  readonly late: number;
  /** Time of the model's executions in the window, and the part of it for best-effort work, as a share of the window. */
  readonly busy_share: number;
  readonly best_effort_share: number;
}

/**
 * The daemon's status, or null where no slackline daemon answers there.
 *
 * @param address HOST:PORT of the daemon's HTTP port
 */
export async function fetchStatus(address: string, timeoutMs = 2000): Promise<DaemonStatus | null> {
  try {
    const response = await fetch(`http://${address}/status`, { signal: AbortSignal.timeout(timeoutMs) });
    if (!response.ok) return null;
    const body = (await response.json()) as Partial<DaemonStatus>;
    return Array.isArray(body.models) && Array.isArray(body.lanes) ? (body as DaemonStatus) : null;
  } catch {
    return null;
  }
}

/** Where a daemon's HTTP port is by default. */
const HTTP_PORT = 8002;

/**
 * The HTTP port that belongs to a gRPC target: the one that was named, else the default one of the same host, provided
 * that the daemon there says that its gRPC port is the target's.
 */
export async function findStatusAddress(target: string, named: string | undefined): Promise<string | null> {
  if (named !== undefined) return named;
  const colon = target.lastIndexOf(":");
  const address = `${target.slice(0, colon)}:${HTTP_PORT}`;
  const status = await fetchStatus(address, 500);
  return status?.grpc_port === Number(target.slice(colon + 1)) ? address : null;
}

/** Device lanes between two snapshots of one daemon, by name. */
export function deviceFigures(before: DaemonStatus, after: DaemonStatus): Record<string, DeviceFigures> {
  const windowUs = after.now_us - before.now_us;
  const first = new Map(before.lanes.map((lane) => [lane.lane, lane]));
  const figures: Record<string, DeviceFigures> = {};
  for (const lane of after.lanes) {
    if (lane.kind !== "device") continue;
    const from = first.get(lane.lane);
    const busyUs = difference(lane.busy_us, from?.busy_us);
    const byReason = difference(lane.executions, from?.executions);
    const executions = byReason.deadline + byReason.fill + byReason.share;
    const items = lane.items - (from?.items ?? 0);
    const slots = lane.slots - (from?.slots ?? 0);
    figures[lane.lane] = {
      provider: lane.provider,
      busy_share: share(busyUs.deadline + busyUs.fill + busyUs.share, windowUs),
      best_effort_share: share(busyUs.fill + busyUs.share, windowUs),
      executions,
      batch_size_mean: executions === 0 ? 0 : items / executions,
      padding_share: share(slots - items, slots),
    };
  }
  return figures;
}

/** Models between two snapshots of one daemon, by name; versions of a name are taken together. */
export function servedFigures(before: DaemonStatus, after: DaemonStatus): Map<string, ServedFigures> {
  const windowUs = after.now_us - before.now_us;
  const figures = new Map<string, ServedFigures>();
  for (const name of new Set(after.models.map((model) => model.name))) {
    const sum = (of: (model: ModelStatus) => number): number => total(after, name, of) - total(before, name, of);
    const executions = sum((model) => model.counts.executions);
    const items = sum((model) => model.counts.items);
    const slots = sum((model) => model.counts.slots);
    const bestEffortUs = sum((model) => model.counts.busy_us.fill + model.counts.busy_us.share);
    const deadlineUs = sum((model) => model.counts.busy_us.deadline);
    figures.set(name, {
      executions,
      batch_size_mean: executions === 0 ? null : items / executions,
      padding_share: share(slots - items, slots),
      late: sum((model) => model.counts.late),
      busy_share: share(deadlineUs + bestEffortUs, windowUs),
      best_effort_share: share(bestEffortUs, windowUs),
    });
  }
  return figures;
}

type ByReason = LaneStatus["busy_us"];

function difference(after: ByReason, before: ByReason | undefined): ByReason {
  if (before === undefined) return after;
  return {
    deadline: after.deadline - before.deadline,
    fill: after.fill - before.fill,
    share: after.share - before.share,
  };
}

function total(status: DaemonStatus, name: string, of: (model: ModelStatus) => number): number {
  let sum = 0;
  for (const model of status.models) if (model.name === name) sum += of(model);
  return sum;
}

/** At most 1: an execution that began before the window is counted whole in it. */
function share(part: number, whole: number): number {
  return whole > 0 ? Math.min(1, part / whole) : 0;
}
