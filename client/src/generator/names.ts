/** Turns names from a model repository into TypeScript identifiers. */

/** Words that cannot name a function in a module. */
const RESERVED: ReadonlySet<string> = new Set(
  (
    "arguments await break case catch class const continue debugger default delete do else enum eval export extends false finally for " +
    "function if implements import in instanceof interface let new null package private protected public return static super switch " +
    "this throw true try typeof undefined var void while with yield"
  ).split(" "),
);

function words(name: string): string[] {
  return name.split(/[^\p{L}\p{N}]+/u).filter((word) => word !== "");
}

const capitalised = (word: string): string => word.charAt(0).toUpperCase() + word.slice(1);

/** `resnet-18_v2` → `Resnet18V2`; begins with a letter. */
function pascalCase(name: string): string {
  const joined = words(name).map(capitalised).join("");
  return /^\p{L}/u.test(joined) ? joined : `Model${joined}`;
}

/** Identifiers for a model: one for its function, one to begin its types' names with. */
export interface ModelIdentifiers {
  readonly functionName: string;
  readonly typePrefix: string;
}

/** Gives each name identifiers of its own; those of `taken` are not used. */
export function identifiers(names: readonly string[], taken: readonly string[]): Map<string, ModelIdentifiers> {
  const used = new Set(taken);
  const result = new Map<string, ModelIdentifiers>();
  for (const name of names) {
    const base = pascalCase(name);
    for (let attempt = 1; ; attempt++) {
      const typePrefix = attempt === 1 ? base : `${base}${attempt}`;
      const lower = typePrefix.charAt(0).toLowerCase() + typePrefix.slice(1);
      const functionName = RESERVED.has(lower) ? `${lower}Model` : lower;
      if (used.has(functionName)) continue;
      used.add(functionName);
      result.set(name, { functionName, typePrefix });
      break;
    }
  }
  return result;
}
