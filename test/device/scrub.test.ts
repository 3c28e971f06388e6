import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { scrubPaths } from "../../daemon/device/scrub.ts";

describe("messages of the runtime", () => {
  it("lose the host's paths", () => {
    const model = "/srv/my models/digits/1/model.onnx";
    assert.equal(
      scrubPaths(`Load model from ${model} failed:Load model ${model} failed. File doesn't exist`, model),
      "Load model from model.onnx failed:Load model model.onnx failed. File doesn't exist",
    );
    assert.equal(
      scrubPaths(`cannot open ${"/srv/my models/digits/1/weights.bin"}`, model),
      "cannot open the model's folder/weights.bin",
    );
    assert.equal(
      scrubPaths("[ONNXRuntimeError] : 1 : FAIL : /onnxruntime_src/onnxruntime/core/framework/op_kernel.cc:83 no"),
      "op_kernel.cc:83 no",
    );
    assert.equal(
      scrubPaths("Failed to load library /opt/ort/libonnxruntime_providers_cuda.so with error"),
      "Failed to load library libonnxruntime_providers_cuda.so with error",
    );
  });

  it("keep the names of nodes, which look like paths", () => {
    assert.equal(
      scrubPaths(
        "Non-zero status code returned while running MatMul node. Name:'/encoder/layer.0/MatMul' Status Message: bad\ndims",
      ),
      'MatMul node "/encoder/layer.0/MatMul" failed: bad dims',
    );
  });
});
