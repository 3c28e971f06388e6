/**
 * A model's session in a session thread: warms it, learns the exact shapes of its outputs, and executes batches on a slot,
 * writing outputs in place where their shape is known beforehand.
 */
import type { InferenceSession } from "onnxruntime-node";
import { lengthsOfKeys } from "../engine/sequence.ts";
import { ELEMENT_BYTES, type Tensor, type TensorSpec } from "../engine/tensors.ts";
import { mixedOutputs } from "./batching-trial.ts";
import { decodeStrings, encodeStrings } from "./frames.ts";
import { align, LayoutCache, product, withItems } from "./layout.ts";
import { LoadError } from "./load-error.ts";
import type {
  KnownProfiles,
  LoadRequest,
  OutputPlace,
  PaddingTrial,
  SeparatedSizes,
  WarmedModel,
  WarmRequest,
} from "./messages.ts";
import { type TrialBatch, tryPadding } from "./padding-trial.ts";
import {
  loadRuntime,
  type RuntimeTensor,
  runtimeTypeName,
  sessionOptions,
  stringTensor,
  tensorBytes,
  tensorOver,
  tensorStrings,
} from "./runtime.ts";
import { scrubPaths } from "./scrub.ts";
import {
  type BatchKind,
  kindKey,
  modelBytes,
  planSessions,
  type SizeCosts,
  sizeCosts,
  withoutSizes,
} from "./size-sessions.ts";
import { madeUpFirst, syntheticData } from "./synthetic-inputs.ts";
import type { Turn } from "./token.ts";
import { HEAP, type TrialMemory } from "./trial-memory.ts";
import { measureBucket, type TrialRun, WARM_RUNS, warmUp } from "./warm-up.ts";

type Tensors = Record<string, RuntimeTensor>;

/** The tensors of a (shape, bucket) on one slot: made once and used for every batch of that kind. */
interface Prepared {
  readonly feeds: Tensors;
  /** Names of outputs that are written in place, with where. */
  readonly places: ReadonlyMap<string, OutputPlace>;
  readonly fetches: Record<string, RuntimeTensor | null>;
  /** Where outputs that are copied may go. */
  readonly free: number;
}

interface Ran {
  readonly results: Tensors;
  readonly executeUs: number;
}

/** What a model's trial runs share. */
interface Trials {
  readonly run: TrialRun;
  end(): void;
}

/** What a device asks of those who host a model on it. */
export interface HostOptions {
  /** Of changing the batch size; null where there are none. */
  readonly costs?: SizeCosts | null;
  readonly trialMemory?: TrialMemory;
}

export interface Executed {
  readonly executeUs: number;
  readonly outputs: readonly OutputPlace[];
  readonly payload: readonly Uint8Array[];
}

export class ExecutionError extends Error {
  /** null: it failed before the runtime was called. */
  readonly executeUs: number | null;

  constructor(message: string, executeUs: number | null) {
    super(message);
    this.executeUs = executeUs;
  }
}

/** How the runtime refuses a pre-allocated output that turned out to have another shape. */
const SHAPE_REFUSED =
  /OrtValue provided for output|pre-allocated output|shape verification failed|Tensor size mismatch|invalid dimensions for output/i;

const TRIAL_HINT =
  "inputs are made up: where the model takes only certain shapes or values, name them as `warm_shapes` or `warm_values` in its config.yaml";

/** Bound on what is remembered by shape: callers choose the shapes. */
const REMEMBERED_MAX = 256;

export class HostedModel {
  readonly #request: LoadRequest;
  /** Executes whatever has no session of its own. */
  readonly #session: InferenceSession;
  /** By the kind of batch that each executes. */
  readonly #ownSessions = new Map<string, InferenceSession>();
  readonly #trialTurn: Turn;
  readonly #trialMemory: TrialMemory;
  readonly #layouts: LayoutCache;
  /** Outputs whose shape follows from the inputs' shapes, so that it is the same for each batch of a (shape, bucket). */
  readonly #determined: Set<string>;
  /** Shapes of determined outputs by (shape, bucket). */
  readonly #learned = new Map<string, ReadonlyMap<string, readonly number[]>>();
  #prepared = new WeakMap<ArrayBuffer, Map<string, Prepared>>();
  readonly #unbatched = new Set<string>();
  #slotBytes = 0;

  private constructor(request: LoadRequest, session: InferenceSession, trialTurn: Turn, trialMemory: TrialMemory) {
    this.#request = request;
    this.#session = session;
    this.#trialTurn = trialTurn;
    this.#trialMemory = trialMemory;
    this.#layouts = new LayoutCache(request);
    this.#determined = determinedOutputs(session);
  }

