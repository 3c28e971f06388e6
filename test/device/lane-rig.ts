/** Drives a lane through its port, the way the engine does, and compares with a session of its own. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import type { LaneDevice } from "../../daemon/device/lane-device.ts";
import type { LaneEvents, LaneOptions, LoadedModel } from "../../daemon/device/lane-options.ts";
import { LaneProcess } from "../../daemon/device/lane-process.ts";
import type { LoadError } from "../../daemon/device/load-error.ts";
import { CPU_PROVIDER, type Provider, parseProvider } from "../../daemon/device/provider.ts";
import type { AcceptedRequest, Execution, ExecutionResult } from "../../daemon/engine/ports.ts";
import { bucketedShape, type SequencePadding } from "../../daemon/engine/sequence.ts";
import type { Datatype, InputTensor, Tensor, TensorData, TensorSpec } from "../../daemon/engine/tensors.ts";
import type { ModelSettings, ModelVersion } from "../../daemon/repository/model.ts";
import { loneSession } from "../support/onnx-session.ts";

const DATATYPES: Readonly<Record<string, Datatype>> = {
  bool: "BOOL",
  uint8: "UINT8",
  uint16: "UINT16",
  uint32: "UINT32",
  uint64: "UINT64",
  int8: "INT8",
  int16: "INT16",
  int32: "INT32",
  int64: "INT64",
  float16: "FP16",
  float32: "FP32",
  float64: "FP64",
  string: "BYTES",
};

const SETTINGS: ModelSettings = {
  sloMs: null,
  device: "auto",
  buckets: null,
  replicas: 0,
  threads: null,
  queueItemsMax: 1000,
  queueBytesMax: 1e9,
  weight: 1,
  minShare: 0,
  shedImplicit: false,
  bestEffortDefault: false,
  fallback: null,
  traffic: null,
  cache: false,
  warmShapes: [],
  warmValues: {},
};

/** What the tests execute on: `SLACKLINE_TEST_DEVICE=webgpu` runs them through that provider. */
export const TEST_PROVIDER: Provider = parseProvider(process.env.SLACKLINE_TEST_DEVICE ?? "cpu") ?? CPU_PROVIDER;

export interface VersionOptions {
  readonly name?: string;
  readonly batched?: boolean;
  readonly maxBatchSize?: number;
  readonly sequence?: SequencePadding | null;
  readonly settings?: Partial<ModelSettings>;
}

/** A lane with what it needs around it; `close` ends it and removes its files. */
export class LaneRig {
  readonly folder: string;
  /** Everything that happened, in order. */
  readonly happened: (readonly [string, string])[] = [];
  lane!: LaneProcess;
  #executions = 0;
  #requests = 0;
  readonly #ends = new Map<number, (result: ExecutionResult) => void>();
  readonly #watchers = new Set<() => void>();

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async start(options: Partial<LaneOptions> = {}): Promise<LaneRig> {
    const rig = new LaneRig(await mkdtemp(path.join(os.tmpdir(), "slackline-lane-")));
    const events: LaneEvents = {
      restarted: (device) => rig.#attach(device, "restarted"),
      reloaded: ({ model }: LoadedModel) => rig.#note("reloaded", model),
      dropped: (model: string, error: LoadError) => rig.#note("dropped", `${model}: ${error.code}: ${error.message}`),
      progress: (model, activity) => rig.#note("progress", `${model}: ${activity}`),
      log: (level, message) => rig.#note(level, message),
    };
    rig.lane = await LaneProcess.start({
      lane: "lane0",
      provider: TEST_PROVIDER,
      deviceName: "test",
      threads: 1,
      cacheFolder: null,
      profileBudgetMs: 20,
      events,
      ...options,
    });
    rig.#attach(rig.lane.device, "started");
    return rig;
  }

  async close(): Promise<void> {
    await this.lane.close();
    await rm(this.folder, { recursive: true, force: true });
  }

  /** Writes a model file and describes it as the repository would. */
  async version(bytes: Uint8Array, options: VersionOptions = {}): Promise<ModelVersion> {
    const session = await loneSession(bytes);
    function specs(metadata: typeof session.inputMetadata): TensorSpec[] {
      return metadata.map((value) => {
        assert.ok(value.isTensor);
        const shape = value.shape.map((dim) => (typeof dim === "number" ? dim : -1));
        return { name: value.name, datatype: DATATYPES[value.type]!, shape };
      });
    }
    const version = await this.brokenVersion(bytes, options);
    const described = { ...version, inputs: specs(session.inputMetadata), outputs: specs(session.outputMetadata) };
    await session.release();
    return described;
  }

