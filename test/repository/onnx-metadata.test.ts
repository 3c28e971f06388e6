import assert from "node:assert/strict";
import { mkdtemp, open, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { promiseHooks } from "node:v8";
import fc from "fast-check";
import protobuf from "protobufjs/minimal.js";
import {
  externalDataLocations,
  type OnnxFileErrorCode,
  type OnnxMetadata,
  readOnnxMetadata,
  wireShape,
} from "../../daemon/repository/onnx-metadata.ts";
import { ProtobufFile } from "../../daemon/repository/protobuf-file.ts";
import { Graph } from "../../models/onnx/graph.ts";
import { type Constant, floats } from "../../models/onnx/tensor.ts";
import { addOne, dynamicDims, externalWeights, identity, noBatchDim, scalarOutput } from "../../models/onnx/tiny.ts";
import { writeModel } from "../../models/onnx/write-model.ts";

let folder = "";
before(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), "slackline-onnx-"));
});
after(() => rm(folder, { recursive: true }));

let files = 0;
async function saved(bytes: Uint8Array | string): Promise<string> {
  const file = path.join(folder, `${files++}.onnx`);
  await writeFile(file, bytes);
  return file;
}

async function read(bytes: Uint8Array): Promise<OnnxMetadata> {
  return readOnnxMetadata(await saved(bytes));
}

async function refuses(bytes: Uint8Array | string, code: OnnxFileErrorCode, message: RegExp): Promise<void> {
  await assert.rejects(readOnnxMetadata(await saved(bytes)), { name: "OnnxFileError", code, message });
}

function external(location: string, offsetBytes = 0, lengthBytes = 4): Constant {
  return { datatype: "FP32", dims: [1], data: null, external: { location, offsetBytes, lengthBytes } };
}

describe("interface", () => {
  test("names, types and dimensions of inputs and outputs", async () => {
    const metadata = await read(dynamicDims());
    assert.deepEqual(metadata.inputs, [
      { name: "x", kind: "tensor", elementType: "float", datatype: "FP32", dims: ["batch", "length"] },
    ]);
    assert.deepEqual(
      metadata.outputs.map((output) => [output.name, wireShape(output)]),
      [
        ["y", [-1, -1]],
        ["total", [-1]],
      ],
    );
    assert.equal(metadata.graphName, "dynamic_dims");
    assert.deepEqual(metadata.producer, { name: "slackline", version: "" });
    assert.deepEqual(metadata.opsets, { "": 17 });
    assert.equal(metadata.irVersion, 9);
  });

  test("fixed dimensions and none at all", async () => {
    assert.deepEqual(wireShape((await read(noBatchDim())).inputs[0]!), [2, 3]);
    assert.deepEqual(wireShape((await read(scalarOutput())).outputs[1]!), []);
  });

  test("an unknown rank is told apart from no dimensions", async () => {
    const graph = new Graph("unknown_rank");
    graph.input("x", "FP32", null);
    graph.output("y", "FP32", []);
    graph.node("ReduceSum", ["x"], {}, "y");
    const metadata = await read(writeModel(graph));
    assert.equal(metadata.inputs[0]!.dims, null);
    assert.equal(wireShape(metadata.inputs[0]!), null);
    assert.deepEqual(metadata.outputs[0]!.dims, []);
  });

  test("initializers listed as inputs are no inputs", async () => {
    const graph = new Graph("old_style");
    graph.input("x", "FP32", ["batch", 2]);
    graph.input("w", "FP32", [2]);
    graph.output("y", "FP32", ["batch", 2]);
    graph.constant("w", floats([2], [1, 2]));
    graph.node("Add", ["x", "w"], {}, "y");
    const metadata = await read(writeModel(graph));
    assert.deepEqual(
      metadata.inputs.map((input) => input.name),
      ["x"],
    );
    assert.equal(metadata.parameters, 2);
  });

  test("element types that the runtime has no tensors of are named", async () => {
    const model = Buffer.from(identity("BOOL"));
    const elementType = Buffer.from([0x08, 9, 0x12]);
    for (let at = model.indexOf(elementType); at >= 0; at = model.indexOf(elementType)) model[at + 1] = 16;
    const { inputs } = await read(model);
    assert.equal(inputs[0]!.elementType, "bfloat16");
    assert.equal(inputs[0]!.datatype, null);
  });

  test("an input that is no tensor is told by its kind", async () => {
    const model = protobuf.Writer.create().uint32(8).int64(9).uint32(58).fork();
    model.uint32(90).fork().uint32(10).string("list").uint32(18).fork().uint32(34).fork().ldelim().ldelim().ldelim();
    const { inputs } = await read(model.ldelim().finish());
    assert.deepEqual(inputs, [{ name: "list", kind: "sequence", elementType: "", datatype: null, dims: null }]);
  });
});

