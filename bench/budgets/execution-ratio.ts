/** Actual over predicted execution times, from the histogram on the daemon's metrics page. */

/** Cumulative counts by model and upper bound, as Prometheus has them. */
export type RatioCounts = ReadonlyMap<string, ReadonlyMap<number, number>>;

const LINE = /^slackline_execution_ratio_bucket\{(.*)\} (\d+)$/;

export function parseRatios(metricsPage: string): RatioCounts {
  const counts = new Map<string, Map<number, number>>();
  for (const line of metricsPage.split("\n")) {
    const match = LINE.exec(line);
    if (match === null) continue;
    const labels = new Map([...match[1]!.matchAll(/(\w+)="([^"]*)"/g)].map(([, name, value]) => [name!, value!]));
    const model = labels.get("model") ?? "";
    const bound = labels.get("le") === "+Inf" ? Number.POSITIVE_INFINITY : Number(labels.get("le"));
    const ofModel = counts.get(model) ?? new Map<number, number>();
    ofModel.set(bound, (ofModel.get(bound) ?? 0) + Number(match[2]));
    counts.set(model, ofModel);
  }
  return counts;
}

export async function fetchRatios(address: string): Promise<RatioCounts> {
  const response = await fetch(`http://${address}/metrics`);
  if (!response.ok) throw new Error(`http://${address}/metrics answered ${response.status}`);
  return parseRatios(await response.text());
}

export interface RatioShare {
  readonly executions: number;
  /** Share of the executions between two pages whose ratio lay in (low, high]; NaN where there were none. */
  readonly within: number;
}

/** `low` and `high` have to be bounds of the histogram. All models where none is named. */
export function ratioShare(
  before: RatioCounts,
  after: RatioCounts,
  low: number,
  high: number,
  model?: string,
): RatioShare {
  let executions = 0;
  let within = 0;
  for (const [name, counts] of after) {
    if (model !== undefined && name !== model) continue;
    const grown = (bound: number): number => (counts.get(bound) ?? 0) - (before.get(name)?.get(bound) ?? 0);
    executions += grown(Number.POSITIVE_INFINITY);
    within += grown(high) - grown(low);
  }
  return { executions, within: executions === 0 ? Number.NaN : within / executions };
}
