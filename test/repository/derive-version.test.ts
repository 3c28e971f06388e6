import assert from "node:assert/strict";
import { test } from "node:test";
import { formatProblem } from "../../daemon/config/problems.ts";
import { parseYaml } from "../../daemon/config/yaml-file.ts";
import type { DeclaredTensor } from "../../daemon/repository/batch-dimension.ts";
import { type Derived, deriveVersion, type ModelDefaults } from "../../daemon/repository/derive-version.ts";
import type { ModelVersion } from "../../daemon/repository/model.ts";
import { MODEL_CONFIG_SCHEMA } from "../../daemon/repository/written-config.ts";
import { DEFAULTS } from "./repository-rig.ts";

type Dims = DeclaredTensor["dims"];

function declared(inputs: Readonly<Record<string, Dims>>, outputs: Readonly<Record<string, Dims>>) {
  const tensors = (all: Readonly<Record<string, Dims>>): DeclaredTensor[] =>
    Object.entries(all).map(([name, dims]) => ({ name, dims, datatype: "FP32" }));
  return { inputs: tensors(inputs), outputs: tensors(outputs) };
}

function derive(
  yaml: string,
  inputs: Readonly<Record<string, Dims>>,
  outputs: Readonly<Record<string, Dims>>,
  defaults: ModelDefaults = DEFAULTS,
): Derived {
  const file = parseYaml(yaml, "m/config.yaml", MODEL_CONFIG_SCHEMA);
  assert.deepEqual(file.problems.map(formatProblem), []);
  const config = {
    written: file.value ?? {},
    datatypes: {},
    modelFile: "model.onnx",
    problems: file.problems,
    warnings: [],
    problemAt: file.problemAt,
  };
  return deriveVersion(
    { name: "m", version: 1, path: "/m/1/model.onnx", hash: "00" },
    declared(inputs, outputs),
    config,
    defaults,
  );
}

function modelOf(derived: Derived): ModelVersion {
  assert.ok(derived.ok, JSON.stringify(derived));
  return derived.model;
}

function problemsOf(derived: Derived): string[] {
  assert.equal(derived.ok, false);
  return derived.ok ? [] : derived.problems.map(formatProblem);
}

const BATCHING: readonly {
  readonly name: string;
  readonly yaml?: string;
  readonly inputs: Readonly<Record<string, Dims>>;
  readonly outputs: Readonly<Record<string, Dims>>;
  readonly batched: boolean;
  readonly maxBatch: number;
  readonly shape: readonly number[];
  readonly warning?: RegExp;
}[] = [
  {
    name: "all first dimensions vary under one name",
    inputs: { x: ["batch", 3] },
    outputs: { y: ["batch", 10] },
    batched: true,
    maxBatch: 32,
    shape: [-1, 3],
  },
  {
    name: "all first dimensions vary, some without a name",
    inputs: { x: [null, 3], z: ["n"] },
    outputs: { y: ["n", 10], w: [null] },
    batched: true,
    maxBatch: 32,
    shape: [-1, 3],
  },
  {
    name: "names that tf2onnx makes up",
    inputs: { x: ["unk__12", 3], z: ["unk__14", 2] },
    outputs: { y: ["unk__20", 10] },
    batched: true,
    maxBatch: 32,
    shape: [-1, 3],
  },
  {
    name: "names that Paddle2ONNX makes up",
    inputs: { x: ["p2o.DynamicDimension.0", 3] },
    outputs: { y: ["p2o.DynamicDimension.1", 10], z: ["DynamicDimension.2"] },
    batched: true,
    maxBatch: 32,
    shape: [-1, 3],
  },
  {
    name: "a name in the inputs, and those that PyTorch makes up in the outputs",
    inputs: { x: ["batch", 3], z: ["z_dynamic_axes_1", 3] },
    outputs: { y: ["Gemmy_dim_0", 10] },
    batched: true,
    maxBatch: 32,
    shape: [-1, 3],
  },
  {
    name: "a name among made-up ones that is another",
    inputs: { x: ["unk__12", 3], z: ["nodes", 2] },
    outputs: { y: ["edges", 10] },
    batched: false,
    maxBatch: 1,
    shape: [-1, 3],
    warning: /output 'y' is 'edges', not 'nodes'/,
  },
  {
    name: "a fixed first dimension",
    inputs: { x: [1, 3] },
    outputs: { y: [1, 10] },
    batched: false,
    maxBatch: 1,
    shape: [1, 3],
  },
  {
    name: "one input of several without dimensions",
    inputs: { x: ["n", 3], scale: [] },
    outputs: { y: ["n"] },
    batched: false,
    maxBatch: 1,
    shape: [-1, 3],
  },
  {
    name: "an output whose first dimension is fixed",
    inputs: { x: ["n", 3] },
    outputs: { y: [5] },
    batched: false,
    maxBatch: 1,
    shape: [-1, 3],
    warning: /first dimension of output 'y' is always 5/,
  },
  {
    name: "an output whose first dimension is another one",
    inputs: { x: ["n", 3] },
    outputs: { boxes: ["found", 4] },
    batched: false,
    maxBatch: 1,
    shape: [-1, 3],
    warning: /output 'boxes' is 'found', not 'n'/,
  },
  {
    name: "an output without a shape",
    inputs: { x: ["n", 3] },
    outputs: { y: null },
    batched: false,
    maxBatch: 1,
    shape: [-1, 3],
    warning: /output 'y' has no declared shape/,
  },
  {
    name: "the same, asserted to be batched",
    yaml: "batched: true",
    inputs: { x: ["n", 3] },
    outputs: { y: null, boxes: ["found", 4], z: [1, 4] },
    batched: true,
    maxBatch: 32,
    shape: [-1, 3],
  },
  {
    name: "denied by the configuration",
    yaml: "batched: false",
    inputs: { x: ["seq", 3] },
    outputs: { y: ["seq"] },
    batched: false,
    maxBatch: 1,
    shape: [-1, 3],
  },
  {
    name: "a fixed first dimension that is asserted to be the batch's",
    yaml: "batched: true",
    inputs: { x: [8, 3] },
    outputs: { y: [8, 10] },
    batched: true,
    maxBatch: 8,
    shape: [-1, 3],
  },
  {
    name: "no inputs at all",
    inputs: {},
    outputs: { y: ["n"] },
    batched: false,
    maxBatch: 1,
    shape: [],
  },
];

