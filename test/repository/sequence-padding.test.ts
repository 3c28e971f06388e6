import assert from "node:assert/strict";
import { test } from "node:test";
import { formatProblem } from "../../daemon/config/problems.ts";
import { parseYaml } from "../../daemon/config/yaml-file.ts";
import type { Datatype } from "../../daemon/engine/tensors.ts";
import { type Derived, deriveVersion } from "../../daemon/repository/derive-version.ts";
import { MODEL_CONFIG_SCHEMA } from "../../daemon/repository/written-config.ts";
import { DEFAULTS } from "./repository-rig.ts";

type Input = readonly [name: string, datatype: Datatype, dims: readonly (number | string | null)[]];

const IDS: Input = ["input_ids", "INT64", ["n", "sequence"]];
const MASK: Input = ["attention_mask", "INT64", ["n", "sequence"]];
const STYLE: Input = ["style", "FP32", ["n", 3]];

function derive(yaml: string, inputs: readonly Input[]): Derived {
  const file = parseYaml(yaml, "m/config.yaml", MODEL_CONFIG_SCHEMA);
  assert.deepEqual(file.problems.map(formatProblem), []);
  const declared = {
    inputs: inputs.map(([name, datatype, dims]) => ({ name, datatype, dims })),
    outputs: [{ name: "y", datatype: "FP32", dims: [inputs[0]?.[2][0] ?? "n", 4] } as const],
  };
  const { problems, problemAt } = file;
  const config = {
    written: file.value ?? {},
    datatypes: {},
    modelFile: "model.onnx",
    problems,
    warnings: [],
    problemAt,
  };
  return deriveVersion({ name: "m", version: 1, path: "/m/1/model.onnx", hash: "00" }, declared, config, DEFAULTS);
}

test("what a configuration asks for, with the mask found by its name unless it is named", () => {
  const asked: readonly (readonly [string, object])[] = [
    ["{}", { lengths: null, lengthMax: 256, mask: "attention_mask", pad: {} }],
    ["{ mask: auto, length_max: 100 }", { lengths: null, lengthMax: 100, mask: "attention_mask", pad: {} }],
    ["{ mask: none, lengths: [8, 12] }", { lengths: [8, 12], lengthMax: 12, mask: null, pad: {} }],
    [
      "{ mask: input_ids, pad: { input_ids: 1 } }",
      { lengths: null, lengthMax: 256, mask: "input_ids", pad: { input_ids: 1 } },
    ],
  ];
  for (const [yaml, expected] of asked) {
    const derived = derive(`sequence: ${yaml}`, [IDS, MASK, STYLE]);
    assert.ok(derived.ok, JSON.stringify(derived));
    assert.deepEqual(derived.model.sequence, { ...expected, outputAxes: {} });
    assert.deepEqual(derived.warnings, []);
  }
});

test("an empty list of warm shapes is none", () => {
  assert.ok(derive("sequence: {}\nwarm_shapes: []", [IDS, MASK]).ok);
});

test("unasked nothing is padded; it is proposed only where one input looks like the mask of the others", () => {
  const unasked: readonly (readonly [readonly Input[], boolean])[] = [
    [[IDS, MASK], true],
    [[IDS, ["mask", "BOOL", ["n", null]]], true],
    [[IDS], false],
    [[MASK], false],
    [[IDS, ["attention_mask", "FP32", ["n", "sequence"]]], false],
    [[IDS, MASK, ["decoder_ids", "INT64", ["n", "target"]]], false],
    [[IDS, MASK, ["input_mask", "INT64", ["n", "sequence"]]], false],
  ];
  for (const [inputs, proposed] of unasked) {
    const derived = derive("", inputs);
    assert.ok(derived.ok);
    assert.equal(derived.model.sequence, null);
    const pattern = /lets different lengths share one/;
    assert.equal(derived.warnings.filter((warning) => pattern.test(warning)).length, proposed ? 1 : 0, String(inputs));
  }
  const warmed = derive("warm_shapes: [{ input_ids: [8], attention_mask: [8] }]", [IDS, MASK]);
  assert.ok(warmed.ok);
  assert.deepEqual(warmed.warnings, [], "whoever names shapes to warm has thought of lengths");
});

test("what can't be padded, or is contradictory, is a problem that says what would do", () => {
  const texts: Input = ["texts", "BYTES", ["n", "sequence"]];
  const image: Input = ["image", "FP32", ["n", "height", "width"]];
  const problems: readonly (readonly [string, readonly Input[], RegExp])[] = [
    ["{}", [IDS], /:1:11: sequence.mask: no input looks like a mask; name one of input_ids, or none/],
    [
      "{ mask: style }",
      [IDS, MASK, STYLE],
      /sequence\.mask: is 'style', which is no input that is so long; name one of/,
    ],
    ["{}", [STYLE], /needs a dimension that varies besides the batch's, and no input has one/],
    ["{}", [["x", "FP32", [1, "sequence"]]], /needs a batch dimension, and the model has none/],
    ["{ mask: none }", [texts], /input 'texts' holds strings/],
    ["{ mask: none }", [image], /input 'image' has several dimensions that vary: \[-1,-1\]/],
    ["{}", [IDS, MASK, ["y", "INT64", ["n", "target"]]], /vary in different dimensions .*: 'sequence' and 'target'/],
    ["{ pad: { style: 1 } }", [IDS, MASK, STYLE], /sequence\.pad\.style: is no input that is as long as the sequence/],
    [
      "{ pad: { input_ids: 0.5 } }",
      [IDS, MASK],
      /sequence\.pad\.input_ids: is 0\.5, which input 'input_ids' \(INT64\)/,
    ],
    [
      "{ lengths: [8], length_max: 8 }",
      [IDS, MASK],
      /sequence\.length_max: has a meaning only where lengths are chosen/,
    ],
    [
      "{}\nwarm_shapes: [{ input_ids: [8], attention_mask: [8] }]",
      [IDS, MASK],
      /:2:14: warm_shapes: can't stand beside sequence/,
    ],
  ];
  for (const [yaml, inputs, message] of problems) {
    const derived = derive(`sequence: ${yaml}`, inputs);
    assert.equal(derived.ok, false, yaml);
    const found = derived.ok ? [] : derived.problems.map(formatProblem);
    assert.equal(found.length, 1, found.join("\n"));
    assert.match(found[0]!, message);
  }
});

test("a badly written sequence is told with its place", () => {
  const schema = (yaml: string) => parseYaml(yaml, "m/config.yaml", MODEL_CONFIG_SCHEMA).problems.map(formatProblem);
  assert.match(schema("sequence: auto")[0]!, /sequence: got "auto"; expected \{ mask, lengths or length_max, pad \}/);
  assert.match(schema("sequence: { lengths: [16, 8] }")[0]!, /sequence\.lengths\[1\]: lengths must ascend, each once/);
  assert.match(schema("sequence: { lenghts: [16] }")[0]!, /unknown key.*lengths/);
  assert.match(schema("sequence: { pad: { ids: x } }")[0]!, /sequence\.pad\.ids: got "x"; expected a number/);
});
