/**
 * The yardstick: a bare grpc-js server with the same messages, through proto-loader's generic codec, that answers every request with its
 * inputs. Runs as a process of its own, prints its port and ends with its parent.
 */
import {
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type sendUnaryData,
} from "@grpc/grpc-js";
import type { ModelInferRequest__Output as Request } from "../../proto/generated/inference/ModelInferRequest.ts";
import type { ModelInferResponse as Response } from "../../proto/generated/inference/ModelInferResponse.ts";
import type { ModelStreamInferResponse as StreamResponse } from "../../proto/generated/inference/ModelStreamInferResponse.ts";
import { loadProtocol } from "../../proto/load.ts";

function echo({ id, model_name, inputs, raw_input_contents }: Request): Response {
  return {
    model_name,
    model_version: "1",
    id,
    outputs: inputs.map(({ name, datatype, shape }) => ({ name, datatype, shape })),
    raw_output_contents: raw_input_contents,
  };
}

const server = new Server({
  "grpc.enable_channelz": 0,
  "grpc.max_receive_message_length": -1,
  "grpc.max_send_message_length": -1,
});
server.addService(loadProtocol().inference.GRPCInferenceService.service, {
  ModelInfer: (call: ServerUnaryCall<Request, Response>, callback: sendUnaryData<Response>) => {
    callback(null, echo(call.request));
  },
  ModelStreamInfer: (stream: ServerDuplexStream<Request, StreamResponse>) => {
    stream.on("data", (request: Request) => stream.write({ infer_response: echo(request) }));
    stream.on("end", () => stream.end());
    stream.on("error", () => {});
  },
});
server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
  if (error !== null) throw error;
  process.send?.(port);
});
process.on("disconnect", () => process.exit(0));
