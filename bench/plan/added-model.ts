import { readFileSync } from "node:fs";
import { parseScenario, type Scenario, ScenarioError } from "../scenario/schema.ts";

const FORM =
  "a JSON file with a model as scenarios have it, or NAME:rate_per_s=R,slo_ms=S,like=MODEL (its execution times as that model's), or in place of like: alpha_ms=A,beta_ms=B,max_batch=N";
const NUMBERS = new Set(["rate_per_s", "slo_ms", "alpha_ms", "beta_ms", "max_batch", "items", "cv"]);

/**
 * A scenario with one more model, as `--add` names it.
 *
 * @throws {ScenarioError} saying what was wrong, and what is understood
 */
export function withModel(scenario: Scenario, added: string): Scenario {
  const model = added.endsWith(".json") ? fromFile(added) : fromText(scenario, added);
  return parseScenario({ ...scenario, models: [...scenario.models, model] }, `--add ${added}`);
}

function fromFile(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    throw new ScenarioError(`--add ${file}`, [`cannot be read as JSON: ${(error as Error).message}`]);
  }
}

function fromText(scenario: Scenario, added: string): unknown {
  const problem = (text: string): ScenarioError => new ScenarioError(`--add ${added}`, [`${text}; it takes ${FORM}`]);
  const colon = added.indexOf(":");
  if (colon < 1) throw problem("there are no settings after a name");
  const settings = new Map<string, string>();
  for (const part of added.slice(colon + 1).split(",")) {
    const [key = "", value = "", ...more] = part.split("=");
    if (more.length > 0 || value === "" || !(NUMBERS.has(key) || key === "like"))
      throw problem(`'${part}' is not understood`);
    if (NUMBERS.has(key) && !(Number(value) >= 0)) throw problem(`${key} is a number, not '${value}'`);
    settings.set(key, value);
  }
  const number = (key: string): number | undefined => (settings.has(key) ? Number(settings.get(key)) : undefined);
  const rate = number("rate_per_s");
  if (rate === undefined) throw problem("rate_per_s is missing");
  const cv = number("cv");
  const arrivals = { ...(cv === undefined ? { process: "poisson" } : { process: "gamma", cv }), rate_per_s: rate };
  const given = Object.fromEntries(
    ["slo_ms", "max_batch", "items"].flatMap((key) => (settings.has(key) ? [[key, number(key)]] : [])),
  );
  const name = added.slice(0, colon);
  const like = settings.get("like");
  if (like !== undefined) {
    const model = scenario.models.find((one) => one.name === like);
    if (model === undefined) {
      throw problem(
        `there is no model '${like}' to be like, only ${scenario.models.map((one) => one.name).join(", ")}`,
      );
    }
    return { ...model, name, arrivals, ...given };
  }
  const alpha_ms = number("alpha_ms");
  const beta_ms = number("beta_ms");
  if (alpha_ms === undefined || beta_ms === undefined) throw problem("like, or alpha_ms and beta_ms, are missing");
  return { name, arrivals, profile: { alpha_ms, beta_ms }, ...given };
}