test("whether a model is batched", async (t) => {
  for (const { name, yaml = "", inputs, outputs, batched, maxBatch, shape, warning } of BATCHING) {
    await t.test(name, () => {
      const derived = derive(yaml, inputs, outputs);
      const model = modelOf(derived);
      assert.equal(model.batched, batched);
      assert.equal(model.unbatchedReason === null, batched);
      assert.equal(model.maxBatchSize, maxBatch);
      assert.deepEqual(model.inputs[0]?.shape ?? [], shape);
      const warnings = derived.ok ? derived.warnings.join("\n") : "";
      if (warning === undefined) assert.equal(warnings, "");
      else assert.match(warnings, warning);
    });
  }
});

test("a name that stands in several inputs is a size that these share", () => {
  const shared = (inputs: Readonly<Record<string, Dims>>, yaml = "") =>
    modelOf(derive(yaml, inputs, { y: [Object.values(inputs)[0]![0]!, 2] })).sharedDimensions;
  const ids = ["batch", "s"];
  assert.deepEqual(shared({ ids, mask: ids, image: ["batch", 3, "s"], other: ["batch", "t"] }), [
    {
      name: "s",
      places: [
        { input: 0, axis: 1 },
        { input: 1, axis: 1 },
        { input: 2, axis: 2 },
      ],
    },
  ]);
  const unbatched = shared({ ids, mask: ids }, "batched: false\n");
  assert.deepEqual(
    unbatched.map(({ name }) => name),
    ["batch", "s"],
  );
  assert.deepEqual(shared({ ids, mask: ids }, "shapes: { ids: [8], mask: [8] }\n"), []);
  // Names that say nothing, and carelessness of exporters.
  assert.deepEqual(shared({ a: ["batch", "None"], b: ["batch", "None"] }), []);
  assert.deepEqual(shared({ a: ["batch", "n", "n"], b: ["batch", "n"] }), []);
});

test("buckets and the largest batch imply each other", () => {
  const io = [{ x: ["n", 3] }, { y: ["n"] }] as const;
  assert.deepEqual(modelOf(derive("buckets: [1, 4, 12]", ...io)).settings.buckets, [1, 4, 12]);
  assert.equal(modelOf(derive("buckets: [1, 4, 12]", ...io)).maxBatchSize, 12);
  assert.equal(modelOf(derive("max_batch_size: 5", ...io)).settings.buckets, null);
  assert.deepEqual(modelOf(derive("", { x: [1, 3] }, { y: [1] })).settings.buckets, [1]);
  assert.deepEqual(modelOf(derive("batched: true", { x: [8, 3] }, { y: [8] })).settings.buckets, [8]);
});

