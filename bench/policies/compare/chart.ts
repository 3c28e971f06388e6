/** The comparison as a page: a panel of bars for each scenario, nothing loaded from anywhere. */
import { escapeHtml, htmlPage, seriesColor } from "../../report/html.ts";
import type { CapacityOutcome, LoadOutcome } from "./job.ts";
import { capacityText, explanation, groups, INTRODUCTION, loadText } from "./markdown.ts";
import { type Comparison, type ScenarioResults, share } from "./results.ts";
import { OWN_FAIR, POLICIES } from "./study.ts";

const PANEL_PX = 470;
const GAP_PX = 20;
const LABEL_PX = 128;
const VALUE_PX = 118;
const ROW_PX = 19;
const TITLE_PX = 56;
const BAR_PX = 12;
const OWN_COLOR = seriesColor(0);
const PEER_COLOR = seriesColor(7);
const BOUND_COLOR = seriesColor(5);

/** One bar: its length, and of that the part drawn strong. */
interface Bar {
  readonly policy: string;
  readonly length: number;
  readonly strong: number;
  readonly text: string;
}

export function page(comparison: Comparison): string {
  const { command, seeds, skipped, scenarios } = comparison;
  const parts = [
    "<h1>Schedulers compared</h1>",
    `<p class="lead">${escapeHtml(INTRODUCTION)}</p>`,
    `<p class="faint">Seeds ${seeds.join(", ")}. Made by <code>${escapeHtml(command)}</code>.${skipped === null ? "" : ` Left out: ${escapeHtml(skipped)}.`}</p>`,
    legend(),
  ];
  for (const [group, members] of groups(scenarios)) {
    parts.push(`<h2>${escapeHtml(group)}</h2>`, `<p class="faint">${escapeHtml(explanation(members[0]!))}</p>`);
    parts.push(panels(members));
  }
  return htmlPage("Schedulers compared", parts.join("\n"));
}

function legend(): string {
  const chip = (color: string, opacity: number, text: string): string =>
    `<span style="margin-right:20px"><span class="chip" style="background:${color};opacity:${opacity}"></span>${text}</span>`;
  return `<p>${chip(OWN_COLOR, 1, "slackline")}${chip(PEER_COLOR, 1, "other policies")}${chip(PEER_COLOR, 0.4, "beyond what the worst model gets")}${chip(BOUND_COLOR, 1, "no schedule exceeds")}</p>`;
}

function panels(members: readonly ScenarioResults[]): string {
  const bars = members.map((member) => barsOf(member));
  const bounds = members.map((member) => boundOf(member));
  const most = Math.max(0.01, ...bars.flat().map(({ length }) => length), ...bounds.map((bound) => bound ?? 0)) * 1.02;
  const columns = members.length === 1 ? 1 : 2;
  const heights = bars.map((rows) => TITLE_PX + rows.length * ROW_PX + 16);
  const rowHeight = Math.max(...heights);
  const drawn = members.map((member, i) => {
    const x = (i % columns) * (PANEL_PX + GAP_PX);
    const y = Math.floor(i / columns) * rowHeight;
    return `<g transform="translate(${x} ${y})">${panel(member, bars[i]!, bounds[i]!, most)}</g>`;
  });
  const width = 2 * PANEL_PX + GAP_PX;
  const height = Math.ceil(members.length / columns) * rowHeight;
  return `<svg viewBox="0 0 ${width} ${height}" role="img">${drawn.join("\n")}</svg>`;
}

function panel(member: ScenarioResults, bars: readonly Bar[], bound: number | null, most: number): string {
  const plotPx = PANEL_PX - LABEL_PX - VALUE_PX;
  const px = (value: number): number => Math.round((value / most) * plotPx * 10) / 10;
  const parts = [
    `<text x="0" y="16" font-weight="600">${escapeHtml(member.name)}</text>`,
    `<text x="0" y="32" class="faint">${escapeHtml(shortened(member.description, 74))}</text>`,
  ];
  bars.forEach(({ policy, length, strong, text }, row) => {
    const y = TITLE_PX + row * ROW_PX;
    const own = policy.startsWith("slackline");
    const color = own ? OWN_COLOR : PEER_COLOR;
    const middle = y + BAR_PX - 2;
    parts.push(
      `<text x="${LABEL_PX - 8}" y="${middle}" text-anchor="end"${own ? ' font-weight="600"' : ' class="faint"'}>${escapeHtml(policy)}</text>`,
      `<rect x="${LABEL_PX}" y="${y}" width="${px(length)}" height="${BAR_PX}" rx="2" fill="${color}" opacity="0.4"/>`,
      `<rect x="${LABEL_PX}" y="${y}" width="${px(strong)}" height="${BAR_PX}" rx="2" fill="${color}"/>`,
      `<text x="${PANEL_PX - 6}" y="${middle}" text-anchor="end"${own ? ' font-weight="600"' : ""}>${escapeHtml(text)}</text>`,
    );
  });
  if (bound !== null) {
    const x = LABEL_PX + px(bound);
    const bottom = TITLE_PX + bars.length * ROW_PX - 4;
    parts.push(
      `<line x1="${x}" x2="${x}" y1="${TITLE_PX - 4}" y2="${bottom}" stroke="${BOUND_COLOR}" stroke-width="1.5" stroke-dasharray="4 3"/>`,
      `<text x="${x}" y="${TITLE_PX - 7}" text-anchor="middle" fill="${BOUND_COLOR}">${(100 * bound).toFixed(0)}</text>`,
    );
  }
  return parts.join("");
}

function barsOf(member: ScenarioResults): Bar[] {
  return POLICIES.flatMap((policy) => {
    const outcome = member.policies[policy];
    if (
      outcome === undefined ||
      (policy === OWN_FAIR && member.question !== "capacity" && member.question !== "overload")
    )
      return [];
    return [outcome.type === "capacity" ? capacityBar(member, policy, outcome) : loadBar(member, policy, outcome)];
  });
}

function capacityBar(member: ScenarioResults, policy: string, outcome: CapacityOutcome): Bar {
  const length = share(member, outcome.all.mean);
  const strong = Math.min(length, share(member, outcome.worst.mean));
  return { policy, length, strong, text: capacityText(member, outcome) };
}

function loadBar(member: ScenarioResults, policy: string, outcome: LoadOutcome): Bar {
  const text = loadText(member, outcome);
  if (member.question === "overload") {
    const length = outcome.attainment.mean * (member.load ?? 1);
    return { policy, length, strong: length, text };
  }
  const length = outcome.best_effort_share.mean;
  // Best-effort work at the cost of requests with deadlines is drawn faint.
  return { policy, length, strong: outcome.attainment.mean >= 0.999 ? length : 0, text };
}

function boundOf(member: ScenarioResults): number | null {
  const scale = member.bound?.scale;
  return scale === null || scale === undefined ? null : share(member, scale);
}

function shortened(text: string, most: number): string {
  return text.length <= most ? text : `${text.slice(0, most - 1).trimEnd()}…`;
}
