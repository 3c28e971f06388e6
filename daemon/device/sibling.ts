/** URL of a module of this folder that runs in a process or thread of its own, compiled or not. */
export function siblingModule(name: string): URL {
  const extension = import.meta.url.endsWith(".ts") ? ".ts" : ".js";
  return new URL(`./${name}${extension}`, import.meta.url);
}
