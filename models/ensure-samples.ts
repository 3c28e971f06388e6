import { copyFile } from "node:fs/promises";
import path from "node:path";
import { type CatalogEntry, describeModel, isPresent, readCatalog, writeCatalog } from "./catalog.ts";
import { makeModel } from "./make-model.ts";
import type { SampleModel } from "./sample-model.ts";
import { SAMPLE_MODELS, SAMPLE_REPOSITORY } from "./samples.ts";

export interface EnsureOptions {
  /** Where; the sample repository itself unless given. */
  readonly repository?: string;
  /** Names of the models wanted; all unless given. */
  readonly only?: readonly string[] | undefined;
  /** Told a line for each model. */
  readonly log?: (line: string) => void;
}

/**
 * Makes the sample models that are not there yet, as the catalog has them to the byte, and resolves to the repository's
 * path. Several processes may do so at once. Rejects with a sentence where a name is unknown or a file can't be written.
 */
export async function ensureSampleModels(options: EnsureOptions = {}): Promise<string> {
  const repository = path.resolve(options.repository ?? SAMPLE_REPOSITORY);
  const wanted = options.only ?? SAMPLE_MODELS.map((sample) => sample.name);
  const catalog = readCatalog();
  for (const name of wanted) {
    const sample = SAMPLE_MODELS.find((model) => model.name === name);
    if (sample === undefined) {
      const names = SAMPLE_MODELS.map((model) => model.name).join(", ");
      throw new Error(`there is no sample model '${name}'; there are ${names}`);
    }
    const entry = catalog.models.find((model) => model.name === name);
    if (entry === undefined) throw new Error(`models/catalog.json has no entry for '${name}'`);
    const line = await ensure(sample, entry, repository);
    options.log?.(line);
  }
  return repository;
}

/** Makes all sample models in the repository and writes the catalog anew, after a change to the models. */
export async function updateCatalog(): Promise<void> {
  const models: CatalogEntry[] = [];
  for (const sample of SAMPLE_MODELS) {
    const folder = path.join(SAMPLE_REPOSITORY, sample.name, "1");
    await makeModel(sample, folder);
    models.push(await describeModel(sample, folder));
  }
  writeCatalog({ models });
}

async function ensure(sample: SampleModel, entry: CatalogEntry, repository: string): Promise<string> {
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
  return `${sample.name.padEnd(10)} ${(entry.bytes / 1e6).toFixed(1).padStart(6)} MB  ${took}`;
}

async function allPresent(entry: CatalogEntry, folder: string): Promise<boolean> {
  for (const file of entry.files) if (!(await isPresent(folder, file))) return false;
  return true;
}
