/** Loads the protocol's definition at run time, with the options that the generated types were made for. */
import path from "node:path";
import { loadPackageDefinition } from "@grpc/grpc-js";
import { loadSync, type Options, type PackageDefinition } from "@grpc/proto-loader";
import { PACKAGE_ROOT } from "../daemon/package-root.ts";
import type { ProtoGrpcType } from "./generated/inference.ts";

/**
 * How messages look in JavaScript. Field names are the protocol's own. 64-bit integers are decimal strings when read
 * (numbers, strings and Long objects are accepted when written): INT64 elements, parameters and nanosecond counters need
 * the full range, which a number silently loses; dimensions are small and `Number(…)` is exact on them. Bytes are
 * Buffers, views on the received message. Absent fields have their defaults, except members of a oneof, whose name tells which is
 * set. `generate.ts` gives the type generator the same choices.
 */
export const LOADER_OPTIONS: Options = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true };

/** Folder of the .proto files, absolute. */
export const PROTO_DIR: string = path.join(PACKAGE_ROOT, "proto");

export interface Protocol {
  /** For reflection. */
  readonly packageDefinition: PackageDefinition;
  /** Messages and the service: `inference.GRPCInferenceService.service` is what `Server.addService` takes. */
  readonly inference: ProtoGrpcType["inference"];
}

/** Reads and parses the .proto files (some 20 ms: call once). */
export function loadProtocol(): Protocol {
  const packageDefinition = loadSync("inference.proto", { ...LOADER_OPTIONS, includeDirs: [PROTO_DIR] });
  const { inference } = loadPackageDefinition(packageDefinition) as unknown as ProtoGrpcType;
  return { packageDefinition, inference };
}
