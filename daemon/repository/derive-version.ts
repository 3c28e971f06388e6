/** Puts together what an ONNX file declares and what its model's configuration says. */
import type { ConfigProblem } from "../config/problems.ts";
import { elementOf } from "../engine/sequence.ts";
import type { TensorSpec } from "../engine/tensors.ts";
import {
  type BatchedInterface,
  type DeclaredInterface,
  type DeclaredTensor,
  decideBatching,
} from "./batch-dimension.ts";
import type { ModelSettings, ModelVersion } from "./model.ts";
import type { ModelConfig } from "./model-config.ts";
import { deriveSequence } from "./sequence-padding.ts";
import { sharedDimensions } from "./shared-dimensions.ts";
import type { WrittenModelConfig } from "./written-config.ts";

/** Settings of the daemon that stand in where a model's configuration says nothing, or bound what it can ask for. */
export interface ModelDefaults {
  readonly maxBatchSize: number;
  /** null: decided when the model is profiled. */
  readonly sloMs: number | null;
  readonly queueItemsMax: number;
  readonly queueBytesMax: number;
  /** 0: no model's answers are cached. */
  readonly cacheBytesMax: number;
}

export interface VersionFiles {
  readonly name: string;
  readonly version: number;
  /** Absolute path of the ONNX file. */
  readonly path: string;
  readonly hash: string;
}

export type Derived =
  | { readonly ok: true; readonly model: ModelVersion; readonly warnings: readonly string[] }
  | { readonly ok: false; readonly problems: readonly ConfigProblem[] };

export function deriveVersion(
  files: VersionFiles,
  declared: DeclaredInterface,
  config: ModelConfig,
  defaults: ModelDefaults,
): Derived {
  const { written } = config;
  const problems: ConfigProblem[] = [];
  const warnings: string[] = [];
  const problem = (at: readonly (string | number)[], message: string): void => {
    problems.push(config.problemAt(at, message));
  };

  checkDatatypes(declared, config, problem);
  const shaped = withConfiguredShapes(declared, config, problem);
  const interfaces = decideBatching(shaped, written.batched);
  if ("problem" in interfaces) {
    problem(["batched"], interfaces.problem);
    return { ok: false, problems };
  }
  for (const tensor of shaped.inputs.filter((input) => input.dims === null)) {
    problem(
      [],
      `input '${tensor.name}' has no shape in the ONNX file; give its items' shape: \`shapes: { ${tensor.name}: [...] }\``,
    );
  }
  if (interfaces.warning !== null) warnings.push(interfaces.warning);
  const sizes = batchSizes(interfaces, config, defaults, problem, warnings);
  const warmShapes = warmItemShapes(interfaces, config, problem);
  checkWarmValues(interfaces, written, problem);
  const { sequence, proposal } = deriveSequence(interfaces, shaped, written, problem);
  if (proposal !== null) warnings.push(proposal);
  if (written.fallback === files.name)
    problem(["fallback"], "names the model itself; another model is to answer for it");
  for (const version of unservedTraffic(written)) {
    problem(["traffic", version], `names version ${version}, which \`versions\` leaves out`);
  }
  const cacheAsked = written.cache ?? false;
  if (cacheAsked && defaults.cacheBytesMax === 0) {
    warnings.push("its answers are not cached, though it asks for it: the daemon's cache_bytes_max is 0");
  }
  if (written.device === "gpu" && typeof written.replicas === "number" && written.replicas > 0) {
    problem(["replicas"], "has a meaning only with device: cpu or auto; here it is gpu");
  }
  if (written.device === "cpu" && written.replicas === 0) {
    problem(["replicas"], "is 0, but device: cpu leaves the model no other place");
  }
  if (problems.length > 0) return { ok: false, problems };

  const settings: ModelSettings = {
    sloMs: written.slo_ms ?? defaults.sloMs,
    device: written.device ?? "auto",
    buckets: sizes.buckets,
    replicas: written.replicas ?? "auto",
    threads: written.threads ?? null,
    queueItemsMax: written.queue_items_max ?? defaults.queueItemsMax,
    queueBytesMax: written.queue_bytes_max ?? defaults.queueBytesMax,
    weight: written.weight ?? 1,
    minShare: written.min_share ?? 0,
    shedImplicit: written.shed ?? false,
    bestEffortDefault: written.best_effort ?? false,
    fallback: fallbackOf(written),
    traffic: trafficShares(written),
    cache: cacheAsked && defaults.cacheBytesMax > 0,
    warmShapes,
    warmValues: written.warm_values ?? {},
  };
  const model: ModelVersion = {
    key: `${files.name}/${files.version}`,
    ...files,
    inputs: interfaces.inputs,
    outputs: interfaces.outputs,
    batched: interfaces.batched,
    batchedAsserted: interfaces.batched && written.batched === true,
    unbatchedReason: interfaces.unbatchedReason,
    maxBatchSize: sizes.maxBatchSize,
    sharedDimensions: sharedDimensions(interfaces, shaped.inputs),
    sequence,
    settings,
  };
  return { ok: true, model, warnings };
}