  /** Creates the session and warms it, each trial run in a turn of its own; rejects with a `LoadError`. */
  static async load(
    request: LoadRequest,
    trialTurn: Turn,
    progress: (activity: string) => void,
    { costs = sizeCosts(request.provider), trialMemory = HEAP }: HostOptions = {},
  ): Promise<{ model: HostedModel; warmed: WarmedModel }> {
    const begun = performance.now();
    let session: InferenceSession;
    try {
      session = await loadRuntime().InferenceSession.create(request.path, sessionOptions(request));
    } catch (error) {
      throw new LoadError("invalid", scrubPaths(messageOf(error), request.path));
    }
    const created = performance.now();
    const model = new HostedModel(request, session, trialTurn, trialMemory);
    const trials = model.#trials();
    try {
      checkInterface(request, session);
      const everySize = await model.#warmUp(trials.run, progress);
      const { kept: result, separated } = await model.#separateSizes(everySize, costs, trials.run, progress);
      const warmed: WarmedModel = {
        ...result,
        padding: await model.#tryPadding(result),
        unbatchedOutputs: [...model.#unbatched],
        mixedOutputs: await model.#tryBatching(result),
        separated,
        slotBytes: model.#slotBytes,
        createUs: Math.round((created - begun) * 1000),
        warmUpUs: Math.round((performance.now() - created) * 1000),
      };
      return { model, warmed };
    } catch (error) {
      await model.release();
      if (error instanceof LoadError) throw error;
      const why = scrubPaths(messageOf(error), request.path);
      throw new LoadError("warm-up", `no trial run succeeded: ${why} (${TRIAL_HINT})`);
    } finally {
      trials.end();
    }
  }

  /**
   * Executes the batch whose inputs lie in `slot`, in its turn. `strings` holds the string inputs' elements one input after
   * another. Rejects with an `ExecutionError` whose message names nothing of the host. The turn is taken before this yields,
   * whatever becomes of the batch.
   */
  async execute(slot: ArrayBuffer, shape: string, bucket: number, strings: Uint8Array, turn: Turn): Promise<Executed> {
    let prepared: Prepared;
    let feeds: Tensors;
    try {
      prepared = this.#prepare(slot, shape, bucket);
      feeds = { ...prepared.feeds, ...this.#stringFeeds(shape, bucket, strings) };
    } catch (error) {
      const failed = new ExecutionError(scrubPaths(messageOf(error), this.#request.path), null);
      return await turn(() => Promise.reject(failed));
    }
    const { results, executeUs, written } = await turn(() => this.#runInPlace({ shape, bucket }, feeds, prepared));
    this.#learn(shape, bucket, results);
    return { executeUs, ...this.#collect(slot, bucket, written, results) };
  }

  /** Warms one batch size of a shape that was not warmed at load; resolves to its execution time. */
  async warm({ shape, bucket, budgetMs }: WarmRequest): Promise<number> {
    const trials = this.#trials();
    try {
      return (await measureBucket(shape, bucket, budgetMs * 1000, trials.run)).us;
    } finally {
      trials.end();
    }
  }

  async release(): Promise<void> {
    for (const session of [this.#session, ...this.#ownSessions.values()]) await session.release();
  }

  async #warmUp(
    run: TrialRun,
    progress: (activity: string) => void,
  ): Promise<Pick<WarmedModel, "buckets" | "profiles" | "coldShapes">> {
    return await warmUp(this.#request, (shape, bucket) => {
      progress(`bucket ${bucket}${shape === "" ? "" : `, ${shape}`}`);
      return run(shape, bucket);
    });
  }

  /**
   * Executes batches of made-up inputs in a slot, as those of callers are, so that profiles show what these will take. Those of one kind in a
   * row have the same inputs: to make them up anew for each would take longer than a GPU does to execute them.
   */
  #trials(): Trials {
    let slot: ArrayBuffer | null = null;
    let filled: string | null = null;
    let strings: Tensors = {};
    const end = (): void => {
      if (slot !== null) this.#trialMemory.giveBack(slot);
      slot = null;
      filled = null;
    };
    const run: TrialRun = async (shape, bucket) => {
      const kind = { shape, bucket };
      // What the first run of a kind shows its outputs to take, the next one has room for.
      const bytes = Math.max(this.#layouts.get(shape).inputsBytes, this.#slotBytes);
      if (slot === null || slot.byteLength < bytes) {
        end();
        slot = this.#trialMemory.take(bytes);
      }
      if (filled !== kindKey(kind)) {
        this.#fillSlot(slot, kind);
        strings = this.#syntheticStrings(kind);
        filled = kindKey(kind);
      }
      const prepared = this.#prepare(slot, shape, bucket);
      const feeds = { ...prepared.feeds, ...strings };
      const { results, executeUs } = await this.#trialTurn(() => this.#runInPlace(kind, feeds, prepared));
      this.#learn(shape, bucket, results);
      this.#measureOutputs(kind, results);
      return executeUs;
    };
    return { run, end };
  }

  #measureOutputs({ shape, bucket }: BatchKind, results: Tensors): void {
    let bytes = this.#layouts.get(shape).inputsBytes;
    for (const spec of this.#request.outputs) {
      const tensor = results[spec.name]!;
      if (this.#request.batched && tensor.dims[0] !== bucket) this.#unbatched.add(spec.name);
      if (spec.datatype !== "BYTES") bytes += align(tensorBytes(tensor).byteLength);
    }
    this.#slotBytes = Math.max(this.#slotBytes, bytes);
  }

  async #tryPadding({ buckets, profiles }: KnownProfiles): Promise<PaddingTrial | null> {
    const { sequence } = this.#request;
    if (sequence === null) return null;
    const lengths = lengthsOfKeys(this.#request, Object.keys(profiles));
    let failure: unknown;
    for (const model of madeUpFirst(this.#request)) {
      try {
        return await tryPadding(model, lengths, buckets[0]!, this.#trialBatch);
      } catch (error) {
        failure = error;
      }
    }
    return { ok: false, reason: `a trial run failed: ${messageOf(failure)}` };
  }

  async #tryBatching({ buckets, profiles }: KnownProfiles): Promise<readonly string[]> {
    const [shape] = Object.keys(profiles);
    if (!this.#request.tryBatching || this.#unbatched.size > 0 || shape === undefined) return [];
    return await mixedOutputs(this.#request, shape, buckets, this.#trialBatch);
  }

  readonly #trialBatch: TrialBatch = async (shape, bucket, gather) => {
    const slot = new ArrayBuffer(this.#layouts.get(shape).inputsBytes);
    gather(new Uint8Array(slot));
    const { feeds } = this.#makeTensors(slot, shape, bucket);
    const allFeeds = { ...feeds, ...this.#syntheticStrings({ shape, bucket }) };
    const { results } = await this.#trialTurn(() => this.#run({ shape, bucket }, allFeeds, {}));
    return this.#request.outputs.map(({ name, datatype }): Tensor => {
      const tensor = results[name]!;
      const data = datatype === "BYTES" ? tensorStrings(tensor) : tensorBytes(tensor);
      return { name, datatype, shape: tensor.dims, data };
    });
  };

  /**
   * Where a change of the batch size is costly, gives sizes sessions of their own as far as there is room; resolves to what is left of what was
   * warmed. What has none is executed by the session that there is, only slower.
   */
  async #separateSizes<Warmed extends KnownProfiles>(
    warmed: Warmed,
    costs: SizeCosts | null,
    run: TrialRun,
    progress: (activity: string) => void,
  ): Promise<{ readonly kept: Warmed; readonly separated: SeparatedSizes | null }> {
    const { path, buckets } = this.#request;
    const costUs = (await costs?.changeUs(warmed, run)) ?? 0;
    if (costs === null || costUs === 0) return { kept: warmed, separated: null };
    const bytes = modelBytes(path);
    const { separate, dropped } = planSessions(warmed, { modelBytes: bytes, costUs, mayDrop: buckets === null });
    let problem: string | null = null;
    for (const kind of separate) {
      progress(`session of its own for batches of ${kind.bucket}`);
      if (!costs.hasRoomFor(bytes)) problem = "the device has no memory to spare";
      else problem = await this.#separate(kind, run);
      if (problem !== null) break;
    }
    const separated = { sessions: 1 + this.#ownSessions.size, costUs, dropped, problem };
    return { kept: withoutSizes(warmed, dropped), separated };
  }

  /** Resolves to why there is no session of its own, or null. */
  async #separate(kind: BatchKind, run: TrialRun): Promise<string | null> {
    let session: InferenceSession | null = null;
    try {
      session = await loadRuntime().InferenceSession.create(this.#request.path, sessionOptions(this.#request));
      this.#ownSessions.set(kindKey(kind), session);
      for (let time = 0; time < WARM_RUNS; time++) await run(kind.shape, kind.bucket);
      return null;
    } catch (error) {
      this.#ownSessions.delete(kindKey(kind));
      await session?.release();
      return scrubPaths(messageOf(error), this.#request.path);
    }
  }

  /** Outputs go to their places, unless the shape of one is not what its declaration promises: from then on all are copied. */
  async #runInPlace(
    kind: BatchKind,
    feeds: Tensors,
    prepared: Prepared,
  ): Promise<Ran & { readonly written: Pick<Prepared, "places" | "free"> }> {
    try {
      return { ...(await this.#run(kind, feeds, prepared.fetches)), written: prepared };
    } catch (error) {
      if (prepared.places.size === 0 || !SHAPE_REFUSED.test((error as ExecutionError).message)) throw error;
      const ran = await this.#run(kind, feeds, {});
      this.#determined.clear();
      this.#learned.clear();
      this.#prepared = new WeakMap();
      return { ...ran, written: { places: new Map(), free: prepared.free } };
    }
  }

  async #run(kind: BatchKind, feeds: Tensors, fetches: Record<string, RuntimeTensor | null>): Promise<Ran> {
    const begun = performance.now();
    try {
      const session = (this.#ownSessions.size > 0 && this.#ownSessions.get(kindKey(kind))) || this.#session;
      const results = (await session.run(feeds, fetches)) as Tensors;
      return { results, executeUs: Math.round((performance.now() - begun) * 1000) };
    } catch (error) {
      const executeUs = Math.round((performance.now() - begun) * 1000);
      throw new ExecutionError(scrubPaths(messageOf(error), this.#request.path), executeUs);
    }
  }

  #prepare(slot: ArrayBuffer, shape: string, bucket: number): Prepared {
    const key = kindKey({ shape, bucket });
    let byKey = this.#prepared.get(slot);
    if (byKey === undefined) {
      byKey = new Map();
      this.#prepared.set(slot, byKey);
    }
    let prepared = byKey.get(key);
    if (prepared === undefined) {
      prepared = this.#makeTensors(slot, shape, bucket);
      if (byKey.size >= REMEMBERED_MAX) byKey.clear();
      // What is not learned yet will be after this run, and the tensors then be made anew.
      if (this.#learned.has(key)) byKey.set(key, prepared);
    }
    return prepared;
  }

  #makeTensors(slot: ArrayBuffer, shape: string, bucket: number): Prepared {
    const { inputs, outputs, batched } = this.#request;
    const layout = this.#layouts.get(shape);
    const feeds: Tensors = {};
    for (const [index, spec] of inputs.entries()) {
      if (spec.datatype === "BYTES") continue;
      const place = layout.inputs[index]!;
      feeds[spec.name] = tensorOver(spec.datatype, slot, place.offset, withItems(place.shape, bucket, batched));
    }
    const learned = this.#learned.get(kindKey({ shape, bucket }));
    const places = new Map<string, OutputPlace>();
    const fetches: Record<string, RuntimeTensor | null> = {};
    let free = layout.inputsBytes;
    for (const spec of outputs) {
      fetches[spec.name] = null;
      const dims = learned?.get(spec.name);
      if (dims === undefined || spec.datatype === "BYTES") continue;
      const bytes = product(dims) * bytesPerElement(spec);
      if (bytes === 0 || free + bytes > slot.byteLength) continue;
      fetches[spec.name] = tensorOver(spec.datatype, slot, free, dims);
      places.set(spec.name, { shape: dims, offset: free, bytes });
      free = align(free + bytes);
    }
    return { feeds, places, fetches, free };
  }

  #stringFeeds(shape: string, bucket: number, payload: Uint8Array): Tensors {
    const feeds: Tensors = {};
    let position = 0;
    const { inputs, batched } = this.#request;
    for (const [index, spec] of inputs.entries()) {
      if (spec.datatype !== "BYTES") continue;
      const dims = withItems(this.#layouts.get(shape).inputs[index]!.shape, bucket, batched);
      const { elements, end } = decodeStrings(payload, position, product(dims));
      feeds[spec.name] = stringTensor(elements, dims);
      position = end;
    }
    return feeds;
  }

  #fillSlot(slot: ArrayBuffer, { shape, bucket }: BatchKind): void {
    const { inputs } = this.#layouts.get(shape);
    for (const [index, { datatype }] of this.#request.inputs.entries()) {
      if (datatype === "BYTES") continue;
      const { offset, itemElements } = inputs[index]!;
      const data = syntheticData(datatype, itemElements * bucket, this.#request.warmValues[index]!);
      new Uint8Array(slot).set(data as Uint8Array, offset);
    }
  }

  #syntheticStrings({ shape, bucket }: BatchKind): Tensors {
    const feeds: Tensors = {};
    const { inputs, batched, warmValues } = this.#request;
    for (const [index, { name, datatype }] of inputs.entries()) {
      if (datatype !== "BYTES") continue;
      const dims = withItems(this.#layouts.get(shape).inputs[index]!.shape, bucket, batched);
      feeds[name] = stringTensor(syntheticData(datatype, product(dims), warmValues[index]!) as Uint8Array[], dims);
    }
    return feeds;
  }

  #learn(shape: string, bucket: number, results: Tensors): void {
    const key = kindKey({ shape, bucket });
    if (this.#learned.has(key)) return;
    if (this.#learned.size >= REMEMBERED_MAX) this.#learned.clear();
    const shapes = new Map<string, readonly number[]>();
    for (const name of this.#determined) shapes.set(name, results[name]!.dims);
    this.#learned.set(key, shapes);
  }

  /** Copies what the runtime did not write in place: into the slot where there is room, else into the message. */
  #collect(
    slot: ArrayBuffer,
    bucket: number,
    prepared: Pick<Prepared, "places" | "free">,
    results: Tensors,
  ): { outputs: OutputPlace[]; payload: Uint8Array[] } {
    const payload: Uint8Array[] = [];
    let { free } = prepared;
    const outputs = this.#request.outputs.map((spec): OutputPlace => {
      const inPlace = prepared.places.get(spec.name);
      if (inPlace !== undefined) return inPlace;
      const tensor = results[spec.name]!;
      if (this.#request.batched && tensor.dims[0] !== bucket) {
        const got = `[${tensor.dims.join(", ")}]`;
        const message = `output "${spec.name}" came with shape ${got}: its first dimension is not the batch's ${bucket} items`;
        throw new ExecutionError(message, null);
      }
      if (spec.datatype === "BYTES") {
        const bytes = encodeStrings(tensorStrings(tensor));
        payload.push(bytes);
        return { shape: tensor.dims, offset: -1, bytes: bytes.byteLength };
      }
      const bytes = tensorBytes(tensor);
      if (free + bytes.byteLength > slot.byteLength) {
        payload.push(bytes);
        return { shape: tensor.dims, offset: -1, bytes: bytes.byteLength };
      }
      new Uint8Array(slot, free, bytes.byteLength).set(bytes);
      const place: OutputPlace = { shape: tensor.dims, offset: free, bytes: bytes.byteLength };
      free = align(free + bytes.byteLength);
      return place;
    });
    return { outputs, payload };
  }
}

function checkInterface(request: LoadRequest, session: InferenceSession): void {
  for (const [side, specs, metadata] of [
    ["input", request.inputs, session.inputMetadata],
    ["output", request.outputs, session.outputMetadata],
  ] as const) {
    for (const spec of specs) {
      const found = metadata.find(({ name }) => name === spec.name);
      const wanted = runtimeTypeName(spec.datatype);
      const type = found === undefined ? "absent" : found.isTensor ? found.type : "no tensor";
      if (type !== wanted) throw new LoadError("mismatch", `${side} "${spec.name}" should be ${wanted} and is ${type}`);
    }
    const unknown = metadata.find(({ name }) => !specs.some((spec) => spec.name === name));
    if (unknown !== undefined && side === "input") {
      throw new LoadError("mismatch", `input "${unknown.name}" of the model file is not among the declared ones`);
    }
  }
}

/** Outputs each of whose dimensions is fixed or named like one of an input's. What is an input too the runtime does not write. */
function determinedOutputs(session: InferenceSession): Set<string> {
  const named = new Set<string>();
  const inputs = new Set<string>();
  for (const input of session.inputMetadata) {
    inputs.add(input.name);
    if (input.isTensor) for (const dim of input.shape) if (typeof dim === "string" && dim !== "") named.add(dim);
  }
  const determined = new Set<string>();
  for (const output of session.outputMetadata) {
    if (!output.isTensor || output.type === "string" || inputs.has(output.name)) continue;
    if (output.shape.every((dim) => typeof dim === "number" || named.has(dim))) determined.add(output.name);
  }
  return determined;
}

function bytesPerElement(spec: TensorSpec): number {
  return ELEMENT_BYTES[spec.datatype] ?? 0;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
