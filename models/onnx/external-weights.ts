import type { GraphDefinition } from "./graph.ts";
import type { Constant } from "./tensor.ts";

/** Smaller constants stay in the model file. */
const EXTERNAL_BYTES_MIN = 4096;
/** Where the runtime can map a weight from: whole pages. */
const ALIGNMENT_BYTES = 4096;

/** A graph whose weights lie in another file, and that file's pieces in order, padding included. */
export interface ExternalizedGraph {
  readonly graph: GraphDefinition;
  readonly pieces: readonly Uint8Array[];
}

/** Moves a graph's large constants to the file `location` beside the model. */
export function externalizeWeights(graph: GraphDefinition, location: string): ExternalizedGraph {
  const constants = new Map<string, Constant>();
  const pieces: Uint8Array[] = [];
  let offsetBytes = 0;
  for (const [name, constant] of graph.constants) {
    const { data } = constant;
    if (data === null || data.byteLength < EXTERNAL_BYTES_MIN) {
      constants.set(name, constant);
      continue;
    }
    const lengthBytes = data.byteLength;
    constants.set(name, { ...constant, data: null, external: { location, offsetBytes, lengthBytes } });
    const padding = (ALIGNMENT_BYTES - (lengthBytes % ALIGNMENT_BYTES)) % ALIGNMENT_BYTES;
    pieces.push(data, new Uint8Array(padding));
    offsetBytes += lengthBytes + padding;
  }
  const { name, nodes, inputs, outputs } = graph;
  return { graph: { name, nodes, inputs, outputs, constants }, pieces };
}