/** Versions with traffic that the version policy can't mean. */
function unservedTraffic({ traffic, versions }: WrittenModelConfig): string[] {
  if (!Array.isArray(versions)) return [];
  return Object.keys(traffic ?? {}).filter((version) => !versions.includes(Number(version)));
}

function fallbackOf({ fallback }: WrittenModelConfig): ModelSettings["fallback"] {
  if (fallback === undefined) return null;
  const [model = "", version = ""] = fallback.split("/");
  return { model, version };
}

function trafficShares({ traffic }: WrittenModelConfig): ModelSettings["traffic"] {
  if (traffic === undefined) return null;
  const shares = Object.entries(traffic).map(([version, share]) => ({ version: Number(version), share }));
  return shares.sort((a, b) => a.version - b.version);
}

type Report = (at: readonly (string | number)[], message: string) => void;

function checkDatatypes(declared: DeclaredInterface, config: ModelConfig, problem: Report): void {
  for (const { name, datatype } of [...declared.inputs, ...declared.outputs]) {
    const stated = Object.hasOwn(config.datatypes, name) ? config.datatypes[name] : datatype;
    if (stated !== datatype)
      problem(["datatypes", name], `states ${stated}, but '${name}' is ${datatype} in the ONNX file`);
  }
}

/**
 * Applies `shapes`: item shapes that close dimensions which the file leaves open. A shape may also be written in full,
 * with the first dimension, where the model is not asserted to be batched.
 */
function withConfiguredShapes(declared: DeclaredInterface, config: ModelConfig, problem: Report): DeclaredInterface {
  const shapes = config.written.shapes ?? {};
  const all = [...declared.inputs, ...declared.outputs];
  for (const name of Object.keys(shapes)) {
    if (!all.some((tensor) => tensor.name === name)) {
      problem(["shapes", name], `the model has no such input or output; it has ${namesOf(all)}`);
    }
  }
  const apply = (tensor: DeclaredTensor): DeclaredTensor => {
    const shape = Object.hasOwn(shapes, tensor.name) ? shapes[tensor.name] : undefined;
    if (shape === undefined) return tensor;
    const unbatched = config.written.batched === false;
    const open = shape.map((dim) => (dim === -1 ? null : dim));
    if (tensor.dims === null) return { ...tensor, dims: unbatched ? open : [batchSymbolOf(declared), ...open] };
    const isFull = unbatched || (config.written.batched === undefined && shape.length === tensor.dims.length);
    const known = isFull ? tensor.dims : tensor.dims.slice(1);
    const fits =
      known.length === shape.length &&
      known.every((dim, axis) => typeof dim !== "number" || shape[axis] === -1 || dim === shape[axis]);
    if (!fits) {
      const expected = shownDims(unbatched ? tensor.dims : tensor.dims.slice(1));
      problem(["shapes", tensor.name], `got [${shape}], which does not fit ${expected} of the ONNX file`);
      return tensor;
    }
    const closed = known.map((dim, axis) => (shape[axis] === -1 ? (dim as number | string | null) : shape[axis]!));
    return { ...tensor, dims: isFull ? closed : [tensor.dims[0]!, ...closed] };
  };
  return { inputs: declared.inputs.map(apply), outputs: declared.outputs.map(apply) };
}

function batchSymbolOf(declared: DeclaredInterface): string | number | null {
  return declared.inputs.find((input) => input.dims !== null && input.dims.length > 0)?.dims?.[0] ?? null;
}

