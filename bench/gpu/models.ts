/** The models that the GPU benchmark serves: the samples, some of them twice, with batches as large as the device deserves. */
import { cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { SAMPLE_REPOSITORY } from "../live/sample-models.ts";

/** One model as it is served and called. */
export interface BenchModel {
  readonly name: string;
  /** Sample that it is a copy of. */
  readonly sample: "digits" | "ranker" | "encoder" | "resnet18";
  readonly maxBatch: number;
  /** Items of each request. */
  readonly items: number;
  /** Bytes that a request carries. */
  readonly requestBytes: number;
  /** Deadlines are so many times an execution of the largest batch, but no less than what the wire needs. */
  readonly sloFactor: number;
  /** Shapes of an item's inputs, where they vary. */
  readonly shapes?: Readonly<Record<string, readonly number[]>>;
}

interface Sizes {
  readonly digits: number;
  readonly ranker: number;
  readonly encoder: number;
  readonly long: number;
  readonly resnet18: number;
  readonly tokens: readonly [short: number, long: number];
}

/** A GPU is not busy with what keeps a processor's core busy: larger batches, longer texts, more items a request. */
const ON_GPU: Sizes = { digits: 256, ranker: 256, encoder: 64, long: 32, resnet18: 32, tokens: [128, 512] };
const ON_CPU: Sizes = { digits: 64, ranker: 64, encoder: 8, long: 8, resnet18: 2, tokens: [32, 64] };

const FLOAT_BYTES = 4;
const TOKEN_BYTES = 16;

/** The first three are the smaller set. */
export function benchModels(onGpu: boolean): readonly BenchModel[] {
  const sizes = onGpu ? ON_GPU : ON_CPU;
  const many = onGpu ? 8 : 1;
  const [short, long] = sizes.tokens;
  const text = (name: string, maxBatch: number, tokens: number, sloFactor: number): BenchModel => {
    const items = onGpu ? 4 : 1;
    const shapes = { input_ids: [tokens], attention_mask: [tokens] };
    return { name, sample: "encoder", maxBatch, items, requestBytes: items * tokens * TOKEN_BYTES, sloFactor, shapes };
  };
  const ranker = (name: string, sloFactor: number): BenchModel => {
    const requestBytes = many * 256 * FLOAT_BYTES;
    return { name, sample: "ranker", maxBatch: sizes.ranker, items: many, requestBytes, sloFactor };
  };
  const digitsBytes = 4 * many * 64 * FLOAT_BYTES;
  const imageBytes = 3 * 224 * 224 * FLOAT_BYTES;
  return [
    {
      name: "digits",
      sample: "digits",
      maxBatch: sizes.digits,
      items: 4 * many,
      requestBytes: digitsBytes,
      sloFactor: 4,
    },
    text("encoder", sizes.encoder, short, 8),
    ranker("ranker", 16),
    text("encoder-long", sizes.long, long, 16),
    ranker("ranker-tight", 4),
    {
      name: "resnet18",
      sample: "resnet18",
      maxBatch: sizes.resnet18,
      items: 1,
      requestBytes: imageBytes,
      sloFactor: 12,
    },
  ];
}

/** Writes the repository anew; the samples have to be there. */
export function writeBenchRepository(folder: string, models: readonly BenchModel[]): void {
  rmSync(folder, { recursive: true, force: true });
  for (const { name, sample, maxBatch, shapes } of models) {
    const target = path.join(folder, name);
    mkdirSync(target, { recursive: true });
    cpSync(path.join(SAMPLE_REPOSITORY, sample, "1"), path.join(target, "1"), { recursive: true });
    // Every execution is to be the device's: it is what is measured.
    const config = {
      max_batch_size: maxBatch,
      replicas: 0,
      ...(shapes === undefined ? {} : { warm_shapes: [shapes] }),
    };
    writeFileSync(path.join(target, "config.yaml"), `${JSON.stringify(config)}\n`);
  }
}
