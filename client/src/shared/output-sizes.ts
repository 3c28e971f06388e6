/** Sizes of models' outputs, where they follow from the number of items: what a daemon's model configuration tells. */
import { ARRAY_CLASSES, isDatatype } from "../datatypes.ts";
import type { ModelConfig__Output } from "../generated/inference/ModelConfig.ts";
import type { WireRequest } from "../wire/request.ts";

export interface OutputSize {
  readonly name: string;
  /** null where it is not known beforehand. */
  readonly bytes: number | null;
}

interface KnownOutput {
  readonly name: string;
  /** Of one item; null where it varies. */
  readonly itemBytes: number | null;
}

interface KnownModel {
  readonly batched: boolean;
  readonly outputs: readonly KnownOutput[];
}

/** Callers choose names, so their number is not ours. */
const MODELS_MAX = 1_000;

export type AskConfig = (model: string, version: string) => Promise<ModelConfig__Output | null>;

export class OutputSizes {
  readonly #ask: AskConfig;
  /** By model and version; null while it is being asked for, and where the daemon could not tell or told wrongly. */
  readonly #models = new Map<string, KnownModel | null>();

  constructor(ask: AskConfig) {
    this.#ask = ask;
  }

  /** Every output that the request will be answered with, in order; null where the model is not known. */
  of(request: WireRequest): readonly OutputSize[] | null {
    if (this.#models.size === 0) return null;
    const known = this.#models.get(key(request));
    if (known == null) return null;
    const items = known.batched ? request.inputs[0]?.[1].shape[0] : 1;
    if (items === undefined) return null;
    const size = ({ name, itemBytes }: KnownOutput): OutputSize => ({
      name,
      bytes: itemBytes === null ? null : itemBytes * items,
    });
    if (request.outputs.length === 0) return known.outputs.map(size);
    return request.outputs.map((name) =>
      size(known.outputs.find((one) => one.name === name) ?? { name, itemBytes: null }),
    );
  }

  /** Asks for a model's sizes, once. */
  learn(request: WireRequest): void {
    const name = key(request);
    if (this.#models.has(name)) return;
    if (this.#models.size >= MODELS_MAX) this.#models.clear();
    this.#models.set(name, null);
    this.#ask(request.model, request.version).then(
      (config) => {
        if (config !== null && this.#models.has(name)) this.#models.set(name, knownModel(config));
      },
      () => {},
    );
  }

  /** What was known of the model did not hold. */
  forbid(request: WireRequest): void {
    if (this.#models.has(key(request))) this.#models.set(key(request), null);
  }

  /** For another daemon, whose models may be others. */
  clear(): void {
    this.#models.clear();
  }
}

function key({ model, version }: WireRequest): string {
  return `${model}/${version}`;
}

function knownModel({ max_batch_size, output }: ModelConfig__Output): KnownModel {
  return {
    batched: max_batch_size > 0,
    outputs: output.map(({ name, data_type, dims }) => {
      const datatype = data_type.replace(/^TYPE_/, "");
      const varies = !isDatatype(datatype) || datatype === "BYTES" || dims.some((dim) => Number(dim) < 0);
      if (varies) return { name, itemBytes: null };
      return {
        name,
        itemBytes: dims.reduce((bytes, dim) => bytes * Number(dim), ARRAY_CLASSES[datatype].BYTES_PER_ELEMENT),
      };
    }),
  };
}
