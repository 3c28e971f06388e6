/**
 * What a device lane adds to an execution: latency over calling the runtime in the same thread, hand-over, gap between batches,
 * gather throughput, resident memory of its process.
 * Rounds alternate between the variants, so that a noisy machine is noisy for all. One thread per session.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import path from "node:path";
import type { InferenceSession } from "onnxruntime-node";
import { Arena, mapRegion } from "../daemon/device/arena.ts";
import { gatherRows } from "../daemon/device/gather.ts";
import type { LaneEvents, Transport } from "../daemon/device/lane-options.ts";
import { LaneProcess } from "../daemon/device/lane-process.ts";
import { batchLayout } from "../daemon/device/layout.ts";
import { CPU_PROVIDER } from "../daemon/device/provider.ts";
import { loadRuntime, sessionOptions } from "../daemon/device/runtime.ts";
import type { AcceptedRequest, Execution, ExecutionResult } from "../daemon/engine/ports.ts";
import type { TensorSpec } from "../daemon/engine/tensors.ts";
import { PACKAGE_ROOT } from "../daemon/package-root.ts";
import type { ModelVersion } from "../daemon/repository/model.ts";
import { readOnnxMetadata, wireShape } from "../daemon/repository/onnx-metadata.ts";
import { noop } from "../models/onnx/tiny.ts";
import { exitOnSignals, temporaryFolder } from "../tools/command-line/clean-up.ts";
import { checkWritable, writeJson } from "../tools/command-line/output-file.ts";
import { COUNT, numberOf, runTool, ToolError } from "../tools/command-line/run-tool.ts";

const USAGE = `usage: npm run bench:lane -- [options]

What a device lane adds to an execution, over calling the runtime in the same thread.

  --rounds N   (default 5)
  --runs N     executions of each variant in a round (default 400)
  --json FILE  writes the figures as JSON
`;

const events: LaneEvents = {
  restarted: () => {},
  reloaded: () => {},
  dropped: (model, error) => console.error(`${model} dropped: ${error.message}`),
  log: (_level, message) => console.error(message),
};

function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN;
}

async function versionOf(name: string, file: string): Promise<ModelVersion> {
  const metadata = await readOnnxMetadata(file);
  const specs = (values: typeof metadata.inputs): TensorSpec[] =>
    values.map((value) => ({ name: value.name, datatype: value.datatype!, shape: wireShape(value)! }));
  return {
    key: `${name}/1`,
    name,
    version: 1,
    path: file,
    hash: name,
    inputs: specs(metadata.inputs),
    outputs: specs(metadata.outputs),
    batched: true,
    batchedAsserted: false,
    unbatchedReason: null,
    maxBatchSize: 32,
    sharedDimensions: [],
    sequence: null,
    settings: {
      sloMs: null,
      device: "auto",
      buckets: null,
      replicas: 0,
      threads: 1,
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
    },
  };
}

let nextId = 0;

function executionOf(version: ModelVersion): Execution {
  const shapes = version.inputs.map(({ shape }) => [1, ...shape.slice(1)]);
  const id = ++nextId;
  const request: AcceptedRequest = {
    id,
    model: version.key,
    items: 1,
    shape: "",
    inputs: version.inputs.map((spec, index) => ({
      name: spec.name,
      datatype: spec.datatype,
      shape: shapes[index]!,
      data: new Uint8Array(4 * shapes[index]!.reduce((a, b) => a * b, 1)),
    })),
    outputs: null,
    deadlineUs: null,
    explicit: false,
    expiresUs: null,
    tenant: "",
    arrivedUs: 0,
    bytes: 0,
  };
  return {
    plan: {
      execution: id,
      lane: "lane0",
      model: version.key,
      shape: "",
      ids: [id],
      items: 1,
      bucket: 1,
      steps: [{ predictedUs: 100 }],
      reason: "deadline",
    },
    requests: [request],
  };
}

/** A lane driven in a closed loop. */
class Driver {
  readonly lane: LaneProcess;
  #ended: (result: ExecutionResult) => void = () => {};

  constructor(lane: LaneProcess) {
    this.lane = lane;
    lane.device.attach({
      ended: (_lane, execution, result) => {
        lane.device.release(execution);
        this.#ended(result);
      },
      // Closing the lane at the end is told as its loss too.
      lost: () => {},
    });
  }

  run(execution: Execution): Promise<ExecutionResult> {
    return new Promise((resolve) => {
      this.#ended = resolve;
      this.lane.device.start(execution);
    });
  }

  /** Mean gap between executions, in microseconds, with the next always staged while one executes. */
  async gapUs(version: ModelVersion, count: number): Promise<number> {
    let executeUs = 0;
    const begun = performance.now();
    await new Promise<void>((resolve) => {
      let left = count;
      let next = executionOf(version);
      this.#ended = (result) => {
        if (result.ok) executeUs += result.timings.executeUs;
        if (--left === 0) resolve();
        else advance();
      };
      const advance = (): void => {
        this.lane.device.start(next);
        next = executionOf(version);
        this.lane.device.stage(next);
      };
      advance();
    });
    return ((performance.now() - begun) * 1000 - executeUs) / count;
  }
}

function rssMib(pid: number): number {
  const match = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(match?.[1]) / 1024;
}

