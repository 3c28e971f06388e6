/** A dashboard as a few rows of panels, and its form in Grafana's JSON (schema 38: Grafana 10; 11 and later read it too). */

/** A line, or several: one for each set of labels that the expression leaves. */
export interface Query {
  /** PromQL; `$__rate_interval` and the dashboard's variables may stand in it. */
  readonly expr: string;
  /** Name of a line; `{{label}}` stands for a label's value. */
  readonly legend: string;
}

export interface Panel {
  readonly title: string;
  /** What is shown, and what to make of it. */
  readonly description: string;
  /** One of Grafana's units: `s`, `bytes`, `percentunit` (0 to 1), `short` for plain numbers. */
  readonly unit: string;
  readonly queries: readonly Query[];
  /** `number`: the last value; `stacked`: lines over time, one upon the other; absent: lines over time. */
  readonly kind?: "number" | "stacked";
  /** Where a number's colour changes, ascending; below the first it has `base`. Green where absent. */
  readonly colors?: { readonly base: Color; readonly steps: readonly (readonly [from: number, color: Color])[] };
  /** Largest value that there can be. */
  readonly max?: number;
  /** Whether values may be below 0. */
  readonly signed?: boolean;
  /** What a number that has no value says. */
  readonly noValue?: string;
}

export type Color = "green" | "orange" | "red";

export interface Row {
  readonly title: string;
  readonly panels: readonly Panel[];
}

/** A choice at the top of the dashboard: the values that a label has. */
export interface Variable {
  readonly name: string;
  /** Metric, with matchers, whose label it is. */
  readonly of: string;
}

export interface Dashboard {
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly variables: readonly Variable[];
  readonly rows: readonly Row[];
}

const GRID_WIDTH = 24;
const NUMBER_SIZE = { w: 6, h: 4 };
const LINES_SIZE = { w: 8, h: 8 };
const DATA_SOURCE = { type: "prometheus", uid: "$datasource" };

/** The text of the file that Grafana imports. */
export function grafanaJson({ uid, title, description, variables, rows }: Dashboard): string {
  const dashboard = {
    uid,
    title,
    description,
    tags: ["slackline"],
    schemaVersion: 38,
    editable: true,
    graphTooltip: 1,
    refresh: "30s",
    time: { from: "now-1h", to: "now" },
    templating: {
      list: [
        { name: "datasource", label: "Data source", type: "datasource", query: "prometheus" },
        ...variables.map(variable),
      ],
    },
    panels: laidOut(rows),
  };
  return `${JSON.stringify(dashboard, null, 2)}\n`;
}

function variable({ name, of }: Variable): object {
  return {
    name,
    type: "query",
    datasource: DATA_SOURCE,
    query: { query: `label_values(${of}, ${name})`, refId: name },
    // On every change of the time range.
    refresh: 2,
    sort: 1,
    multi: true,
    includeAll: true,
    allValue: ".*",
    current: { selected: true, text: ["All"], value: ["$__all"] },
  };
}

/** Panels from left to right, a new line where one is full; ids count up. */
function laidOut(rows: readonly Row[]): readonly object[] {
  const placed: object[] = [];
  let y = 0;
  for (const { title, panels } of rows) {
    placed.push({
      id: placed.length + 1,
      type: "row",
      title,
      collapsed: false,
      panels: [],
      gridPos: { x: 0, y, w: GRID_WIDTH, h: 1 },
    });
    y += 1;
    let x = 0;
    let height = 0;
    for (const panel of panels) {
      const size = panel.kind === "number" ? NUMBER_SIZE : LINES_SIZE;
      if (x + size.w > GRID_WIDTH || (height > 0 && size.h !== height)) {
        x = 0;
        y += height;
      }
      height = size.h;
      placed.push({ id: placed.length + 1, ...grafanaPanel(panel), gridPos: { x, y, ...size } });
      x += size.w;
    }
    y += height;
  }
  return placed;
}

function grafanaPanel(panel: Panel): object {
  const { title, description, queries, kind } = panel;
  return {
    type: kind === "number" ? "stat" : "timeseries",
    title,
    description,
    datasource: DATA_SOURCE,
    fieldConfig: { defaults: fieldDefaults(panel), overrides: [] },
    options:
      kind === "number"
        ? {
            reduceOptions: { calcs: ["lastNotNull"], fields: "", values: false },
            colorMode: "value",
            graphMode: "area",
          }
        : {
            legend: { displayMode: "list", placement: "bottom", showLegend: true },
            tooltip: { mode: "multi", sort: "desc" },
          },
    targets: queries.map(({ expr, legend }, index) => ({
      refId: String.fromCharCode("A".charCodeAt(0) + index),
      datasource: DATA_SOURCE,
      expr,
      legendFormat: legend,
      range: true,
    })),
  };
}

function fieldDefaults(panel: Panel): object {
  const { unit, kind, max, signed, noValue } = panel;
  return {
    unit,
    ...(signed ? {} : { min: 0 }),
    ...(max === undefined ? {} : { max }),
    ...(noValue === undefined ? {} : { noValue }),
    ...(kind === "number" ? { thresholds: thresholds(panel) } : { custom: lines(kind === "stacked") }),
  };
}

/** A number without any would be red from 80 on. */
function thresholds({ colors = { base: "green", steps: [] } }: Panel): object {
  return {
    mode: "absolute",
    steps: [{ color: colors.base, value: null }, ...colors.steps.map(([value, color]) => ({ color, value }))],
  };
}

function lines(stacked: boolean): object {
  return {
    drawStyle: "line",
    lineWidth: 1,
    fillOpacity: stacked ? 30 : 0,
    showPoints: "never",
    stacking: { mode: stacked ? "normal" : "none", group: "A" },
  };
}