test("settings are taken over in full", () => {
  const yaml = [
    "max_batch_size: 16",
    "slo_ms: 12.5",
    "device: cpu",
    "replicas: 3",
    "threads: 2",
    "queue_items_max: 7",
    "queue_bytes_max: 8",
    "weight: 2",
    "min_share: 0.25",
    "shed: true",
    "best_effort: true",
    "fallback: other/3",
    "traffic: { 12: 0, 1: 3 }",
    "cache: true",
    "shapes: { x: [3, 64, -1], y: [9] }",
    "warm_shapes:",
    "  - { x: [3, 64, 32] }",
    "  - { x: [3, 64, 48] }",
    "warm_values: { mask: 0.5 }",
  ].join("\n");
  const model = modelOf(derive(yaml, { x: ["n", 3, null, "w"], mask: ["n", 2] }, { y: ["n", null] }));
  assert.deepEqual(model.inputs[0]?.shape, [-1, 3, 64, -1]);
  assert.deepEqual(model.outputs[0]?.shape, [-1, 9]);
  assert.deepEqual(model.settings, {
    sloMs: 12.5,
    device: "cpu",
    buckets: null,
    replicas: 3,
    threads: 2,
    queueItemsMax: 7,
    queueBytesMax: 8,
    weight: 2,
    minShare: 0.25,
    shedImplicit: true,
    bestEffortDefault: true,
    fallback: { model: "other", version: "3" },
    traffic: [
      { version: 1, share: 3 },
      { version: 12, share: 0 },
    ],
    cache: true,
    warmShapes: [
      { x: [3, 64, 32], mask: [2] },
      { x: [3, 64, 48], mask: [2] },
    ],
    warmValues: { mask: 0.5 },
  });
});

test("a cache without room caches nothing, and says so of each model that asks for it", () => {
  const io = [{ x: ["n", 3] }, { y: ["n"] }] as const;
  const none = { ...DEFAULTS, cacheBytesMax: 0 };
  const asking = derive("cache: true", ...io, none);
  assert.equal(modelOf(asking).settings.cache, false);
  assert.match(asking.ok ? asking.warnings.join() : "", /^its answers are not cached.* cache_bytes_max is 0$/);
  const silent = derive("", ...io, none);
  assert.deepEqual([modelOf(silent).settings.cache, silent.ok && silent.warnings], [false, []]);
});

const CONTRADICTIONS: readonly {
  readonly yaml: string;
  readonly inputs: Readonly<Record<string, Dims>>;
  readonly outputs: Readonly<Record<string, Dims>>;
  readonly problems: readonly string[];
}[] = [
  {
    yaml: "max_batch_size: 8\nbuckets: [1, 2, 4]\nwarm_shapes:\n  - { z: [1] }\n  - { x: [4, 4] }\nshapes: { q: [1], y: [3] }",
    inputs: { x: ["n", 3, "w"] },
    outputs: { y: ["n", 7] },
    problems: [
      "m/config.yaml:6:14: shapes.q: the model has no such input or output; it has 'x', 'y'",
      "m/config.yaml:6:22: shapes.y: got [3], which does not fit [7] of the ONNX file",
      "m/config.yaml:2:10: buckets: end with 4, but max_batch_size is 8; the last bucket must equal it",
      "m/config.yaml:4:10: warm_shapes[0].z: the model has no such input; it has 'x'",
      "m/config.yaml:4:5: warm_shapes[0]: lacks input 'x', whose shape varies",
      "m/config.yaml:5:10: warm_shapes[1].x: got [4,4]; expected an item's shape that fits [3,-1]",
    ],
  },
  {
    yaml: "warm_values: { z: 1, x: high }",
    inputs: { x: ["n", 3] },
    outputs: { y: ["n"] },
    problems: [
      "m/config.yaml:1:19: warm_values.z: the model has no such input; it has 'x'",
      'm/config.yaml:1:25: warm_values.x: got "high"; the input takes numbers (FP32)',
    ],
  },
  {
    yaml: "max_batch_size: 8",
    inputs: { x: [1, 3] },
    outputs: { y: [1] },
    problems: [
      "m/config.yaml:1:17: max_batch_size: is above 1, but the ONNX file has no batch dimension that varies: input 'x' is [1,3]",
    ],
  },
  {
    yaml: "batched: false\nbuckets: [1, 8]",
    inputs: { x: ["n", 3] },
    outputs: { y: ["n"] },
    problems: ["m/config.yaml:2:10: buckets: is above 1, but batched is false"],
  },
  {
    yaml: "batched: true",
    inputs: { x: [8, 3], z: ["n"] },
    outputs: { y: [8] },
    problems: ["m/config.yaml:1:10: batched: batched: true, but the inputs differ in their first dimension"],
  },
  {
    yaml: "batched: true\nmax_batch_size: 4",
    inputs: { x: [8, 3] },
    outputs: { y: [8] },
    problems: ["m/config.yaml:2:17: max_batch_size: is 4, but the ONNX file fixes the first dimension at 8"],
  },
  {
    yaml: "device: gpu\nreplicas: 2",
    inputs: { x: ["n"] },
    outputs: { y: ["n"] },
    problems: ["m/config.yaml:2:11: replicas: has a meaning only with device: cpu or auto; here it is gpu"],
  },
  {
    yaml: "fallback: m",
    inputs: { x: ["n"] },
    outputs: { y: ["n"] },
    problems: ["m/config.yaml:1:11: fallback: names the model itself; another model is to answer for it"],
  },
  {
    yaml: "device: cpu\nreplicas: 0",
    inputs: { x: ["n"] },
    outputs: { y: ["n"] },
    problems: ["m/config.yaml:2:11: replicas: is 0, but device: cpu leaves the model no other place"],
  },
  {
    yaml: "weight: 1",
    inputs: { x: null },
    outputs: { y: ["n"] },
    problems: [
      "m/config.yaml:1:1: input 'x' has no shape in the ONNX file; give its items' shape: `shapes: { x: [...] }`",
    ],
  },
];

