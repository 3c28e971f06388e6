/**
 * A server under load, called as by a client that knows the Open Inference Protocol and nothing else: one unary call for each request, whose
 * deadline is gRPC's. So that servers of other makers can be measured too, and little of a core goes to the generator: messages are encoded
 * before the run, and answers are not decoded.
 */
import { Client, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import type { InferParameter } from "../../proto/generated/inference/InferParameter.ts";
import type { ModelInferRequest } from "../../proto/generated/inference/ModelInferRequest.ts";
import { loadProtocol } from "../../proto/load.ts";
import type { Inputs, PreparedModel } from "./payloads.ts";
import type { Call, CallOutcome, Target } from "./target.ts";

const PATH = "/inference.GRPCInferenceService/ModelInfer";
const identity = (bytes: Buffer): Buffer => bytes;

/** Work without deadline, as slackline is told, and as Triton is (the lower of two levels). */
const BEST_EFFORT: Record<string, InferParameter> = {
  best_effort: { bool_param: true },
  priority: { uint64_param: 2 },
};

interface Messages {
  readonly plain: readonly Buffer[];
  readonly bestEffort: readonly Buffer[];
}

export class PlainTarget implements Target {
  readonly #client: Client;
  readonly #models: ReadonlyMap<string, ReadonlyMap<number, Messages>>;
  #sent = 0;

  constructor(address: string, models: ReadonlyMap<string, PreparedModel>) {
    this.#client = new Client(address, credentials.createInsecure(), {
      "grpc.enable_channelz": 0,
      "grpc.max_receive_message_length": -1,
      "grpc.max_send_message_length": -1,
    });
    this.#models = new Map([...models].map(([name, prepared]) => [name, encoded(name, prepared)]));
  }

  send({ model, tenant, items, deadlineMs, bestEffort }: Call): Promise<CallOutcome> {
    const messages = this.#models.get(model)!.get(items)![bestEffort ? "bestEffort" : "plain"];
    const message = messages[this.#sent++ % messages.length]!;
    const metadata = new Metadata();
    if (tenant !== "") metadata.set("slackline-tenant", tenant);
    const options = deadlineMs === null ? {} : { deadline: Date.now() + deadlineMs };
    return new Promise((resolve) => {
      this.#client.makeUnaryRequest(PATH, identity, identity, message, metadata, options, (error) =>
        resolve(error === null ? { type: "answered", timings: null } : failure(error)),
      );
    });
  }

  close(): void {
    this.#client.close();
  }
}

function failure({ code, details, metadata }: ServiceError): CallOutcome {
  const cause = metadata.get("slackline_cause")[0];
  if (cause !== undefined) return { type: "shed", cause: String(cause) };
  return { type: "error", code: status[code], message: details };
}

function encoded(name: string, prepared: PreparedModel): ReadonlyMap<number, Messages> {
  const { requestSerialize } = loadProtocol().inference.GRPCInferenceService.service.ModelInfer;
  const messages = (variants: readonly Inputs[], parameters: Record<string, InferParameter>): Buffer[] =>
    variants.map((inputs) => requestSerialize({ ...request(name, inputs), parameters }));
  return new Map(
    [...prepared].map(([items, variants]) => [
      items,
      { plain: messages(variants, {}), bestEffort: messages(variants, BEST_EFFORT) },
    ]),
  );
}

function request(model: string, inputs: Inputs): ModelInferRequest {
  return {
    model_name: model,
    inputs: Object.entries(inputs).map(([name, { datatype, shape }]) => ({ name, datatype, shape: [...shape] })),
    raw_input_contents: Object.values(inputs).map((tensor) => {
      if (tensor.datatype === "BYTES") return lengthPrefixed(tensor.data);
      const { buffer, byteOffset, byteLength } = tensor.data;
      return Buffer.from(buffer, byteOffset, byteLength);
    }),
  };
}

/** Raw BYTES elements: each behind its length, 4 bytes, little-endian. */
function lengthPrefixed(elements: readonly (Uint8Array | string)[]): Buffer {
  return Buffer.concat(
    elements.flatMap((element) => {
      const bytes = Buffer.from(element);
      const length = Buffer.alloc(4);
      length.writeUInt32LE(bytes.length);
      return [length, bytes];
    }),
  );
}
