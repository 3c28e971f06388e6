/**
 * Makes the sample models: `node dist/models/generate.js [--out DIR] [--only NAME]...`. What is there already, to the byte,
 * is kept. `--update-catalog` writes models/catalog.json anew after a change to the models.
 */
import { copyFile } from "node:fs/promises";
import path from "node:path";
import { parseArgs } from "node:util";
import { type CatalogEntry, describeModel, isPresent, readCatalog, writeCatalog } from "./catalog.ts";
import { makeModel } from "./make-model.ts";
import type { SampleModel } from "./sample-model.ts";
import { SAMPLE_MODELS, SAMPLE_REPOSITORY } from "./samples.ts";

async function generate(sample: SampleModel, entry: CatalogEntry, repository: string): Promise<void> {
  const folder = path.join(repository, sample.name, "1");
  const present = await allPresent(entry, folder);
  const started = performance.now();
  if (!present) {
    await makeModel(sample, folder);
    if (!(await allPresent(entry, folder))) {
      throw new Error(`${folder} is not what models/catalog.json says; after a change to a model run --update-catalog`);
    }
  }
  if (repository !== SAMPLE_REPOSITORY) {
    const config = path.join(sample.name, "config.yaml");
    await copyFile(path.join(SAMPLE_REPOSITORY, config), path.join(repository, config));
  }
  const took = present ? "already there" : `made in ${((performance.now() - started) / 1000).toFixed(1)} s`;
  console.log(`${sample.name.padEnd(10)} ${(entry.bytes / 1e6).toFixed(1).padStart(6)} MB  ${took}`);
}

async function allPresent(entry: CatalogEntry, folder: string): Promise<boolean> {
  for (const file of entry.files) if (!(await isPresent(folder, file))) return false;
  return true;
}

async function main(): Promise<void> {
  const { values: options } = parseArgs({
    options: {
      out: { type: "string", default: SAMPLE_REPOSITORY },
      only: { type: "string", multiple: true },
      "update-catalog": { type: "boolean", default: false },
    },
  });
  const names = SAMPLE_MODELS.map((sample) => sample.name);
  const unknown = options.only?.find((name) => !names.includes(name));
  if (unknown !== undefined) throw new Error(`there is no sample model '${unknown}'; there are ${names.join(", ")}`);
  const repository = path.resolve(options.out);
  if (options["update-catalog"]) {
    const models: CatalogEntry[] = [];
    for (const sample of SAMPLE_MODELS) {
      const folder = path.join(repository, sample.name, "1");
      await makeModel(sample, folder);
      models.push(await describeModel(sample, folder));
    }
    writeCatalog({ models });
  }
  const catalog = readCatalog();
  for (const sample of SAMPLE_MODELS) {
    if (options.only !== undefined && !options.only.includes(sample.name)) continue;
    const entry = catalog.models.find((model) => model.name === sample.name);
    if (entry === undefined) throw new Error(`models/catalog.json has no entry for '${sample.name}'`);
    await generate(sample, entry, repository);
  }
}

await main().catch((error: unknown) => {
  console.error(`The sample models can't be made: ${(error as Error).message}`);
  process.exitCode = 1;
});
