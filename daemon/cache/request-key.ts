import { createHash } from "node:crypto";
import type { InferenceRequest } from "../engine/ports.ts";
import { type InputTensor, joinStrings } from "../engine/tensors.ts";

/**
 * Under what a request's answer is kept: equal for requests with the same `cacheAs`, inputs (names, datatypes, shapes, bytes) and
 * wanted outputs, and for no others, as far as SHA-256 keeps them apart. 32 characters.
 *
 * What is hashed is unambiguous: a JSON text, which shows its own end and says how many bytes of each input follow it.
 */
export function requestKey({ cacheAs, inputs, outputs }: InferenceRequest): string {
  const data = inputs.map(bytesOf);
  const head = inputs.map(({ name, datatype, shape }, index) => [name, datatype, shape, data[index]!.byteLength]);
  const hash = createHash("sha256").update(JSON.stringify([cacheAs, outputs, head]));
  for (const bytes of data) hash.update(bytes);
  return hash.digest("binary");
}

function bytesOf({ name, data }: InputTensor): Uint8Array {
  if (data instanceof Uint8Array) return data;
  if ("copyTo" in data) throw new Error(`input '${name}' is not in memory, though its request's answer may be cached`);
  return joinStrings(data);
}
