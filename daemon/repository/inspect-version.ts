import type { DeclaredInterface, DeclaredTensor } from "./batch-dimension.ts";
import { VersionError } from "./errors.ts";
import { OnnxFileError, type OnnxMetadata, type OnnxValue, readOnnxMetadata } from "./onnx-metadata.ts";
import { checkExternalData, findModelFile, hashFiles } from "./version-files.ts";

/** What the files of a version say, its model's configuration left aside. */
export interface InspectedVersion {
  readonly path: string;
  readonly hash: string;
  readonly declared: DeclaredInterface;
}

/**
 * Reads and checks a version's files. Throws VersionError with the reason why they can't be served.
 *
 * @param root real path of the model's folder
 * @param folder the version's folder
 * @param shown how messages name that folder (`digits/1`)
 */
export async function inspectVersion(
  root: string,
  folder: string,
  shown: string,
  fileName: string,
): Promise<InspectedVersion> {
  const path = await findModelFile(root, folder, shown, fileName);
  let metadata: OnnxMetadata;
  try {
    metadata = await readOnnxMetadata(path);
  } catch (error) {
    if (error instanceof OnnxFileError) {
      throw new VersionError(`${shown}/${fileName}: ${error.message.replace(/\.$/, "")}`, { cause: error });
    }
    throw error;
  }
  const locations = await checkExternalData(root, path, metadata.externalData, shown);
  const declared = {
    inputs: metadata.inputs.map((value) => servable(value, "input")),
    outputs: metadata.outputs.map((value) => servable(value, "output")),
  };
  if (declared.outputs.length === 0) throw new VersionError(`${shown}/${fileName}: the model has no outputs`);
  return { path, hash: await hashFiles(path, locations), declared };
}

function servable(value: OnnxValue, role: "input" | "output"): DeclaredTensor {
  const { name, kind, elementType, datatype, dims } = value;
  if (kind !== "tensor") {
    const what = kind === "untyped" ? "has no declared type" : `is a ${kind.replace("_", " ")}`;
    const isList = role === "output" && (kind === "sequence" || kind === "map");
    const hint = isList ? " (models of scikit-learn: convert them with skl2onnx's options={'zipmap': False})" : "";
    throw new VersionError(`${role} '${name}' ${what}; only tensors can be served${hint}`);
  }
  if (datatype === null) {
    throw new VersionError(`${role} '${name}' has the element type ${elementType}, which can't be served`);
  }
  return { name, datatype, dims };
}
