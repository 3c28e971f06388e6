/**
 * Sizes of models' outputs, where they follow from the number of items: what a daemon's model configuration tells, for as long as answers
 * bear it out. A model may change at any time, so all this is no more than an expectation.
 */
import { ARRAY_CLASSES, isDatatype } from "../datatypes.ts";
import type { ModelConfig__Output } from "../generated/inference/ModelConfig.ts";
import { nowMs } from "../infer-call.ts";
import type { WireRequest } from "../wire/request.ts";
import type { WireResponse } from "../wire/response.ts";

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

interface Entry {
  /** null while it is being asked for, and where the daemon could not tell or told wrongly. */
  known: KnownModel | null;
  readonly sinceMs: number;
}

/** Callers choose names, so their number is not ours. */
const MODELS_MAX = 1_000;
/** What the daemon could not tell, or told wrongly, is asked for again after this long. */
const ASK_AGAIN_MS = 60_000;

export type AskConfig = (model: string, version: string) => Promise<ModelConfig__Output | null>;

export class OutputSizes {
  readonly #ask: AskConfig;
  /** By model and version. */
  readonly #models = new Map<string, Entry>();
  /** The version that is expected to answer, since it did so last: by model and the version that requests ask for, if any. */
  readonly #versions = new Map<string, string>();

  constructor(ask: AskConfig) {
    this.#ask = ask;
  }

  /** Every output that the request is expected to be answered with; null where the model is not known. */
  of(request: WireRequest): readonly OutputSize[] | null {
    const version = this.#versions.get(key(request.model, request.version));
    if (version === undefined) return null;
    const known = this.#models.get(key(request.model, version))?.known ?? null;
    if (known === null) return null;
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

  /** Expects the next answer of the version that gave this one, and forgets what this one contradicts. */
  check(request: WireRequest, response: WireResponse): void {
    const asked = key(request.model, request.version);
    if (!this.#versions.has(asked)) return;
    this.#versions.set(asked, response.version);
    if (!this.#expected(request, response)) this.distrust(request);
  }

  /** Asks for the sizes of the version that answered, unless they are known or were asked for a moment ago. */
  learn(request: WireRequest, version: string): void {
    const name = key(request.model, version);
    const before = this.#models.get(name);
    if (before === undefined && this.#models.size >= MODELS_MAX) this.clear();
    this.#versions.set(key(request.model, request.version), version);
    if (before !== undefined && (before.known !== null || nowMs() - before.sinceMs < ASK_AGAIN_MS)) return;
    const entry = unknown();
    this.#models.set(name, entry);
    this.#ask(request.model, version).then(
      (config) => {
        if (config !== null) entry.known = knownModel(config);
      },
      () => {},
    );
  }

  /** What was known of the version that is expected to answer did not hold. */
  distrust(request: WireRequest): void {
    const version = this.#versions.get(key(request.model, request.version));
    if (version === undefined) return;
    const name = key(request.model, version);
    if (this.#models.has(name)) this.#models.set(name, unknown());
  }

  #expected(request: WireRequest, { outputs }: WireResponse): boolean {
    const expected = this.of(request);
    if (expected === null) return true;
    // Of outputs that were chosen there are no others: the daemon sees to that.
    if (request.outputs.length === 0 && Object.keys(outputs).length !== expected.length) return false;
    return expected.every(({ name, bytes }) => {
      const output = outputs[name];
      if (output === undefined) return false;
      return bytes === null || (output.datatype !== "BYTES" && output.data.byteLength === bytes);
    });
  }

  /** For another daemon, whose models may be others. */
  clear(): void {
    this.#models.clear();
    this.#versions.clear();
  }
}

function unknown(): Entry {
  return { known: null, sinceMs: nowMs() };
}

function key(model: string, version: string): string {
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