async function directRun(session: InferenceSession, version: ModelVersion): Promise<() => Promise<unknown>> {
  const { Tensor } = loadRuntime();
  const feeds = Object.fromEntries(
    version.inputs.map((spec) => {
      const shape = [1, ...spec.shape.slice(1)];
      return [spec.name, new Tensor("float32", new Float32Array(shape.reduce((a, b) => a * b, 1)), shape)];
    }),
  );
  return () => session.run(feeds);
}

function gatherGbPerS(): number {
  const items = 32;
  const shape = [-1, 3, 224, 224];
  const inputs = [{ name: "image", datatype: "FP32", shape } as const];
  const model = { inputs, batched: true, maxBatchSize: items, sequence: null };
  const layout = batchLayout(model, "");
  const arena = Arena.open();
  const target =
    arena === null ? new ArrayBuffer(layout.inputsBytes) : mapRegion(arena.fd, arena.reserve(layout.inputsBytes));
  const template = executionOf({ ...model, key: "gather/1" } as unknown as ModelVersion).requests[0]!;
  const requests = Array.from({ length: items }, () => ({
    ...template,
    inputs: [{ ...template.inputs[0]!, data: new Uint8Array(4 * 3 * 224 * 224).fill(1) }],
  }));
  const times: number[] = [];
  for (let run = 0; run < 40; run++) {
    const begun = performance.now();
    gatherRows(new Uint8Array(target), layout, requests, items, 0, new Map());
    times.push(performance.now() - begun);
  }
  arena?.close();
  return layout.inputsBytes / median(times) / 1e6;
}

const transports: readonly Transport[] = process.platform === "linux" ? ["memfd", "threads"] : ["threads"];
await runTool(
  {
    name: "bench:lane",
    usage: USAGE,
    options: {
      rounds: { type: "string", default: "5" },
      runs: { type: "string", default: "400" },
      json: { type: "string" },
    },
  },
  async ({ values }) => {
    const rounds = numberOf("--rounds", values.rounds, COUNT);
    const runs = numberOf("--runs", values.runs, COUNT);
    if (values.json !== undefined) checkWritable(values.json);
    exitOnSignals();
    const folder = temporaryFolder("lane-bench");
    const files = {
      noop: path.join(folder, "noop.onnx"),
      digits: path.join(PACKAGE_ROOT, "models/repository/digits/1/model.onnx"),
    };
    if (!existsSync(files.digits)) throw new ToolError("the sample models are not there: run `npm run models` first");
    writeFileSync(files.noop, noop());
    const results: Record<string, number | string> = {
      node: process.version,
      cpu: `${cpus()[0]?.model.trim()} × ${cpus().length}`,
    };

    const drivers = new Map<Transport, Driver>();
    for (const transport of transports) {
      const lane = await LaneProcess.start({
        lane: "lane0",
        provider: CPU_PROVIDER,
        deviceName: "bench",
        threads: 1,
        transport,
        cacheFolder: null,
        profileBudgetMs: 50,
        events,
      });
      drivers.set(transport, new Driver(lane));
      if (transport !== "threads") results[`${transport}_lane_rss_idle_mib`] = rssMib(lane.pid!);
    }

    for (const [name, file] of Object.entries(files)) {
      const version = await versionOf(name, file);
      const session = await loadRuntime().InferenceSession.create(
        file,
        sessionOptions({ provider: CPU_PROVIDER, threads: 1 }),
      );
      const direct = await directRun(session, version);
      for (const { lane } of drivers.values()) await lane.load(version);
      const times = new Map<string, number[]>();
      const note = (key: string, us: number): void => {
        const list = times.get(key) ?? [];
        list.push(us);
        times.set(key, list);
      };
      for (let round = 0; round < rounds; round++) {
        for (let run = 0; run < runs; run++) {
          const begun = performance.now();
          await direct();
          note("direct", (performance.now() - begun) * 1000);
        }
        for (const [transport, driver] of drivers) {
          for (let run = 0; run < runs; run++) {
            const execution = executionOf(version);
            const begun = performance.now();
            const result = await driver.run(execution);
            note(transport, (performance.now() - begun) * 1000);
            if (!result.ok) throw new Error(result.message);
            note(`${transport} execute`, result.timings.executeUs);
            note(`${transport} handover`, result.timings.collectUs);
          }
          note(`${transport} gap`, await driver.gapUs(version, runs));
        }
      }
      const at = (key: string, q: number = 0.5): number => Math.round(quantile(times.get(key)!, q) * 10) / 10;
      results[`${name}_direct_us`] = at("direct");
      for (const transport of transports) {
        results[`${name}_${transport}_us`] = at(transport);
        results[`${name}_${transport}_us_p99`] = at(transport, 0.99);
        results[`${name}_${transport}_added_us`] = Math.round(at(transport) - at("direct"));
        results[`${name}_${transport}_handover_us`] = at(`${transport} handover`);
        results[`${name}_${transport}_gap_staged_us`] = at(`${transport} gap`);
      }
      await session.release();
    }

    for (const [transport, { lane }] of drivers) {
      if (transport !== "threads") results[`${transport}_lane_rss_two_models_mib`] = rssMib(lane.pid!);
    }
    results.gather_gb_per_s = gatherGbPerS();
    for (const { lane } of drivers.values()) await lane.close();

    for (const [key, value] of Object.entries(results)) {
      console.log(key.padEnd(36), typeof value === "number" ? value.toFixed(1).padStart(10) : value);
    }
    if (values.json !== undefined) writeJson(values.json, results);
    return 0;
  },
);
