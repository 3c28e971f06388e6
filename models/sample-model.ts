import type { Graph } from "./onnx/graph.ts";

/** What the generator and the catalog know of a sample model besides its file. */
export interface SampleModel {
  readonly name: string;
  readonly task: string;
  readonly license: string;
  readonly provenance: string;
  readonly weights: "trained" | "seeded random";
  /** Share of the held-out test images that a trained model gets right. */
  readonly testAccuracy?: number;
  /** How the catalog's interface is meant: value ranges, what dimensions stand for. */
  readonly notes: string;
  /** Builds the graph; null for a model whose file is committed. */
  readonly build: (() => Graph) | null;
  /** Whether the weights go to a file beside the model, which the runtime then maps instead of parsing. */
  readonly externalWeights: boolean;
}
