import assert from "node:assert/strict";
import { test } from "node:test";
import { formatProblem } from "../../daemon/config/problems.ts";
import { parseTritonConfig } from "../../daemon/repository/triton-config.ts";
import { writeFiles } from "../config/temp-dir.ts";
import { onnxBytes } from "./onnx-bytes.ts";
import { GOOD, keys, onlyReason, rig } from "./repository-rig.ts";

const FULL = `
name: "m"
platform: "onnxruntime_onnx"
max_batch_size: 12
input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 4 ] label_filename: "labels.txt" } ]
dynamic_batching {
  preferred_batch_size: [ 6, 8 ]
  max_queue_delay_microseconds: 500
  default_queue_policy { max_queue_size: 64 default_timeout_microseconds: 1000 }
}
instance_group [ { kind: KIND_CPU count: 2 }, { kind: KIND_CPU count: 1 } ]
version_policy { latest { num_versions: 2 } }
model_warmup { name: "w" batch_size: 1 inputs { key: "x" value { data_type: TYPE_FP32 dims: 4 zero_data: true } } }
response_cache { enable: true }
optimization { graph { level: 1 } }
parameters { key: "intra_op_thread_count" value { string_value: "3" } }
parameters { key: "cudnn_conv_algo_search" value { string_value: "1" } }
model_transaction_policy { decoupled: false }
future_field: 1
`;

test("what has a meaning becomes settings, what has none is named in a warning", () => {
  const config = parseTritonConfig(FULL, "m");
  assert.deepEqual(config.problems, []);
  assert.deepEqual(config.written, {
    batched: true,
    max_batch_size: 12,
    queue_items_max: 64,
    versions: { latest: 2 },
    cache: true,
    threads: 3,
    shapes: { x: [4], y: [4] },
    warm_shapes: [{ x: [4] }],
    buckets: [1, 2, 4, 6, 8, 12],
    device: "cpu",
    replicas: 3,
  });
  assert.deepEqual(config.datatypes, { x: "FP32", y: "FP32" });
  assert.deepEqual(
    config.warnings.map((text) => text.replace("m/config.pbtxt:", "")),
    [
      "6: output.label_filename has no meaning here: classification is not offered",
      "9: dynamic_batching.max_queue_delay_microseconds has no meaning here: the scheduler decides by deadlines when to wait",
      "10: dynamic_batching.default_queue_policy.default_timeout_microseconds has no meaning here: state the time to answer as slo_ms in config.yaml",
      "16: optimization has no meaning here: the runtime optimises the graph fully, on the daemon's device",
      "18: parameters.cudnn_conv_algo_search has no meaning here: the daemon has its own settings",
      "20: future_field is not known and ignored",
    ],
  );
});

test("a response cache that is off is none", () => {
  assert.equal(parseTritonConfig("response_cache { enable: false }", "m").written.cache, false);
  assert.equal(parseTritonConfig("response_cache { }", "m").written.cache, undefined);
});

test("instance groups decide the placement", () => {
  const placement = (groups: string): unknown[] => {
    const { written, warnings } = parseTritonConfig(`instance_group [${groups}]`, "m");
    return [written.device, written.replicas, warnings.length];
  };
  assert.deepEqual(placement("{ kind: KIND_GPU }"), ["gpu", undefined, 0]);
  assert.deepEqual(placement("{ kind: KIND_GPU count: 2 gpus: [0, 1] }"), ["gpu", undefined, 2]);
  assert.deepEqual(placement("{ kind: KIND_GPU }, { kind: KIND_CPU count: 2 }"), ["auto", 2, 0]);
  assert.deepEqual(placement("{ kind: KIND_CPU }"), ["cpu", undefined, 0]);
  assert.deepEqual(placement("{ count: 1 }"), [undefined, undefined, 0]);
});

