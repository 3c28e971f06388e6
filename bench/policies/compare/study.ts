/** What is compared: which scenarios, and what is asked of each. */
import path from "node:path";
import { PACKAGE_ROOT } from "../../../daemon/package-root.ts";
import { readScenario } from "../../scenario/read.ts";
import type { Scenario } from "../../scenario/types.ts";
import { dataFolder, publishedScenarios } from "../../scenarios/published.ts";
import { OWN_POLICY } from "../../sim/policies.ts";
import { COMPARISON_POLICIES } from "../index.ts";

/**
 * `capacity`: the largest rates with 99 % on time. `overload`: what is kept at more than can be carried. `best-effort`:
 * what best-effort work gets at a given load. `service`: whether the rates as they are can be served.
 */
export type Question = "capacity" | "overload" | "best-effort" | "service";

export interface StudyScenario {
  readonly scenario: Scenario;
  readonly question: Question;
  readonly group: string;
  /** Whether a bound in hindsight is computed. */
  readonly bounded: boolean;
}

/** The daemon's scheduler with misses evened out between models. */
export const OWN_FAIR: string = `${OWN_POLICY}-fair`;

export const POLICIES: readonly string[] = [OWN_POLICY, OWN_FAIR, ...COMPARISON_POLICIES.map(({ name }) => name)];

interface Group {
  readonly title: string;
  readonly question: Question;
  readonly files: readonly string[];
  readonly bounded?: boolean;
}

const ADDITIONS = ["", "-padded", "-items", "-spread", "-noise5", "-noise10"];

export const GROUPS: readonly Group[] = [
  { title: "Capacity", question: "capacity", files: ["a", "b", "c", "d", "e", "f", "g", "g2"], bounded: true },
  {
    title: "What additions to B cost",
    question: "capacity",
    files: ADDITIONS.slice(1).map((addition) => `b${addition}`),
  },
  {
    title: "What additions to D cost",
    question: "capacity",
    files: ADDITIONS.slice(1).map((addition) => `d${addition}`),
  },
  {
    title: "Changing rates and many models",
    question: "capacity",
    files: ["flash-crowd", "models-200"],
  },
  { title: "Measured on a GPU, requests of several items", question: "capacity", files: ["h200-three", "h200-six"] },
  { title: "Overload", question: "overload", files: ["a-over", "b-over", "c-over", "d-over"] },
  { title: "Best-effort work beside", question: "best-effort", files: ["b30", "b60", "d30", "d50", "diurnal"] },
];

const PUBLISHED_GROUP = "Published traces and workloads";
const QUICK: readonly string[] = ["a", "b", "d", "d-over", "b30"];

export interface StudyOptions {
  readonly quick: boolean;
  /** Only these scenarios. */
  readonly only: readonly string[] | null;
  readonly data: string | undefined;
}

export interface Study {
  readonly scenarios: readonly StudyScenario[];
  /** Why some scenarios are missing; null where none is. */
  readonly skipped: string | null;
}

export function studyOf({ quick, only, data }: StudyOptions): Study {
  const wanted = (name: string): boolean => (only ?? (quick ? QUICK : null))?.includes(name) ?? true;
  const scenarios: StudyScenario[] = [];
  for (const { title, question, files, bounded = false } of GROUPS) {
    for (const file of files.filter(wanted)) {
      const scenario = readScenario(path.join(PACKAGE_ROOT, "bench", "scenarios", `${file}.json`));
      scenarios.push({ scenario, question, group: title, bounded });
    }
  }
  if (quick) return { scenarios, skipped: null };
  const published = publishedScenarios(dataFolder(data));
  for (const scenario of published.scenarios.filter(({ name }) => wanted(name))) {
    const question = scenario.best_effort.length > 0 ? "service" : "capacity";
    scenarios.push({ scenario, question, group: PUBLISHED_GROUP, bounded: false });
  }
  return { scenarios, skipped: published.skipped };
}
