/** URL of a module beside the one of `from` (its `import.meta.url`) that runs in a process or thread of its own, compiled or not. */
export function siblingModule(from: string, name: string): URL {
  const extension = from.endsWith(".ts") ? ".ts" : ".js";
  return new URL(`./${name}${extension}`, from);
}
