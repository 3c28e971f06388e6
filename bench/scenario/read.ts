/** Reading scenario files and arrival traces from disk. */
import { readFileSync } from "node:fs";
import path from "node:path";
import { parseScenario, type Scenario, ScenarioError } from "./schema.ts";

/** One row of an arrival trace, times in microseconds. */
export interface TraceRow {
  readonly arrivalUs: number;
  readonly model: string;
  /** null: the model's own SLO. */
  readonly sloUs: number | null;
}

/**
 * Reads a scenario file; a relative trace path is resolved against the scenario's folder.
 *
 * @throws {ScenarioError} with all problems
 */
export function readScenario(file: string): Scenario {
  const scenario = parseScenario(readJson(file), file);
  if (scenario.trace === undefined) return scenario;
  return { ...scenario, trace: { ...scenario.trace, file: path.resolve(path.dirname(file), scenario.trace.file) } };
}

function readJson(file: string): unknown {
  const text = readText(file);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ScenarioError(file, [`not JSON: ${(error as Error).message}`]);
  }
}

function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new ScenarioError(file, [`cannot be read: ${(error as NodeJS.ErrnoException).code ?? String(error)}`]);
  }
}

const HEADER = "arrival_us,model,slo_us";

/**
 * Reads an arrival trace: CSV with the header `arrival_us,model,slo_us`, sorted by `arrival_us`.
 *
 * @throws {ScenarioError} naming the first bad lines (at most ten)
 */
export function readTrace(file: string): TraceRow[] {
  const lines = readText(file).split(/\r?\n/);
  if (lines[0]?.trim() !== HEADER) throw new ScenarioError(file, [`line 1: expected the header '${HEADER}'`]);
  const rows: TraceRow[] = [];
  const problems: string[] = [];
  let last = 0;
  for (let i = 1; i < lines.length && problems.length < 10; i++) {
    const line = lines[i]!;
    if (line === "") continue;
    const [arrival = "", model = "", slo = "", ...rest] = line.split(",");
    const arrivalUs = Number(arrival);
    if (rest.length > 0 || model === "" || !/^\d+$/.test(arrival) || !/^\d*$/.test(slo)) {
      problems.push(`line ${i + 1}: expected '${HEADER}' with whole numbers, got '${line.slice(0, 80)}'`);
    } else if (arrivalUs < last) {
      problems.push(`line ${i + 1}: arrival_us ${arrivalUs} comes after ${last}; rows must be sorted`);
    } else {
      last = arrivalUs;
      rows.push({ arrivalUs, model, sloUs: slo === "" ? null : Number(slo) });
    }
  }
  if (problems.length > 0) throw new ScenarioError(file, problems);
  return rows;
}
