/**
 * The two hot messages as protobufjs decodes and encodes them without the conversions of a generic loader: field names are
 * the protocol's, 64-bit integers are Long objects when read, absent scalars read as their defaults, bytes are views.
 */

/** The part of `Long` that is used; protobufjs makes them. */
export interface WireLong {
  readonly low: number;
  readonly high: number;
  readonly unsigned: boolean;
  toNumber(): number;
  toString(): string;
}

export interface WireParameter {
  readonly bool_param?: boolean;
  readonly int64_param?: WireLong | number;
  readonly string_param?: string;
  readonly double_param?: number;
  readonly uint64_param?: WireLong | number;
}

/** A parameter as decoded: which of its members is set. */
export interface ReadParameter extends WireParameter {
  readonly parameter_choice?: "bool_param" | "int64_param" | "string_param" | "double_param" | "uint64_param";
}

/** A map entry may come without its value. */
export type ReadParameters = Readonly<Record<string, ReadParameter | null>>;

export interface ReadInput {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly WireLong[];
  readonly parameters: ReadParameters;
  /** An InferTensorContents, still encoded; empty where there is none. */
  readonly contents: Uint8Array;
}

export interface ReadRequestedOutput {
  readonly name: string;
  readonly parameters: ReadParameters;
}

/** ModelInferRequest as received. */
export interface ReadRequest {
  readonly model_name: string;
  readonly model_version: string;
  readonly id: string;
  readonly parameters: ReadParameters;
  readonly inputs: readonly ReadInput[];
  readonly outputs: readonly ReadRequestedOutput[];
  readonly raw_input_contents: readonly Uint8Array[];
}

export interface WireOutput {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
  readonly parameters?: Readonly<Record<string, WireParameter>>;
}

/** ModelInferResponse to be sent. */
export interface WireResponse {
  readonly model_name?: string;
  readonly model_version?: string;
  readonly id?: string;
  readonly parameters?: Readonly<Record<string, WireParameter>>;
  readonly outputs?: readonly WireOutput[];
  readonly raw_output_contents?: readonly Uint8Array[];
}

/** ModelStreamInferResponse to be sent. */
export interface WireStreamResponse {
  readonly error_message?: string;
  readonly infer_response?: WireResponse;
}