test("every problem is listed at once, with its line", () => {
  const text = [
    'name: "other"',
    'platform: "tensorrt_plan"',
    "max_batch_size: -1",
    "input { data_type: TYPE_FP32 }",
    'input { name: "x" data_type: FP32 dims: [ 0 ] }',
    "instance_group { kind: GPU }",
    "sequence_batching { }",
    "model_transaction_policy { decoupled: true }",
    'default_model_filename: "../x.onnx"',
    'parameters { key: "intra_op_thread_count" value { string_value: "all" } }',
    "version_policy { specific { versions: [ 1, 0 ] } }",
    "dynamic_batching: 3",
  ].join("\n");
  const types =
    "TYPE_BOOL, TYPE_UINT8, TYPE_UINT16, TYPE_UINT32, TYPE_UINT64, TYPE_INT8, TYPE_INT16, TYPE_INT32, TYPE_INT64, TYPE_FP16, TYPE_FP32, TYPE_FP64, TYPE_STRING";
  assert.deepEqual(
    parseTritonConfig(text, "m").problems.map((problem) => formatProblem(problem).replace("m/config.pbtxt:", "")),
    [
      "1:1: name: is 'other', but the model's folder is named 'm'",
      "2:1: platform: is 'tensorrt_plan'; only ONNX models can be served (platform: \"onnxruntime_onnx\")",
      "3:1: max_batch_size: got -1; expected an integer from 0 to 65536",
      "4:1: input: has no name",
      `5:19: input.data_type: got FP32; expected one of ${types}`,
      "5:35: input.dims: got 0; expected a size of at least 1, or -1 where it varies",
      "6:18: instance_group.kind: got GPU; expected one of KIND_AUTO, KIND_GPU, KIND_CPU, KIND_MODEL",
      "7:1: sequence_batching: sequences are not offered",
      "8:28: model_transaction_policy.decoupled: models with several answers to a request are not offered",
      "9:1: default_model_filename: '../x.onnx' is not the name of a file in the version's folder",
      '10:1: parameters.intra_op_thread_count: got "all"; expected an integer from 0 to 1024',
      "11:29: version_policy.specific.versions: got 0; expected an integer, at least 1",
      "12:1: dynamic_batching: got 3; expected { ... }",
    ],
  );
  assert.deepEqual(parseTritonConfig("name: {", "m").problems.map(formatProblem), [
    "m/config.pbtxt:1:8: expected a field's name or '}', found the end of the file",
  ]);
});

test("preferred sizes above the largest batch are a problem, without a batch they are named in a warning", () => {
  const text = "max_batch_size: 4\ndynamic_batching { preferred_batch_size: [ 2, 8 ] }";
  assert.deepEqual(parseTritonConfig(text, "m").problems.map(formatProblem), [
    "m/config.pbtxt:2:20: dynamic_batching.preferred_batch_size: 8 is above max_batch_size, 4",
  ]);
  const { problems, warnings } = parseTritonConfig("dynamic_batching { preferred_batch_size: 8 }", "m");
  assert.deepEqual([problems.length, warnings.length], [0, 1]);
});

test("a repository written for Triton serves as it is, its other models are named", async (t) => {
  const { repository } = rig(t, {
    "m/config.pbtxt": FULL,
    "m/1/model.onnx": GOOD,
    "m/2/model.onnx": GOOD,
    "m/labels.txt": "a\nb\n",
    "named/config.pbtxt":
      'default_model_filename: "net.onnx"\nmax_batch_size: 0\ninput { name: "x" dims: [ -1, 4 ] }\n',
    "named/1/net.onnx": GOOD,
    "minimal/config.pbtxt": "",
    "minimal/1/model.onnx": GOOD,
    "engine/config.pbtxt": 'platform: "tensorrt_plan"\n',
    "engine/1/model.plan": "binary",
    "ensemble/config.pbtxt": 'platform: "ensemble"\nensemble_scheduling { step [ { model_name: "m" } ] }\n',
  });
  const result = await repository.scan();
  assert.deepEqual(keys(result), ["m/1", "m/2", "minimal/1", "named/1"]);
  const [m, , minimal, named] = result.models;
  assert.equal(m?.maxBatchSize, 12);
  assert.equal(m?.settings.device, "cpu");
  assert.deepEqual(m?.settings.warmShapes, [{ x: [4] }]);
  assert.deepEqual([minimal?.batched, minimal?.maxBatchSize], [true, 32]);
  assert.deepEqual([named?.batched, named?.inputs[0]?.shape], [false, [-1, 4]]);
  assert.deepEqual(
    result.unavailable.map(({ name }) => name),
    ["engine", "ensemble"],
  );
  assert.match(result.unavailable[0]!.reason, /platform: is 'tensorrt_plan'; only ONNX models can be served/);
  assert.equal(result.warnings.length, 6);
});

test("what contradicts the ONNX file is told where it stands", async (t) => {
  const text =
    'max_batch_size: 8\ninput { name: "x" data_type: TYPE_INT64 dims: [ 5 ] }\noutput { name: "z" dims: [ 4 ] }\n';
  const { repository } = rig(t, { "m/config.pbtxt": text, "m/1/model.onnx": GOOD });
  assert.equal(
    onlyReason(await repository.scan()),
    "m/config.pbtxt:2:19: input.data_type: states INT64, but 'x' is FP32 in the ONNX file; " +
      "m/config.pbtxt:3:20: output.dims: the model has no such input or output; it has 'x', 'y'; " +
      "m/config.pbtxt:2:41: input.dims: got [5], which does not fit [4] of the ONNX file",
  );
});

