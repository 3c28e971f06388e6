import { randomUUID } from "node:crypto";
import { copyFile, mkdir, open, rename, rm } from "node:fs/promises";
import path from "node:path";
import { externalizeWeights } from "./onnx/external-weights.ts";
import { writeModel } from "./onnx/write-model.ts";
import type { SampleModel } from "./sample-model.ts";
import { SAMPLE_REPOSITORY } from "./samples.ts";

const MODEL_FILE = "model.onnx";
const WEIGHTS_FILE = "weights.bin";

/** Writes the files of a sample model's version into `folder`; a file is there whole or not at all. */
export async function makeModel(sample: SampleModel, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  if (sample.build === null) {
    const shipped = path.join(SAMPLE_REPOSITORY, sample.name, "1", MODEL_FILE);
    const target = path.join(folder, MODEL_FILE);
    if (path.resolve(target) !== shipped) await copyFile(shipped, target);
    return;
  }
  const graph = sample.build();
  if (!sample.externalWeights) {
    await writeWhole(path.join(folder, MODEL_FILE), [writeModel(graph)]);
    return;
  }
  const external = externalizeWeights(graph, WEIGHTS_FILE);
  await writeWhole(path.join(folder, WEIGHTS_FILE), external.pieces);
  await writeWhole(path.join(folder, MODEL_FILE), [writeModel(external.graph)]);
}

async function writeWhole(file: string, pieces: readonly Uint8Array[]): Promise<void> {
  // Beside the version's folder, so that nothing half-written is taken for a part of the model.
  const temporary = path.join(path.dirname(file), "..", `.${path.basename(file)}.${randomUUID()}`);
  try {
    const handle = await open(temporary, "w");
    try {
      for (const piece of pieces) await handle.writeFile(piece);
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}
