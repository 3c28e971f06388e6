/** String elements: those that the runtime would alter are refused. */
import { isUtf8 } from "node:buffer";
import type { StringElements } from "../../engine/tensors.ts";
import { noText } from "./refusals.ts";

/** ONNX's strings are UTF-8, and the runtime's binding ends one at its first NUL. Throws `RpcError`. */
export function checkTexts(input: string, elements: StringElements, model: string): void {
  for (const [index, element] of elements.entries()) {
    if (!isUtf8(element)) throw noText(input, index, "is not UTF-8", model);
    if (element.includes(0)) throw noText(input, index, "holds a NUL", model);
  }
}
