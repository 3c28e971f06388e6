import type { Datatype } from "../../daemon/engine/tensors.ts";
import type { Constant } from "./tensor.ts";

/** A size, or the name of one that varies; tensors whose dimensions share a name have the same size there. */
export type Dim = number | string;

/** An attribute's value. Whole numbers that ONNX expects as floats are written `float(1)`. */
export type Attribute = number | string | readonly number[] | Float | Constant | GraphDefinition;

export interface Float {
  readonly float: number;
}

export function float(value: number): Float {
  return { float: value };
}

export interface NodeDefinition {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** What the runtime calls it in messages. */
  readonly name?: string;
  readonly attributes: Readonly<Record<string, Attribute>>;
}

export interface ValueDefinition {
  readonly name: string;
  readonly datatype: Datatype;
  /** null: the rank is unknown. */
  readonly dims: readonly Dim[] | null;
}

/** A graph, ready to be written. */
export interface GraphDefinition {
  readonly name: string;
  readonly nodes: readonly NodeDefinition[];
  readonly constants: ReadonlyMap<string, Constant>;
  readonly inputs: readonly ValueDefinition[];
  readonly outputs: readonly ValueDefinition[];
}

/** Builds a graph node by node; values are known by their names. */
export class Graph implements GraphDefinition {
  readonly name: string;
  readonly nodes: NodeDefinition[] = [];
  readonly constants: Map<string, Constant> = new Map();
  readonly inputs: ValueDefinition[] = [];
  readonly outputs: ValueDefinition[] = [];
  #values = 0;

  constructor(name: string) {
    this.name = name;
  }

  input(name: string, datatype: Datatype, dims: readonly Dim[] | null): string {
    this.inputs.push({ name, datatype, dims });
    return name;
  }

  output(name: string, datatype: Datatype, dims: readonly Dim[] | null): string {
    this.outputs.push({ name, datatype, dims });
    return name;
  }

  /** Adds a weight or another constant; returns its name. */
  constant(name: string, constant: Constant): string {
    if (this.constants.has(name)) throw new Error(`graph ${this.name} has two constants named ${name}`);
    this.constants.set(name, constant);
    return name;
  }

  /** Adds a node with one output; returns the output's name, which is made up unless given. */
  node(
    op: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, Attribute>> = {},
    output?: string,
  ): string {
    const name = output ?? `${op.toLowerCase()}_${this.#values++}`;
    this.nodes.push({ op, inputs, outputs: [name], attributes });
    return name;
  }
}
