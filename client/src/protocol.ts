/** The protocol's definition, loaded when something other than inference is first asked for. */
import path from "node:path";
import { type Client, credentials, loadPackageDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import type { GRPCInferenceServiceClient } from "./generated/inference/GRPCInferenceService.ts";
import type { ProtoGrpcType } from "./generated/inference.ts";

export type Stub = GRPCInferenceServiceClient;

/** From `src` and from `dist` alike, the definitions lie one folder up. */
const PROTO_DIR = path.join(import.meta.dirname, "..", "proto");

let service: ProtoGrpcType["inference"]["GRPCInferenceService"] | null = null;

/** The service's methods on an existing channel. */
export function stubOn(channel: ReturnType<Client["getChannel"]>): Stub {
  if (service === null) {
    const options = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true };
    const definition = loadSync("inference.proto", { ...options, includeDirs: [PROTO_DIR] });
    service = (loadPackageDefinition(definition) as unknown as ProtoGrpcType).inference.GRPCInferenceService;
  }
  return new service("", credentials.createInsecure(), { channelOverride: channel });
}