describe("external data", () => {
  test("location, offset and length of an initializer", async () => {
    const metadata = await read(externalWeights("parts/weights.bin").model);
    assert.deepEqual(metadata.externalData, [
      { tensor: "weights", location: "parts/weights.bin", offsetBytes: 0, lengthBytes: 16 },
    ]);
  });

  test("references in attributes and in subgraphs are found too, each location once", async () => {
    const branch = (name: string, location: string): Graph => {
      const graph = new Graph(name);
      graph.output(`${name}_y`, "FP32", [1]);
      graph.node("Identity", [graph.constant(`${name}_w`, external(location, 64))], {}, `${name}_y`);
      return graph;
    };
    const graph = new Graph("branches");
    graph.input("condition", "BOOL", []);
    graph.output("y", "FP32", [1]);
    const constant = graph.node("Constant", [], { value: external("../outside.bin") });
    const inner = graph.node("If", ["condition"], {
      then_branch: branch("a", "a.bin"),
      else_branch: branch("b", "a.bin"),
    });
    graph.node("Add", [constant, inner], {}, "y");
    const metadata = await read(writeModel(graph));
    assert.deepEqual(externalDataLocations(metadata), ["../outside.bin", "a.bin"]);
    assert.equal(metadata.externalData.length, 3);
    assert.equal(metadata.externalData[1]!.offsetBytes, 64);
    assert.equal(metadata.parameters, 0, "subgraphs' initializers are not the main graph's");
  });

  test("a tensor that claims to lie in the runtime's memory is refused", async () => {
    await refuses(externalWeights("*/_ORT_MEM_ADDR_/*").model, "malformed", /runtime's memory/);
  });

  test("an external tensor without a location is refused", async () => {
    await refuses(externalWeights("").model, "malformed", /'weights' has no valid location/);
  });
});

describe("files that are no models", () => {
  test("missing, empty, a folder", async () => {
    await assert.rejects(readOnnxMetadata(path.join(folder, "none")), { code: "unreadable", message: /ENOENT/ });
    await assert.rejects(readOnnxMetadata(folder), { code: "unreadable", message: /not a regular file/ });
    await refuses("", "empty", /empty/);
  });

  test("text, a Git LFS pointer, another protobuf", async () => {
    await refuses("<!DOCTYPE html><html></html>", "not_onnx", /not an ONNX model/);
    await refuses("version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "not_onnx", /git lfs pull/);
    await refuses(protobuf.Writer.create().uint32(10).string("a name").finish(), "not_onnx", /not an ONNX model/);
  });

  test("a truncated model, wherever it ends", async () => {
    const model = addOne();
    await refuses(model.subarray(0, model.length - 30), "truncated", /truncated/);
    for (let length = 1; length < model.length; length++) {
      // What ends before the graph begins or after it ended can be valid protobuf; it must not be a crash.
      await readOnnxMetadata(await saved(model.subarray(0, length))).then(
        (metadata) => assert.equal(metadata.inputs.length, 1),
        (error) => assert.equal(error.name, "OnnxFileError"),
      );
    }
  });

  test("damaged bytes give metadata or a typed error, never anything else", async () => {
    const model = identity("FP32");
    await fc.assert(
      fc.asyncProperty(fc.nat(model.length - 1), fc.nat(255), async (at, value) => {
        const damaged = model.slice();
        damaged[at] = value;
        await readOnnxMetadata(await saved(damaged)).catch((error) => assert.equal(error.name, "OnnxFileError"));
      }),
      { numRuns: 200 },
    );
  });
});

test("weights are not read, however many there are", async () => {
  const gigabytes = 3;
  const weightBytes = gigabytes * 2 ** 30;
  const tensorHead = protobuf.Writer.create()
    .uint32(8)
    .int64(weightBytes / 4)
    .uint32(16)
    .int64(1)
    .uint32(66)
    .string("w");
  const raw = tensorHead.uint32(74).uint64(weightBytes).finish();
  const tensor = protobuf.Writer.create()
    .uint32(42)
    .uint64(raw.length + weightBytes)
    .finish();
  const value = protobuf.Writer.create().uint32(90).fork().uint32(10).string("x").ldelim().finish();
  const graph = protobuf.Writer.create().uint32(8).int64(9).uint32(58);
  const head = graph.uint64(tensor.length + raw.length + weightBytes + value.length).finish();
  const file = path.join(folder, "sparse.onnx");
  const handle = await open(file, "w");
  const start = Buffer.concat([head, tensor, raw]);
  await handle.write(start);
  await handle.write(value, 0, value.length, start.length + weightBytes);
  await handle.close();
  const before = process.memoryUsage().rss;
  const metadata = await readOnnxMetadata(file);
  assert.equal(metadata.parameters, weightBytes / 4);
  assert.equal(metadata.inputs[0]!.name, "x");
  assert.ok(process.memoryUsage().rss - before < 64 * 2 ** 20);
});

test("integers of 64 bits are read with their sign", async () => {
  const values = [
    0,
    1,
    127,
    128,
    2 ** 28,
    2 ** 31,
    2 ** 32 + 1,
    Number.MAX_SAFE_INTEGER,
    -1,
    -(2 ** 31),
    -(2 ** 40) - 1,
  ];
  const writer = protobuf.Writer.create();
  for (const value of values) writer.uint32(8).int64(value);
  const message = writer.finish();
  const handle = await open(await saved(message), "r");
  const read: number[] = [];
  await new ProtobufFile(handle, message.length).walk(0, message.length, (field) => {
    read.push(field.value);
  });
  await handle.close();
  assert.deepEqual(read, values);
});

describe("tree ensembles, whose attributes have a field for each number", () => {
  const count = 200_000;
  /** As LightGBM's and scikit-learn's converters write them, but for the rest of the attributes. */
  const forest = (): Uint8Array => {
    const graph = new Graph("forest");
    graph.input("x", "FP32", ["batch", 4]);
    graph.output("y", "FP32", ["batch", 1]);
    const numbers = Array.from({ length: count }, (_, index) => (index % 2 === 0 ? 1 : -index));
    graph.node("TreeEnsembleRegressor", ["x"], { nodes_nodeids: numbers }, "y");
    return writeModel(graph);
  };

  test("no number costs a promise", async () => {
    const file = await saved(forest());
    let promises = 0;
    const stop = promiseHooks.onInit(() => {
      promises++;
    });
    const metadata = await readOnnxMetadata(file).finally(() => stop());
    assert.equal(metadata.graphName, "forest");
    assert.deepEqual(metadata.inputs.map(wireShape), [[-1, 4]]);
    assert.deepEqual(metadata.outputs.map(wireShape), [[-1, 1]]);
    assert.ok(promises < count / 10, `${promises} promises`);
  });

  test("other work runs in between", async () => {
    const writer = protobuf.Writer.create();
    for (let index = 0; index < count; index++) writer.uint32(8 << 3).int64(index % 100);
    const message = writer.finish();
    const handle = await open(await saved(message), "r");
    let fields = 0;
    let inOneTurn = 0;
    let longestTurn = 0;
    const nextTurn = (): void => {
      inOneTurn = 0;
      turn = setImmediate(nextTurn);
    };
    let turn = setImmediate(nextTurn);
    await new ProtobufFile(handle, message.length).walk(0, message.length, () => {
      fields++;
      longestTurn = Math.max(longestTurn, ++inOneTurn);
    });
    clearImmediate(turn);
    await handle.close();
    assert.equal(fields, count);
    assert.ok(longestTurn <= 32_768, `${longestTurn} fields in one turn`);
  });
});
