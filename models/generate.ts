/**
 * Makes the sample models: `node dist/models/generate.js [--out DIR] [--only NAME]...`. What is there already, to the byte,
 * is kept. `--update-catalog` makes all of them in place and writes models/catalog.json anew.
 */
import { parseArgs } from "node:util";
import { ensureSampleModels, updateCatalog } from "./ensure-samples.ts";
import { SAMPLE_REPOSITORY } from "./samples.ts";

async function main(): Promise<void> {
  const { values: options } = parseArgs({
    options: {
      out: { type: "string", default: SAMPLE_REPOSITORY },
      only: { type: "string", multiple: true },
      "update-catalog": { type: "boolean", default: false },
    },
  });
  if (options["update-catalog"]) await updateCatalog();
  await ensureSampleModels({ repository: options.out, only: options.only, log: (line) => console.log(line) });
}

await main().catch((error: unknown) => {
  console.error(`The sample models can't be made: ${(error as Error).message}`);
  process.exitCode = 1;
});
