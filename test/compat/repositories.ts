/** The repositories that the clients are tried on. */
import { copyFileSync } from "node:fs";
import path from "node:path";
import { type Datatype, ELEMENT_BYTES } from "../../daemon/engine/tensors.ts";
import { ensureSampleModels } from "../../models/ensure-samples.ts";
import { addOne, identity, noBatchDim, slow, twoInputsTwoOutputs } from "../../models/onnx/tiny.ts";
import { writeModelFiles } from "../support/live-daemon.ts";
import { COMPAT_DIR } from "./compat-dir.ts";

/** One identity model for each datatype (`identity_fp32`, …), models with a shape of their own, and `digits`. */
export async function writeClientRepository(dir: string): Promise<void> {
  for (const datatype of Object.keys(ELEMENT_BYTES) as Datatype[]) {
    writeModelFiles(dir, `identity_${datatype.toLowerCase()}`, { "1/model.onnx": identity(datatype, null) });
  }
  writeModelFiles(dir, "pair", { "1/model.onnx": twoInputsTwoOutputs() });
  writeModelFiles(dir, "fixed", { "1/model.onnx": noBatchDim() });
  writeModelFiles(dir, "versions", {
    "1/model.onnx": identity("FP32", 4),
    "2/model.onnx": addOne(),
    "config.yaml": "versions: all\n",
  });
  // Some tens of milliseconds an item, so that a client's timeout comes first.
  writeModelFiles(dir, "slow", {
    "1/model.onnx": slow({ layers: 400, width: 1024 }),
    "config.yaml": "max_batch_size: 1\n",
  });
  const sample = await ensureSampleModels({ only: ["digits"] });
  for (const file of ["1/model.onnx", "config.yaml"]) {
    writeModelFiles(dir, "digits", { [file]: "" });
    copyFileSync(path.join(sample, "digits", file), path.join(dir, "digits", file));
  }
}

/** A repository as its owner wrote it for Triton. */
export function writeTritonRepository(dir: string): void {
  const config = (name: string): void => {
    writeModelFiles(dir, name, { "config.pbtxt": "" });
    copyFileSync(path.join(COMPAT_DIR, "triton", `${name}.pbtxt`), path.join(dir, name, "config.pbtxt"));
  };
  writeModelFiles(dir, "adder", { "1/model.onnx": identity("FP32", 4), "3/model.onnx": addOne() });
  config("adder");
  writeModelFiles(dir, "doubler", { "1/doubler.onnx": noBatchDim() });
  config("doubler");
  writeModelFiles(dir, "texts", { "1/model.onnx": identity("BYTES", 2) });
  config("texts");
}

/** Two small models to load and unload by request. */
export function writeExplicitRepository(dir: string): void {
  writeModelFiles(dir, "first", { "1/model.onnx": identity("FP32", 4) });
  writeModelFiles(dir, "second", { "1/model.onnx": addOne() });
}
