/** The models that the GPU benchmark serves: the samples, some of them twice, with batches as large as the device deserves. */
import { cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { makeModel } from "../../models/make-model.ts";
import { buildEncoder, ENCODER, ENCODER_BASE, ENCODER_SMALL, type EncoderSize } from "../../models/seeded/encoder.ts";
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
  /** Of both encoders. */
  readonly size: EncoderSize;
  readonly digits: number;
  readonly ranker: number;
  readonly encoder: number;
  readonly long: number;
  readonly resnet18: number;
  readonly tokens: readonly [short: number, long: number];
  readonly items: { readonly digits: number; readonly ranker: number; readonly encoder: number; readonly long: number };
}

/**
 * A GPU is not busy with what keeps a processor's core busy: a larger encoder and longer texts, so that the device is the bottleneck and not the
 * wire, larger batches, and more items a request. The encoders' batches still leave room for deadlines of 20 ms beside them.
 */
const ON_GPU: Sizes = {
  size: ENCODER_BASE,
  digits: 512,
  ranker: 512,
  encoder: 64,
  long: 16,
  resnet18: 32,
  tokens: [128, 512],
  items: { digits: 64, ranker: 32, encoder: 16, long: 4 },
};
const ON_CPU: Sizes = {
  size: ENCODER_SMALL,
  digits: 64,
  ranker: 64,
  encoder: 8,
  long: 8,
  resnet18: 2,
  tokens: [32, 64],
  items: { digits: 4, ranker: 1, encoder: 1, long: 1 },
};

const FLOAT_BYTES = 4;
const TOKEN_BYTES = 16;

function sizesOn(gpu: boolean): Sizes {
  return gpu ? ON_GPU : ON_CPU;
}

/** The first three are the smaller set. */
export function benchModels(onGpu: boolean): readonly BenchModel[] {
  const sizes = sizesOn(onGpu);
  const { items } = sizes;
  const [short, long] = sizes.tokens;
  const text = (name: string, maxBatch: number, count: number, tokens: number, sloFactor: number): BenchModel => {
    const shapes = { input_ids: [tokens], attention_mask: [tokens] };
    const requestBytes = count * tokens * TOKEN_BYTES;
    return { name, sample: "encoder", maxBatch, items: count, requestBytes, sloFactor, shapes };
  };
  const features = (
    name: string,
    sample: "digits" | "ranker" | "resnet18",
    count: number,
    floats: number,
    sloFactor: number,
  ): BenchModel => {
    const requestBytes = count * floats * FLOAT_BYTES;
    return { name, sample, maxBatch: sizes[sample], items: count, requestBytes, sloFactor };
  };
  return [
    features("digits", "digits", items.digits, 64, 4),
    text("encoder", sizes.encoder, items.encoder, short, 8),
    features("ranker", "ranker", items.ranker, 256, 16),
    text("encoder-long", sizes.long, items.long, long, 16),
    features("ranker-tight", "ranker", items.ranker, 256, 4),
    features("resnet18", "resnet18", 1, 3 * 224 * 224, 12),
  ];
}

/** Writes the repository anew; the samples have to be there. */
export async function writeBenchRepository(
  folder: string,
  models: readonly BenchModel[],
  onGpu: boolean,
): Promise<void> {
  rmSync(folder, { recursive: true, force: true });
  const encoder = {
    ...ENCODER,
    // Half a megabyte an answer would make the wire the bottleneck.
    build: () => buildEncoder(sizesOn(onGpu).size, { pooledOnly: true }),
    externalWeights: true,
  };
  const firstEncoder = models.find(({ sample }) => sample === "encoder")?.name ?? "";
  for (const model of models) {
    const { name, sample } = model;
    const version = path.join(folder, name, "1");
    mkdirSync(version, { recursive: true });
    if (name === firstEncoder) await makeModel(encoder, version);
    else {
      const like = sample === "encoder" ? path.join(folder, firstEncoder) : path.join(SAMPLE_REPOSITORY, sample);
      cpSync(path.join(like, "1"), version, { recursive: true });
    }
    writeBenchConfig(folder, model, null);
  }
}

/** @param sloMs the model's own where a policy goes by it; where it is null the daemon's default */
export function writeBenchConfig(folder: string, { name, maxBatch, shapes }: BenchModel, sloMs: number | null): void {
  const config = {
    max_batch_size: maxBatch,
    // Every execution is to be the device's: it is what is measured.
    replicas: 0,
    ...(shapes === undefined ? {} : { warm_shapes: [shapes] }),
    ...(sloMs === null ? {} : { slo_ms: sloMs }),
  };
  writeFileSync(path.join(folder, name, "config.yaml"), `${JSON.stringify(config)}\n`);
}
