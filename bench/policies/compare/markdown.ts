import type { CapacityOutcome, LoadOutcome } from "./job.ts";
import { type Comparison, type ScenarioResults, share } from "./results.ts";
import { OWN_FAIR, POLICIES } from "./study.ts";

export const INTRODUCTION: string =
  "Each policy runs on the daemon's engine in the simulator, on the same arrivals. Policies with settings were tried " +
  "with all of them on each scenario, and their best counts. Figures are means over the seeds.";

/** The whole report. */
export function markdown(comparison: Comparison): string {
  const { command, seeds, skipped, scenarios } = comparison;
  const parts = [
    "# Schedulers compared",
    `${INTRODUCTION} Seeds: ${seeds.join(", ")}. Made by \`${command}\`.`,
    ...(skipped === null ? [] : [`Left out: ${skipped}.`]),
  ];
  for (const [group, members] of groups(scenarios)) {
    parts.push(
      `## ${group}`,
      explanation(members[0]!),
      members.map(line).join("\n"),
      table(members),
      spreadLine(members),
    );
  }
  parts.push("## Settings that were best", variants(scenarios));
  return `${parts.filter((part) => part !== "").join("\n\n")}\n`;
}

export function groups(scenarios: readonly ScenarioResults[]): Map<string, ScenarioResults[]> {
  const found = new Map<string, ScenarioResults[]>();
  for (const scenario of scenarios) {
    const key = scenario.question === "service" ? `${scenario.group}, with best-effort work` : scenario.group;
    found.set(key, [...(found.get(key) ?? []), scenario]);
  }
  // What an addition costs shows beside what there is without it.
  for (const [key, members] of found) {
    const plain = scenarios.find(({ name }) => members.every((member) => member.name.startsWith(`${name}-`)));
    if (plain !== undefined && plain.question === members[0]!.question) {
      found.set(key, [{ ...plain, bound: null }, ...members]);
    }
  }
  return found;
}

/** What a group's figures mean. */
export function explanation({ question, load }: ScenarioResults): string {
  switch (question) {
    case "capacity":
      return load === null
        ? "Largest rates with at least 99 % on time, as percent of the scenario's own: all requests / the worst model."
        : "Largest rates with at least 99 % on time, as percent of the planning bound: all requests / the worst model. The planning bound is an estimate; what no schedule can exceed, knowing every arrival beforehand, is shown where it was computed.";
    case "overload":
      return "Requests on time as percent of the planning bound, at 1.3 times that bound / share of the worst model's requests on time.";
    case "best-effort":
      return "Percent of device time that best-effort work got (percent of requests with deadlines on time).";
    case "service":
      return "Percent of requests on time / of the worst model's; percent of device time that best-effort work got.";
  }
}

function line({ name, description }: ScenarioResults): string {
  return `- **${name}**: ${description}`;
}

function table(members: readonly ScenarioResults[]): string {
  const rows = POLICIES.filter((policy) => members.some(({ policies }) => policies[policy] !== undefined)).map(
    (policy) => [policy, ...members.map((member) => cell(member, policy))],
  );
  if (members.some(({ bound }) => bound !== null)) rows.push(["no schedule exceeds", ...members.map(boundCell)]);
  const header = ["", ...members.map(({ name }) => name)];
  const rule = header.map((_, i) => (i === 0 ? "---" : "---:"));
  return [header, rule, ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

function cell(member: ScenarioResults, policy: string): string {
  const outcome = member.policies[policy];
  if (outcome === undefined) return "–";
  const text = outcome.type === "capacity" ? capacityText(member, outcome) : loadText(member, outcome);
  const best = Object.entries(member.policies).every(([, other]) => merit(member, outcome) >= merit(member, other));
  return best ? `**${text}**` : text;
}

export function capacityText(member: ScenarioResults, { all, worst }: CapacityOutcome): string {
  return `${whole(share(member, all.mean))} / ${whole(share(member, worst.mean))}`;
}

export function loadText(member: ScenarioResults, outcome: LoadOutcome): string {
  const { attainment, attainment_worst_model, best_effort_share } = outcome;
  switch (member.question) {
    case "overload":
      return `${whole(attainment.mean * (member.load ?? 1))} / ${whole(attainment_worst_model.mean)}`;
    case "best-effort":
      return `${whole(best_effort_share.mean)} (${(100 * attainment.mean).toFixed(2)})`;
    default:
      return `${tenths(attainment.mean)} / ${tenths(attainment_worst_model.mean)}; ${whole(best_effort_share.mean)}`;
  }
}

/** What makes one outcome better than another; rounded, so that equals share the honour. */
function merit(member: ScenarioResults, outcome: CapacityOutcome | LoadOutcome): number {
  if (outcome.type === "capacity") return Math.round(100 * share(member, outcome.all.mean));
  if (member.question !== "best-effort") return Math.round(1000 * outcome.attainment.mean);
  return outcome.attainment.mean >= 0.999 ? Math.round(100 * outcome.best_effort_share.mean) : 0;
}

function boundCell(member: ScenarioResults): string {
  const { bound } = member;
  if (bound === null || bound.scale === null) return "–";
  return `${whole(share(member, bound.scale))}${bound.exact ? " (exact)" : ""}`;
}

function spreadLine(members: readonly ScenarioResults[]): string {
  const deviations = members.flatMap((member) =>
    Object.values(member.policies).map((outcome) =>
      outcome.type === "capacity" ? share(member, outcome.all.deviation) : outcome.attainment.deviation,
    ),
  );
  if (deviations.length === 0 || deviations.every((deviation) => deviation === 0)) return "";
  const sorted = [...deviations].sort((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)]!;
  return `Standard deviation between seeds: ${(100 * median).toFixed(1)} points at the median, ${(100 * sorted.at(-1)!).toFixed(1)} at most.`;
}

function variants(scenarios: readonly ScenarioResults[]): string {
  const lines: string[] = [];
  for (const policy of POLICIES) {
    const chosen = scenarios.flatMap(({ name, policies }) => {
      const variant = policies[policy]?.variant;
      if (variant === undefined || variant === policy || policy === OWN_FAIR) return [];
      return [`${name} ${variant.slice(policy.length)}`];
    });
    if (chosen.length > 0) lines.push(`- **${policy}**: ${chosen.join(", ")}`);
  }
  return lines.length === 0 ? "None of the policies has settings." : lines.join("\n");
}

function whole(value: number): string {
  return (100 * value).toFixed(0);
}

function tenths(value: number): string {
  return (100 * value).toFixed(1);
}
