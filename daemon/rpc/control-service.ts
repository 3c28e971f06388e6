/** Every call but inference: state, metadata, configuration, statistics and repository; none of them is frequent. */
import type { ServerUnaryCall, sendUnaryData } from "@grpc/grpc-js";
import type { GRPCInferenceServiceHandlers } from "../../proto/generated/inference/GRPCInferenceService.ts";
import type { ModelRepositoryParameter__Output } from "../../proto/generated/inference/ModelRepositoryParameter.ts";
import { SHARED_MEMORY_EXTENSION } from "../../proto/parameters.ts";
import type { ModelVersion } from "../repository/model.ts";
import { unknownModel } from "./decode/refusals.ts";
import { type ErrorStyle, internalError, RpcError, unaryStatus } from "./errors.ts";
import { notReady } from "./inference-gateway.ts";
import { configMessage, metadataMessage, statisticsMessage } from "./model-messages.ts";
import type { ModelCatalog, RepositoryAction, RepositoryParameter, RpcLogger, StatisticsSource } from "./ports.ts";
import type { RpcSettings } from "./settings.ts";
import { shown } from "./text.ts";

export type ControlHandlers = Pick<
  GRPCInferenceServiceHandlers,
  | "ServerLive"
  | "ServerReady"
  | "ModelReady"
  | "ServerMetadata"
  | "ModelMetadata"
  | "ModelConfig"
  | "ModelStatistics"
  | "RepositoryIndex"
  | "RepositoryModelLoad"
  | "RepositoryModelUnload"
  | "TraceSetting"
  | "LogSettings"
>;

/** What is really there: clients switch features on by these names. */
const EXTENSIONS: readonly string[] = [
  "binary_tensor_data",
  "model_configuration",
  "model_repository",
  "parameters",
  "statistics",
];
const SHARED_MEMORY_EXTENSIONS: readonly string[] = ["system_shared_memory", SHARED_MEMORY_EXTENSION];

export interface ControlParts {
  readonly catalog: ModelCatalog;
  readonly statistics: StatisticsSource;
  readonly settings: RpcSettings;
  readonly logger: RpcLogger;
  draining(): boolean;
}

/** Makes a handler of a function that returns the answer or throws `RpcError`; anything else thrown stays in the log. */
export function unary<Request, Response>(
  answer: (request: Request, call: ServerUnaryCall<Request, Response>) => Response | Promise<Response>,
  style: ErrorStyle,
  logger: RpcLogger,
): (call: ServerUnaryCall<Request, Response>, callback: sendUnaryData<Response>) => void {
  return async (call, callback) => {
    let response: Response;
    try {
      response = await answer(call.request, call);
    } catch (thrown) {
      const error = thrown instanceof RpcError ? thrown : internalError();
      if (error !== thrown) logger.error({ err: thrown, path: call.getPath() }, "a call failed by an unforeseen error");
      callback(unaryStatus(error, style));
      return;
    }
    callback(null, response);
  };
}

export function notOffered(message: string): RpcError {
  return new RpcError("UNIMPLEMENTED", "not_offered", message);
}

export function controlHandlers(parts: ControlParts): ControlHandlers {
  const { catalog, settings, logger, statistics } = parts;
  const handler = <Request, Response>(answer: (request: Request) => Response | Promise<Response>) =>
    unary(answer, settings.errors, logger);
  return {
    ServerLive: handler(() => ({ live: true })),
    ServerReady: handler(() => ({ ready: !parts.draining() && catalog.ready() })),
    ModelReady: handler(({ name, version }) => {
      // Clients ask until it is true: a model that isn't there yet is not ready, and no error.
      return { ready: catalog.find(name, version).type === "ready" && !parts.draining() };
    }),
    ServerMetadata: handler(() => ({
      name: settings.serverName,
      version: settings.serverVersion,
      extensions: [...EXTENSIONS, ...(settings.sharedMemoryPeers === "none" ? [] : SHARED_MEMORY_EXTENSIONS)],
    })),
    ModelMetadata: handler(({ name, version }) => {
      const known = describedVersion(catalog, name, version);
      return metadataMessage(known, version === "" ? catalog.versions(name) : [known.version]);
    }),
    ModelConfig: handler(({ name, version }) => ({ config: configMessage(describedVersion(catalog, name, version)) })),
    ModelStatistics: handler(({ name, version }) => ({
      model_stats: statisticsEntries(catalog, name, version).map((entry) =>
        statisticsMessage(entry.name, entry.version, statistics.statistics(`${entry.name}/${entry.version}`)),
      ),
    })),
    RepositoryIndex: handler(({ ready }) => ({
      models: catalog
        .list()
        .filter((entry) => !ready || entry.state === "READY")
        .map((entry) => ({ ...entry })),
    })),
    RepositoryModelLoad: handler(async ({ model_name, parameters }) => {
      checkAction(await catalog.load(model_name, repositoryParameters(parameters)), model_name);
      return {};
    }),
    RepositoryModelUnload: handler(async ({ model_name, parameters }) => {
      checkAction(await catalog.unload(model_name, repositoryParameters(parameters)), model_name);
      return {};
    }),
    TraceSetting: handler(() => {
      throw notOffered(
        "trace settings are not offered; ask for slackline_timings on a request to see where its time goes",
      );
    }),
    LogSettings: handler(() => {
      throw notOffered("log settings can't be changed by a call; start the daemon with the log level wanted");
    }),
  };
}

/** A version whose interface is known, ready or not. */
function describedVersion(catalog: ModelCatalog, name: string, version: string): ModelVersion {
  const found = catalog.find(name, version);
  switch (found.type) {
    case "ready":
      return found.model.version;
    case "unknown":
      throw unknownModel(name, version);
    case "not-ready":
      if (found.model === null) throw notReady(name, found);
      return found.model.version;
  }
}

/** The versions whose statistics are asked for: an empty name means all models, an empty version all of the model's. */
function statisticsEntries(catalog: ModelCatalog, name: string, version: string): { name: string; version: string }[] {
  const entries = catalog
    .list()
    .filter((entry) => entry.version !== "" && entry.state !== "UNKNOWN")
    .filter((entry) => (name === "" || entry.name === name) && (version === "" || entry.version === version));
  if (name === "" || entries.length > 0) return entries;
  // A model that has no version to show is known all the same; one that isn't there at all is an error.
  if (version === "" && catalog.list().some((entry) => entry.name === name)) return [];
  throw unknownModel(name, version);
}

function repositoryParameters(
  parameters: Readonly<Record<string, ModelRepositoryParameter__Output>>,
): Map<string, RepositoryParameter> {
  const values = new Map<string, RepositoryParameter>();
  for (const [name, parameter] of Object.entries(parameters)) {
    const value = parameter.parameter_choice === undefined ? undefined : parameter[parameter.parameter_choice];
    if (value === undefined) continue;
    // 64-bit integers are read as decimal strings.
    values.set(name, parameter.parameter_choice === "int64_param" ? Number(value) : (value as RepositoryParameter));
  }
  return values;
}

function checkAction(action: RepositoryAction, name: string): void {
  if (action.ok) return;
  switch (action.kind) {
    case "unknown":
      throw unknownModel(name, "");
    case "refused":
      throw new RpcError("FAILED_PRECONDITION", "refused", action.reason);
    case "invalid":
      throw new RpcError("INVALID_ARGUMENT", "invalid", action.reason);
    case "failed":
      throw new RpcError("INTERNAL", "failed", `model '${shown(name)}': ${action.reason}`);
  }
}