test("a configuration that contradicts the ONNX file is told with all that contradicts", () => {
  for (const { yaml, inputs, outputs, problems } of CONTRADICTIONS) {
    assert.deepEqual(problemsOf(derive(yaml, inputs, outputs)), problems);
  }
});

test("an ignored batch size is warned of where the ONNX file leaves room for doubt", () => {
  const derived = derive("max_batch_size: 8", { x: ["n", 3] }, { y: ["other"] });
  assert.equal(modelOf(derived).maxBatchSize, 1);
  assert.ok(
    derived.ok && derived.warnings.includes("max_batch_size is ignored, since the model has no batch dimension"),
  );
});

test("an input without a shape is served with the one that is configured", () => {
  const model = modelOf(derive("shapes: { x: [3, -1] }", { x: null, z: ["n", 2] }, { y: ["n"] }));
  assert.deepEqual(model.inputs[0]?.shape, [-1, 3, -1]);
});

const BAD_YAML: readonly { readonly yaml: string; readonly problems: readonly string[] }[] = [
  {
    yaml: [
      "max_batch_size: 0",
      "slo: 5",
      "device: tpu",
      "buckets: [4, 2]",
      "replicas: many",
      "versions: newest",
      "min_share: 2",
      "shapes: { x: [0] }",
      "warm_shapes: { x: [1] }",
      "batched: 1",
    ].join("\n"),
    problems: [
      "1:17: max_batch_size: got 0; expected an integer from 1 to 65536",
      "2:1: slo: unknown key; did you mean 'slo_ms'?",
      '3:9: device: got "tpu"; expected one of gpu, cpu, auto',
      "4:14: buckets[1]: batch sizes must ascend, each once",
      '5:11: replicas: got "many"; expected auto, or an integer from 0 to 256',
      '6:11: versions: got "newest"; expected all, {latest: N} or a list of version numbers',
      "7:12: min_share: got 2; expected a number from 0 to 1",
      "8:15: shapes.x[0]: got 0; expected a size of at least 1, or -1 where it varies",
      '9:14: warm_shapes: got {"x":[1]}; expected a list of item shapes by input name',
      "10:10: batched: got 1; expected true or false",
    ],
  },
  { yaml: "buckets: []", problems: ["1:10: buckets: got []; expected at least one batch size"] },
  {
    yaml: "versions: { latest: 0 }",
    problems: ['1:11: versions: got {"latest":0}; expected all, {latest: N} or a list of version numbers'],
  },
  {
    yaml: "traffic: { 1: 1, latest: 2, 3: -1 }",
    problems: [
      "1:18: traffic.latest: a version is a number from 1",
      "1:32: traffic.3: got -1; expected a number from 0 to 1000000",
    ],
  },
  {
    yaml: "traffic: { 1: 0 }",
    problems: ["1:10: traffic: needs at least one share above 0"],
  },
  {
    yaml: "fallback: other/latest",
    problems: ['1:11: fallback: got "other/latest"; expected the name of a model, or MODEL/VERSION'],
  },
  { yaml: "slo_ms: .inf", problems: ["1:9: slo_ms: got Infinity; expected a number above 0, up to 86400000"] },
];

test("every mistake in a model's configuration is listed at once", () => {
  for (const { yaml, problems } of BAD_YAML) {
    const found = parseYaml(yaml, "c", MODEL_CONFIG_SCHEMA).problems.map((one) => formatProblem(one).slice(2));
    assert.deepEqual([...found].sort(), [...problems].sort());
  }
});