  /** Like `version`, for bytes that are no model. */
  async brokenVersion(bytes: Uint8Array, options: VersionOptions = {}): Promise<ModelVersion> {
    const { name = "model", batched = true, maxBatchSize = batched ? 8 : 1, sequence = null, settings = {} } = options;
    const folder = path.join(this.folder, name, "1");
    await mkdir(folder, { recursive: true });
    const file = path.join(folder, "model.onnx");
    await writeFile(file, bytes);
    return {
      key: `${name}/1`,
      name,
      version: 1,
      path: file,
      hash: createHash("sha256").update(bytes).digest("hex"),
      inputs: [],
      outputs: [],
      batched,
      batchedAsserted: false,
      unbatchedReason: null,
      maxBatchSize,
      sharedDimensions: [],
      sequence,
      settings: { ...SETTINGS, ...settings },
    };
  }

  request(version: ModelVersion, inputs: readonly InputTensor[]): AcceptedRequest {
    const { shape, padding } = bucketedShape(
      version,
      inputs.map((input) => input.shape),
    );
    return {
      id: ++this.#requests,
      model: version.key,
      items: version.batched ? inputs[0]!.shape[0]! : 1,
      shape,
      padding,
      inputs,
      outputs: null,
      deadlineUs: null,
      explicit: false,
      expiresUs: null,
      tenant: "",
      arrivedUs: 0,
      bytes: 0,
    };
  }

  execution(version: ModelVersion, requests: readonly AcceptedRequest[], bucket?: number): Execution {
    const items = requests.reduce((sum, request) => sum + request.items, 0);
    return {
      plan: {
        execution: ++this.#executions,
        lane: "lane0",
        model: version.key,
        shape: requests[0]!.shape,
        ids: requests.map(({ id }) => id),
        items,
        bucket: bucket ?? items,
        steps: [{ predictedUs: 1000 }],
        reason: "deadline",
      },
      requests,
    };
  }

  /** Starts the batch and resolves to how it ended. Outputs are valid until it is released. */
  start(execution: Execution): Promise<ExecutionResult> {
    return new Promise((resolve) => {
      this.#ends.set(execution.plan.execution, resolve);
      this.lane.device.start(execution);
    });
  }

  /** Executes one batch and returns copies of its outputs; fails where it did. */
  async run(version: ModelVersion, requests: readonly AcceptedRequest[], bucket?: number): Promise<Tensor[]> {
    const execution = this.execution(version, requests, bucket);
    const result = await this.start(execution);
    assert.ok(result.ok, result.ok ? "" : result.message);
    const outputs = result.outputs.map((output) => ({ ...output, data: copyOf(output.data) }));
    this.lane.device.release(execution);
    return outputs;
  }

  /** Resolves once something of this kind has happened whose text contains `text`. */
  async until(kind: string, text: string = "", count: number = 1): Promise<void> {
    const enough = (): boolean => this.happened.filter(([k, t]) => k === kind && t.includes(text)).length >= count;
    while (!enough()) {
      await new Promise<void>((resolve) => {
        const watcher = (): void => {
          this.#watchers.delete(watcher);
          resolve();
        };
        this.#watchers.add(watcher);
      });
    }
  }

  #attach(device: LaneDevice, kind: string): void {
    device.attach({
      ended: (_lane, execution, result) => {
        this.#note("ended", execution.plan.model);
        this.#ends.get(execution.plan.execution)?.(result);
        this.#ends.delete(execution.plan.execution);
      },
      lost: (_lane, reason) => this.#note("lost", reason),
    });
    this.#note(kind, device.lane);
  }

  #note(kind: string, text: string): void {
    this.happened.push([kind, text]);
    for (const watcher of [...this.#watchers]) watcher();
  }
}

function copyOf(data: TensorData): TensorData {
  return data instanceof Uint8Array ? Uint8Array.from(data) : data.map((element) => Uint8Array.from(element));
}

/** A tensor of the given elements' bytes. */
export function tensor(name: string, datatype: Datatype, shape: readonly number[], array: ArrayBufferView): Tensor {
  return { name, datatype, shape, data: new Uint8Array(array.buffer, array.byteOffset, array.byteLength).slice() };
}

export function floats(name: string, shape: readonly number[], values: readonly number[]): Tensor {
  return tensor(name, "FP32", shape, Float32Array.from(values));
}

export function strings(name: string, shape: readonly number[], values: readonly string[]): Tensor {
  return { name, datatype: "BYTES", shape, data: values.map((value) => Buffer.from(value)) };
}

/** The same tensor, with its bytes outside the daemon; throws what `problem` gives when they are copied, null for nothing. */
export function outside(tensor: InputTensor, problem: () => Error | null = () => null): InputTensor {
  const bytes = tensor.data as Uint8Array;
  const copyTo = (target: Uint8Array): void => {
    const error = problem();
    // As where a region ends in the middle of the bytes.
    target.set(error === null ? bytes : new Uint8Array(bytes.byteLength >> 1).fill(0xff));
    if (error !== null) throw error;
  };
  return { ...tensor, data: { byteLength: bytes.byteLength, copyTo } };
}

/** The numbers of a float tensor. */
export function floatsOf(output: InputTensor): number[] {
  return [...new Float32Array((output.data as Uint8Array).slice().buffer)];
}