function batchSizes(
  interfaces: BatchedInterface,
  config: ModelConfig,
  defaults: ModelDefaults,
  problem: Report,
  warnings: string[],
): { readonly maxBatchSize: number; readonly buckets: readonly number[] | null } {
  const { max_batch_size: max, buckets, batched } = config.written;
  if (!interfaces.batched) {
    const ignored = max !== undefined && max > 1 ? "max_batch_size" : (buckets?.at(-1) ?? 1) > 1 ? "buckets" : null;
    if (ignored !== null && batched === false) problem([ignored], "is above 1, but batched is false");
    else if (ignored !== null && interfaces.warning === null) {
      const firsts = interfaces.inputs.map((input) => `'${input.name}' is [${input.shape}]`).join(", ");
      problem([ignored], `is above 1, but the ONNX file has no batch dimension that varies: input ${firsts}`);
    } else if (ignored !== null) warnings.push(`${ignored} is ignored, since the model has no batch dimension`);
    return { maxBatchSize: 1, buckets: [1] };
  }
  const fixed = interfaces.fixedBatch;
  if (fixed !== null) {
    if (max !== undefined && max !== fixed) {
      problem(["max_batch_size"], `is ${max}, but the ONNX file fixes the first dimension at ${fixed}`);
    }
    if (buckets !== undefined && (buckets.length !== 1 || buckets[0] !== fixed)) {
      problem(["buckets"], `must be [${fixed}]: the ONNX file fixes the first dimension`);
    }
    return { maxBatchSize: fixed, buckets: [fixed] };
  }
  if (buckets !== undefined && max !== undefined && buckets.at(-1) !== max) {
    problem(["buckets"], `end with ${buckets.at(-1)}, but max_batch_size is ${max}; the last bucket must equal it`);
  }
  return { maxBatchSize: max ?? buckets?.at(-1) ?? defaults.maxBatchSize, buckets: buckets ?? null };
}

/** Completes each warm shape to all inputs: the item shapes that the device warms. */
function warmItemShapes(
  interfaces: BatchedInterface,
  config: ModelConfig,
  problem: Report,
): ModelSettings["warmShapes"] {
  const itemShape = (spec: TensorSpec): readonly number[] => (interfaces.batched ? spec.shape.slice(1) : spec.shape);
  return (config.written.warm_shapes ?? []).map((given, index) => {
    for (const name of Object.keys(given)) {
      if (!interfaces.inputs.some((input) => input.name === name)) {
        problem(["warm_shapes", index, name], `the model has no such input; it has ${namesOf(interfaces.inputs)}`);
      }
    }
    const complete: Record<string, readonly number[]> = {};
    for (const input of interfaces.inputs) {
      const expected = itemShape(input);
      const shape = Object.hasOwn(given, input.name) ? given[input.name] : undefined;
      if (shape === undefined) {
        if (expected.includes(-1)) problem(["warm_shapes", index], `lacks input '${input.name}', whose shape varies`);
        complete[input.name] = expected;
        continue;
      }
      const fits = shape.length === expected.length && expected.every((dim, axis) => dim === -1 || dim === shape[axis]);
      if (!fits) {
        problem(["warm_shapes", index, input.name], `got [${shape}]; expected an item's shape that fits [${expected}]`);
      }
      complete[input.name] = shape;
    }
    return complete;
  });
}

function checkWarmValues({ inputs }: BatchedInterface, { warm_values }: WrittenModelConfig, problem: Report): void {
  for (const [name, value] of Object.entries(warm_values ?? {})) {
    const input = inputs.find((spec) => spec.name === name);
    if (input === undefined) {
      problem(["warm_values", name], `the model has no such input; it has ${namesOf(inputs)}`);
    } else if (input.datatype === "BYTES") {
      if (typeof value !== "string") problem(["warm_values", name], `got ${value}; the input takes strings`);
    } else if (typeof value === "string") {
      problem(["warm_values", name], `got ${JSON.stringify(value)}; the input takes numbers (${input.datatype})`);
    } else if (elementOf(input.datatype, value) === null) {
      problem(["warm_values", name], `got ${value}, which can't be given as ${input.datatype}`);
    }
  }
}

function namesOf(tensors: readonly { readonly name: string }[]): string {
  return tensors.map((tensor) => `'${tensor.name}'`).join(", ");
}

function shownDims(dims: readonly (number | string | null)[]): string {
  return `[${dims.map((dim) => (typeof dim === "number" ? dim : -1)).join(",")}]`;
}
