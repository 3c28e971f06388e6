/** Rows that share a request, and their answers. */
import { ARRAY_CLASSES, type Datatype } from "../datatypes.ts";
import { SlacklineError } from "../errors.ts";
import type { Tensor } from "../tensor.ts";
import type { PredictModel } from "./model.ts";
import type { ReadRow, Row } from "./rows.ts";

/** Neighbours of equal shapes. */
export type Batch = readonly ReadRow[];

/** Neighbours of one kind share a request, or have failed already. */
export function kindOf(row: Row): string {
  return "error" in row ? "failed" : [...row.inputs.values()].map(({ shape }) => shape.join()).join(";");
}

/** Whether rows of one kind are a request's. */
export function isBatch(rows: readonly Row[]): rows is Batch {
  return rows.every((row) => "inputs" in row);
}

/** Bytes of the tensors' elements. */
export function bytesOf(tensors: Iterable<Tensor>): number {
  let bytes = 0;
  for (const { data } of tensors) {
    if ("byteLength" in data) bytes += data.byteLength;
    else for (const element of data) bytes += element.byteLength;
  }
  return bytes;
}

/** The request's inputs; the batch dimension comes first where the model has one. */
export function inputsOf(batch: Batch, model: PredictModel): Record<string, Tensor> {
  const entries = model.inputs.map(({ name, datatype }) => {
    const tensors = batch.map(({ inputs }) => inputs.get(name)!);
    return [name, model.maxBatchSize === null ? tensors[0]! : stack(datatype, tensors)] as const;
  });
  return Object.fromEntries(entries);
}

function stack(datatype: Datatype, tensors: readonly Tensor[]): Tensor {
  const [{ shape, data }] = tensors as [Tensor, ...Tensor[]];
  return { datatype, shape: [tensors.length, ...shape], data: joined(datatype, tensors, data) } as unknown as Tensor;
}

function joined(datatype: Datatype, tensors: readonly Tensor[], first: Tensor["data"]): Tensor["data"] {
  if (tensors.length === 1) return first;
  if (datatype === "BYTES") return tensors.flatMap(({ data }) => data as readonly Uint8Array[]);
  const ArrayClass = ARRAY_CLASSES[datatype];
  const count = first.length * tensors.length;
  const all = new ArrayClass(new ArrayBuffer(count * ArrayClass.BYTES_PER_ELEMENT), 0, count) as Uint8Array;
  for (const [i, { data }] of tensors.entries()) all.set(data as Uint8Array, i * first.length);
  return all;
}

/**
 * Each row's part of an answer; throws INTERNAL where an output is missing or has no entry for each row, FAILED_PRECONDITION where it is of
 * another type than the model declared.
 */
export function outputsOf(
  batch: Batch,
  outputs: Readonly<Record<string, Tensor>>,
  model: PredictModel,
): Record<string, Tensor>[] {
  const parts = batch.map((): [string, Tensor][] => []);
  for (const { name, datatype } of model.outputs) {
    const output = Object.hasOwn(outputs, name) ? outputs[name] : undefined;
    if (output === undefined) throw malformed(`model '${model.name}' gave no output '${name}'`);
    if (output.datatype !== datatype) {
      const message = `output '${name}' of model '${model.name}' is ${output.datatype}; expected ${datatype}, as the model declared it when the run began`;
      throw new SlacklineError("FAILED_PRECONDITION", message, { reason: "output_type" });
    }
    if (model.maxBatchSize === null) {
      parts[0]!.push([name, output]);
      continue;
    }
    const [items, ...shape] = output.shape;
    if (items !== batch.length) {
      throw malformed(
        `output '${name}' of model '${model.name}' has the shape [${output.shape}]; expected ${batch.length} entries, one an item`,
      );
    }
    const elements = output.data.length / items;
    for (const [i, part] of parts.entries()) {
      const { data } = output;
      const [begin, end] = [i * elements, (i + 1) * elements];
      const own = "subarray" in data ? data.subarray(begin, end) : data.slice(begin, end);
      part.push([name, { datatype: output.datatype, shape, data: own } as unknown as Tensor]);
    }
  }
  return parts.map((part) => Object.fromEntries(part));
}

function malformed(message: string): SlacklineError {
  return new SlacklineError("INTERNAL", message);
}
