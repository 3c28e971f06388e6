import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { killOnExit } from "../../tools/command-line/clean-up.ts";
import { ToolError } from "../../tools/command-line/run-tool.ts";

export { SAMPLE_REPOSITORY } from "../../models/samples.ts";

const GENERATOR = fileURLToPath(new URL("../../models/generate.js", import.meta.url));

/** Makes the sample models that are not there yet, in a process of its own, whose memory goes with it. */
export async function makeSampleModels(say: (line: string) => void): Promise<void> {
  const child = spawn(process.execPath, [GENERATOR], { stdio: ["ignore", "pipe", "pipe"] });
  killOnExit(child);
  const problems: string[] = [];
  createInterface({ input: child.stdout }).on("line", say);
  createInterface({ input: child.stderr }).on("line", (line) => problems.push(line));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  if (code !== 0) throw new ToolError(`the sample models could not be made:\n${problems.join("\n")}`);
}
