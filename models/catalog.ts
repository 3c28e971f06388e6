import { createHash } from "node:crypto";
import { createReadStream, readFileSync, writeFileSync } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import path from "node:path";
import { PACKAGE_ROOT } from "../daemon/package-root.ts";
import { type OnnxValue, readOnnxMetadata, wireShape } from "../daemon/repository/onnx-metadata.ts";
import type { SampleModel } from "./sample-model.ts";

/** `models/catalog.json`: what the sample models are. */
export interface Catalog {
  readonly models: readonly CatalogEntry[];
}

export interface CatalogEntry {
  readonly name: string;
  readonly task: string;
  readonly weights: SampleModel["weights"];
  readonly provenance: string;
  readonly license: string;
  readonly notes: string;
  readonly inputs: readonly CatalogTensor[];
  readonly outputs: readonly CatalogTensor[];
  readonly parameters: number;
  /** Of all files. */
  readonly bytes: number;
  /** Share of the held-out test images that it gets right; trained models only. */
  readonly test_accuracy?: number;
  /** Files of version 1, sorted by name. */
  readonly files: readonly CatalogFile[];
}

export interface CatalogTensor {
  readonly name: string;
  readonly datatype: string;
  /** −1 where a dimension varies; the batch dimension comes first. */
  readonly shape: readonly number[];
}

export interface CatalogFile {
  readonly name: string;
  readonly bytes: number;
  /** Hex. */
  readonly sha256: string;
}

const CATALOG_PATH: string = path.join(PACKAGE_ROOT, "models/catalog.json");

export function readCatalog(): Catalog {
  return JSON.parse(readFileSync(CATALOG_PATH, "utf8"));
}

export function writeCatalog(catalog: Catalog): void {
  writeFileSync(CATALOG_PATH, `${JSON.stringify(catalog, null, 2)}\n`);
}

/** Describes a model whose files lie in the version folder `folder`. */
export async function describeModel(sample: SampleModel, folder: string): Promise<CatalogEntry> {
  const { name, task, weights, provenance, license, notes, testAccuracy } = sample;
  const metadata = await readOnnxMetadata(path.join(folder, "model.onnx"));
  const files: CatalogFile[] = [];
  for (const file of (await readdir(folder)).sort()) files.push(await describeFile(folder, file));
  const accuracy = testAccuracy === undefined ? {} : { test_accuracy: Number(testAccuracy.toFixed(4)) };
  return {
    name,
    task,
    weights,
    provenance,
    license,
    notes,
    inputs: metadata.inputs.map(tensor),
    outputs: metadata.outputs.map(tensor),
    parameters: metadata.parameters,
    bytes: files.reduce((sum, file) => sum + file.bytes, 0),
    ...accuracy,
    files,
  };
}

/** Whether a file is there as the catalog has it, to the byte. */
export async function isPresent(folder: string, expected: CatalogFile): Promise<boolean> {
  try {
    const { size } = await stat(path.join(folder, expected.name));
    return size === expected.bytes && (await describeFile(folder, expected.name)).sha256 === expected.sha256;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}

async function describeFile(folder: string, name: string): Promise<CatalogFile> {
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const chunk of createReadStream(path.join(folder, name), { highWaterMark: 2 ** 20 })) {
    hash.update(chunk);
    bytes += chunk.length;
  }
  return { name, bytes, sha256: hash.digest("hex") };
}

function tensor(value: OnnxValue): CatalogTensor {
  return { name: value.name, datatype: value.datatype ?? value.elementType, shape: wireShape(value) ?? [] };
}