test("a batch dimension that Triton's file asserts is believed where the ONNX file is silent", async (t) => {
  const open = onnxBytes({
    inputs: [{ name: "x", dims: ["n", null, null] }],
    outputs: [{ name: "y", dims: undefined }],
  });
  const text =
    'max_batch_size: 8\ninput { name: "x" dims: [ 3, -1 ] }\noutput { name: "y" dims: [ 7 ] reshape { shape: [ 7, 1 ] } }\n';
  const { repository } = rig(t, { "m/config.pbtxt": text, "m/1/model.onnx": open });
  const result = await repository.scan();
  assert.deepEqual(result.models[0]?.inputs[0]?.shape, [-1, 3, -1]);
  assert.deepEqual(result.models[0]?.outputs[0]?.shape, [-1, 7, 1]);
  assert.deepEqual(result.warnings, [
    "m/config.pbtxt:3: output.reshape has no meaning here: callers send and get the ONNX file's own shape",
  ]);
});

test("config.yaml goes before config.pbtxt, setting by setting", async (t) => {
  const { repository } = rig(t, {
    "m/config.pbtxt": FULL,
    "m/config.yaml": "slo_ms: 20\nmax_batch_size: 16\nversions: [1]\n",
    "m/1/model.onnx": GOOD,
  });
  const [model] = (await repository.scan()).models;
  assert.deepEqual(
    [model?.maxBatchSize, model?.settings.buckets, model?.settings.sloMs, model?.settings.threads],
    [16, null, 20, 3],
  );
});

test("a setting of config.yaml takes along what hangs on it in config.pbtxt", async (t) => {
  const yaml = {
    gpu: "device: gpu\n",
    cpu: "device: cpu\n",
    whole: "batched: false\n",
    sizes: "buckets: [1, 4]\n",
  };
  const files = Object.entries(yaml).map(([name, text]) => [
    [`${name}/config.pbtxt`, FULL.replace('name: "m"', "")],
    [`${name}/config.yaml`, text],
    [`${name}/1/model.onnx`, GOOD],
  ]);
  const padded = {
    "padded/config.pbtxt": 'max_batch_size: 8\nmodel_warmup { inputs { key: "x" value { dims: 16 } } }\n',
    "padded/config.yaml": "sequence: { mask: none }\n",
    "padded/1/model.onnx": onnxBytes({ inputs: [{ name: "x", dims: ["batch", "length"] }] }),
    "items/config.pbtxt": 'max_batch_size: 0\ninput { name: "x" dims: [ -1, 4 ] }\n',
    "items/config.yaml": "batched: true\n",
    "items/1/model.onnx": GOOD,
  };
  const { repository } = rig(t, { ...Object.fromEntries(files.flat()), ...padded });
  const { models, unavailable } = await repository.scan();
  assert.deepEqual(unavailable, []);
  const found = models.map(({ name, inputs, maxBatchSize, sequence, settings }) => {
    const { device, replicas, buckets, warmShapes } = settings;
    return [name, inputs[0]?.shape, maxBatchSize, buckets, device, replicas, warmShapes.length, sequence !== null];
  });
  const preferred = [1, 2, 4, 6, 8, 12];
  assert.deepEqual(found, [
    ["cpu", [-1, 4], 12, preferred, "cpu", 3, 1, false],
    ["gpu", [-1, 4], 12, preferred, "gpu", "auto", 1, false],
    ["items", [-1, 4], 32, null, "auto", "auto", 0, false],
    ["padded", [-1, -1], 8, null, "auto", "auto", 0, true],
    ["sizes", [-1, 4], 4, [1, 4], "cpu", 3, 1, false],
    ["whole", [-1, 4], 1, [1], "cpu", 3, 0, false],
  ]);
});

test("a change of config.pbtxt is followed", async (t) => {
  const { repository, dir } = rig(
    t,
    { "m/config.pbtxt": "max_batch_size: 4\n", "m/1/model.onnx": GOOD },
    { control: "poll" },
  );
  await repository.scan();
  writeFiles(dir, { "m/config.pbtxt": "max_batch_size: 16\n" });
  await repository.scan();
  assert.deepEqual(
    (await repository.scan()).changed.map((model) => model.maxBatchSize),
    [16],
  );
});
