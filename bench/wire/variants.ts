/** The ways of making a request that are compared: each is a function that makes one and resolves with its answer. */
import { credentials } from "@grpc/grpc-js";
import { type Datatype, SlacklineClient, type SlacklineClientOptions, type Tensor, tensor } from "slackline-client";
import type { ModelInferRequest } from "../../proto/generated/inference/ModelInferRequest.ts";
import { loadProtocol } from "../../proto/load.ts";

export interface Variant {
  readonly name: string;
  request(): Promise<void>;
  close(): void;
}

/** The one tensor that each request carries. */
export interface Payload {
  readonly model: string;
  readonly input: string;
  readonly tensor: Exclude<Tensor, { datatype: "BYTES" }>;
}

/** A plain client stub over proto-loader's codec: what one writes without an SDK. */
export function bareUnary(name: string, target: string, { model, input, tensor: sent }: Payload): Variant {
  const { GRPCInferenceService } = loadProtocol().inference;
  const stub = new GRPCInferenceService(target, credentials.createInsecure(), {
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
  });
  const bytes = Buffer.from(sent.data.buffer, sent.data.byteOffset, sent.data.byteLength);
  const request: ModelInferRequest = {
    model_name: model,
    inputs: [{ name: input, datatype: sent.datatype, shape: [...sent.shape] }],
    raw_input_contents: [bytes],
  };
  return {
    name,
    request: () =>
      new Promise((resolve, reject) => {
        stub.ModelInfer(request, (error) => (error === null ? resolve() : reject(error)));
      }),
    close: () => stub.close(),
  };
}

export function sdk(
  name: string,
  target: string,
  payload: Payload,
  options: Pick<SlacklineClientOptions, "transport" | "sharedMemory">,
): Variant {
  const client = new SlacklineClient({ target, ...options });
  const inputs = { [payload.input]: payload.tensor };
  return {
    name,
    request: () => client.infer(payload.model, inputs).then(() => {}),
    close: () => client.close(),
  };
}

const ELEMENTS: Readonly<Partial<Record<Datatype, (shape: number[], count: number) => Payload["tensor"]>>> = {
  UINT8: (shape, count) => tensor.uint8(shape, new Uint8Array(count)),
  INT32: (shape, count) => tensor.int32(shape, new Int32Array(count)),
  INT64: (shape, count) => tensor.int64(shape, new BigInt64Array(count)),
  FP32: (shape, count) => tensor.float32(shape, new Float32Array(count)),
  FP64: (shape, count) => tensor.float64(shape, new Float64Array(count)),
};
const ELEMENT_BYTES: Readonly<Partial<Record<Datatype, number>>> = { UINT8: 1, INT32: 4, INT64: 8, FP32: 4, FP64: 8 };

/**
 * One item of about `bytes` for a declared shape: the last dimension that varies takes what is needed, the others are 1. Null where nothing but
 * the first (batch) dimension varies and the size is another.
 */
export function payloadOf(
  model: string,
  input: string,
  datatype: Datatype,
  declared: readonly number[],
  bytes: number,
): Payload | null {
  const make = ELEMENTS[datatype];
  const size = ELEMENT_BYTES[datatype];
  if (make === undefined || size === undefined)
    throw new Error(`input '${input}' is ${datatype}; wanted ${Object.keys(ELEMENTS)}`);
  const shape = declared.map((dim) => (dim < 0 ? 1 : dim));
  const fixed = shape.reduce((product, dim) => product * dim, 1);
  const varying = declared.findLastIndex((dim, index) => dim < 0 && (index > 0 || declared.length === 1));
  const wanted = Math.max(1, Math.round(bytes / size / fixed));
  if (varying < 0 && wanted !== 1) return null;
  if (varying >= 0) shape[varying] = wanted;
  return { model, input, tensor: make(shape, varying < 0 ? fixed : fixed * wanted) };
}
