/**
 * Reads a model's `config.pbtxt` as Triton's users write it: what has a meaning here becomes settings, what has none is
 * named in a warning, and what would make the model answer otherwise than under Triton is a problem.
 */
import { readFileSync } from "node:fs";
import type { ConfigProblem } from "../config/problems.ts";
import { fileErrorText } from "../config/yaml-file.ts";
import type { Datatype } from "../engine/tensors.ts";
import { FieldReader, ignored, shown } from "./field-reader.ts";
import { parseTextProto, type TextField, TextProtoError } from "./text-proto.ts";
import { BATCH_SIZE_MAX, type VersionPolicy, type WrittenModelConfig } from "./written-config.ts";

export const TRITON_CONFIG_FILE = "config.pbtxt";

export interface TritonConfig {
  readonly written: WrittenModelConfig;
  /** Datatypes that the file states, by tensor name. */
  readonly datatypes: Readonly<Record<string, Datatype>>;
  /** Name of the ONNX file in each version's folder. */
  readonly modelFile: string;
  readonly problems: readonly ConfigProblem[];
  readonly warnings: readonly string[];
  /** Points at the field that a setting came from. */
  problemAt(path: readonly (string | number)[], message: string): ConfigProblem;
}

const DATATYPES: Readonly<Record<string, Datatype>> = {
  TYPE_BOOL: "BOOL",
  TYPE_UINT8: "UINT8",
  TYPE_UINT16: "UINT16",
  TYPE_UINT32: "UINT32",
  TYPE_UINT64: "UINT64",
  TYPE_INT8: "INT8",
  TYPE_INT16: "INT16",
  TYPE_INT32: "INT32",
  TYPE_INT64: "INT64",
  TYPE_FP16: "FP16",
  TYPE_FP32: "FP32",
  TYPE_FP64: "FP64",
  TYPE_STRING: "BYTES",
};

type Writable<T> = { -readonly [K in keyof T]: T[K] };

/** @param name the model's: that of its folder */
export function readTritonConfig(file: string, name: string): TritonConfig {
  try {
    return parseTritonConfig(readFileSync(file, "utf8"), name);
  } catch (error) {
    const reader = new TritonReader(name);
    reader.problem(null, "", `can't be read: ${fileErrorText(error)}`);
    return reader.result();
  }
}

export function parseTritonConfig(text: string, name: string): TritonConfig {
  const reader = new TritonReader(name);
  try {
    reader.read(parseTextProto(text));
  } catch (error) {
    if (!(error instanceof TextProtoError)) throw error;
    reader.problem(error, "", error.message);
  }
  return reader.result();
}

class TritonReader extends FieldReader {
  readonly #name: string;
  readonly #written: Writable<WrittenModelConfig> = {};
  readonly #shapes: Record<string, readonly number[]> = {};
  readonly #datatypes: Record<string, Datatype> = {};
  readonly #warmShapes: Readonly<Record<string, readonly number[]>>[] = [];
  readonly #preferred: number[] = [];
  readonly #instances: { readonly kind: string; readonly count: number | null }[] = [];
  /** Where settings came from, by their dotted path in `written`. */
  readonly #origins = new Map<string, { readonly field: TextField; readonly path: string }>();
  #modelFile = "model.onnx";

  constructor(name: string) {
    super(`${name}/${TRITON_CONFIG_FILE}`);
    this.#name = name;
  }

  result(): TritonConfig {
    return {
      written: this.#written,
      datatypes: this.#datatypes,
      modelFile: this.#modelFile,
      problems: this.problems,
      warnings: this.warnings,
      problemAt: (path, message) => {
        for (let length = path.length; length > 0; length--) {
          const origin = this.#origins.get(path.slice(0, length).join("."));
          if (origin !== undefined) return this.problemOf(origin.field, origin.path, message);
        }
        return this.problemOf(null, path.join("."), message);
      },
    };
  }

  read(fields: readonly TextField[]): void {
    this.each(fields, "", {
      name: (field, path) => {
        const stated = this.text(field, path);
        if (stated !== null && stated !== "" && stated !== this.#name) {
          this.problem(field, path, `is '${stated}', but the model's folder is named '${this.#name}'`);
        }
      },
      platform: (field, path) => this.only(field, path, ["onnxruntime_onnx", ""]),
      backend: (field, path) => this.only(field, path, ["onnxruntime", ""]),
      runtime: ignored,
      max_batch_size: (field, path) => this.#maxBatchSize(field, path),
      input: (field, path) => this.#tensor(field, path),
      output: (field, path) => this.#tensor(field, path),
      version_policy: (field, path) => this.#versionPolicy(field, path),
      dynamic_batching: (field, path) => this.#dynamicBatching(field, path),
      instance_group: (field, path) => this.#instanceGroup(field, path),
      model_warmup: (field, path) => this.#warmUp(field, path),
      default_model_filename: (field, path) => this.#fileName(field, path),
      parameters: (field, path) => this.#parameter(field, path),
      response_cache: (field, path) =>
        this.each(this.message(field, path), path, {
          enable: (enable) => {
            this.#written.cache = this.isTrue(enable);
          },
        }),
      model_transaction_policy: (field, path) =>
        this.each(this.message(field, path), path, {
          decoupled: (decoupled, at) => {
            if (this.isTrue(decoupled))
              this.problem(decoupled, at, "models with several answers to a request are not offered");
          },
        }),
      sequence_batching: (field, path) => this.problem(field, path, "sequences are not offered"),
      ensemble_scheduling: (field, path) =>
        this.problem(field, path, "ensembles are not offered; call the models one after another"),
      batch_input: (field, path) => this.problem(field, path, "inputs made by the server are not offered"),
      batch_output: (field, path) => this.problem(field, path, "outputs made by the server are not offered"),
      optimization: (field, path) =>
        this.meaningless(field, path, "the runtime optimises the graph fully, on the daemon's device"),
      cc_model_filenames: (field, path) => this.meaningless(field, path, "one ONNX file serves all devices"),
      metric_tags: (field, path) => this.meaningless(field, path, "metrics have fixed labels"),
      model_metrics: (field, path) => this.meaningless(field, path, "metrics have fixed buckets"),
      model_operations: (field, path) => this.meaningless(field, path, "operator libraries are not loaded"),
      model_repository_agents: (field, path) => this.meaningless(field, path, "models are read as they are"),
    });
    this.#finish();
  }

  /** What follows from several fields together. */
  #finish(): void {
    const { max_batch_size: max } = this.#written;
    if (Object.keys(this.#shapes).length > 0) this.#written.shapes = this.#shapes;
    if (this.#warmShapes.length > 0) this.#written.warm_shapes = this.#warmShapes;
    if (this.#preferred.length > 0) {
      const fitting = this.#preferred.filter((size) => max !== undefined && size <= max);
      const origin = this.#origins.get("buckets")!;
      if (max === undefined) this.meaningless(origin.field, origin.path, "max_batch_size is not above 0");
      else this.#written.buckets = bucketsWith(fitting, max);
      for (const size of this.#preferred) {
        if (max !== undefined && size > max) {
          this.problem(origin.field, origin.path, `${size} is above max_batch_size, ${max}`);
        }
      }
    }
    const cpu = this.#instances.filter(({ kind }) => kind === "KIND_CPU");
    const onGpu = this.#instances.some(({ kind }) => kind === "KIND_GPU");
    if (cpu.length > 0) {
      this.#written.device = onGpu ? "auto" : "cpu";
      const counts = cpu.map(({ count }) => count).filter((count) => count !== null);
      if (counts.length > 0) this.#written.replicas = counts.reduce((sum, count) => sum + count, 0);
    } else if (onGpu) this.#written.device = "gpu";
  }

  #maxBatchSize(field: TextField, path: string): void {
    const size = this.integer(field, path, 0, BATCH_SIZE_MAX);
    if (size === null) return;
    this.#origins.set("batched", { field, path });
    this.#origins.set("max_batch_size", { field, path });
    // Above zero it says that every tensor has the batch's dimension in front; zero, that none has.
    this.#written.batched = size > 0;
    if (size > 0) this.#written.max_batch_size = size;
  }

  #tensor(field: TextField, path: string): void {
    let name: string | null = null;
    let dims: number[] | null = null;
    let reshaped: number[] | null = null;
    let type: { readonly field: TextField; readonly datatype: Datatype } | null = null;
    let dimsField = field;
    const fields = this.message(field, path);
    this.each(fields, path, {
      name: (at, where) => {
        name = this.text(at, where);
      },
      data_type: (at, where) => {
        const word = at.value.kind === "word" ? at.value.text : "";
        const datatype = DATATYPES[word];
        if (datatype !== undefined) type = { field: at, datatype };
        else this.problem(at, where, `got ${shown(at.value)}; expected one of ${Object.keys(DATATYPES).join(", ")}`);
      },
      dims: (at, where) => {
        const dim = this.dimension(at, where);
        if (dims === null) dimsField = at;
        if (dim !== null) dims = [...(dims ?? []), dim];
      },
      reshape: (at, where) => {
        reshaped = [];
        this.each(this.message(at, where), where, {
          shape: (one, inner) => {
            const dim = this.dimension(one, inner);
            if (dim !== null) reshaped!.push(dim);
          },
        });
        this.meaningless(at, where, "callers send and get the ONNX file's own shape");
      },
      format: (at, where) => {
        if (at.value.kind === "word" && at.value.text !== "FORMAT_NONE")
          this.meaningless(at, where, "tensors travel as they are");
      },
      allow_ragged_batch: (at, where) => {
        if (this.isTrue(at)) this.meaningless(at, where, "only requests of equal shape share a batch");
      },
      label_filename: (at, where) => this.meaningless(at, where, "classification is not offered"),
      optional: (at, where) => {
        if (this.isTrue(at)) this.meaningless(at, where, "callers give every input");
      },
      is_shape_tensor: ignored,
      is_non_linear_format_io: ignored,
    });
    if (name === null || name === "") {
      this.problem(field, path, "has no name");
      return;
    }
    const shape = reshaped ?? dims;
    if (shape !== null) {
      this.#shapes[name] = shape;
      this.#origins.set(`shapes.${name}`, { field: dimsField, path: `${path}.dims` });
    }
    const stated = type as { readonly field: TextField; readonly datatype: Datatype } | null;
    if (stated !== null) {
      this.#datatypes[name] = stated.datatype;
      this.#origins.set(`datatypes.${name}`, { field: stated.field, path: `${path}.data_type` });
    }
  }

  #versionPolicy(field: TextField, path: string): void {
    const set = (at: TextField, where: string, versions: VersionPolicy): void => {
      this.#written.versions = versions;
      this.#origins.set("versions", { field: at, path: where });
    };
    this.each(this.message(field, path), path, {
      all: (at, where) => set(at, where, "all"),
      latest: (at, where) => {
        let latest = 1;
        this.each(this.message(at, where), where, {
          num_versions: (count, inner) => {
            latest = this.integer(count, inner, 1, 1_000_000) ?? 1;
          },
        });
        set(at, where, { latest });
      },
      specific: (at, where) => {
        const versions: number[] = [];
        this.each(this.message(at, where), where, {
          versions: (one, inner) => {
            const version = this.integer(one, inner, 1, Number.MAX_SAFE_INTEGER);
            if (version !== null) versions.push(version);
          },
        });
        set(at, where, versions);
      },
    });
  }

  #dynamicBatching(field: TextField, path: string): void {
    const deadlines = "the scheduler decides by deadlines when to wait";
    this.each(this.message(field, path), path, {
      preferred_batch_size: (at, where) => {
        const size = this.integer(at, where, 1, BATCH_SIZE_MAX);
        if (size !== null) this.#preferred.push(size);
        this.#origins.set("buckets", { field: at, path: where });
      },
      max_queue_delay_microseconds: (at, where) => {
        if (!this.isZero(at)) this.meaningless(at, where, deadlines);
      },
      preserve_ordering: (at, where) => {
        if (this.isTrue(at)) this.meaningless(at, where, "answers come as they are ready, matched by id");
      },
      priority_levels: (at, where) => {
        if (!this.isZero(at)) this.meaningless(at, where, "deadlines, best-effort work and weights order requests");
      },
      default_priority_level: ignored,
      priority_queue_policy: (at, where) => this.meaningless(at, where, "there is one queue for each model"),
      default_queue_policy: (at, where) => {
        this.each(this.message(at, where), where, {
          max_queue_size: (size, inner) => {
            const items = this.integer(size, inner, 0, Number.MAX_SAFE_INTEGER);
            if (items !== null && items > 0) this.#written.queue_items_max = items;
            this.#origins.set("queue_items_max", { field: size, path: inner });
          },
          default_timeout_microseconds: (timeout, inner) => {
            if (!this.isZero(timeout))
              this.meaningless(timeout, inner, "state the time to answer as slo_ms in config.yaml");
          },
          timeout_action: ignored,
          allow_timeout_override: ignored,
        });
      },
    });
  }

  #instanceGroup(field: TextField, path: string): void {
    let kind = "KIND_AUTO";
    let count: number | null = null;
    this.each(this.message(field, path), path, {
      name: ignored,
      kind: (at, where) => {
        const kinds = ["KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"];
        if (at.value.kind === "word" && kinds.includes(at.value.text)) kind = at.value.text;
        else this.problem(at, where, `got ${shown(at.value)}; expected one of ${kinds.join(", ")}`);
      },
      count: (at, where) => {
        count = this.integer(at, where, 1, 256);
      },
      gpus: (at, where) => this.meaningless(at, where, "a model is loaded on every device of the daemon"),
      rate_limiter: (at, where) => this.meaningless(at, where, "the scheduler shares the device among the models"),
      host_policy: (at, where) => this.meaningless(at, where, "cores are divided by the daemon's settings"),
      profile: (at, where) => this.meaningless(at, where, "profiles are measured"),
      secondary_devices: (at, where) => this.meaningless(at, where, "there are none"),
      passive: (at, where) => {
        if (this.isTrue(at)) this.meaningless(at, where, "every model that is loaded serves");
      },
    });
    if (kind === "KIND_GPU" && count !== null && count > 1) {
      this.meaningless(field, `${path}.count`, "a device executes one batch at a time, whichever model's");
    }
    this.#origins.set("device", { field, path: `${path}.kind` });
    this.#origins.set("replicas", { field, path: `${path}.count` });
    this.#instances.push({ kind, count });
  }

  /** Every bucket is warmed anyway; what matters is the shapes. */
  #warmUp(field: TextField, path: string): void {
    const shape: Record<string, readonly number[]> = {};
    this.each(this.message(field, path), path, {
      name: ignored,
      batch_size: ignored,
      count: ignored,
      inputs: (input, where) => {
        let key: string | null = null;
        const dims: number[] = [];
        this.each(this.message(input, where), where, {
          key: (at, inner) => {
            key = this.text(at, inner);
          },
          value: (at, inner) =>
            this.each(this.message(at, inner), inner, {
              data_type: ignored,
              dims: (dim, deep) => {
                const size = this.integer(dim, deep, 1, Number.MAX_SAFE_INTEGER);
                if (size !== null) dims.push(size);
              },
              zero_data: ignored,
              random_data: ignored,
              input_data_file: (file, deep) => this.meaningless(file, deep, "inputs to warm up with are made"),
            }),
        });
        if (key !== null) shape[key] = dims;
      },
    });
    if (Object.keys(shape).length === 0) return;
    this.#origins.set(`warm_shapes.${this.#warmShapes.length}`, { field, path });
    this.#warmShapes.push(shape);
  }

  #fileName(field: TextField, path: string): void {
    const name = this.text(field, path);
    if (name === null || name === "") return;
    if (/[\\/]/.test(name) || name.startsWith("."))
      this.problem(field, path, `'${name}' is not the name of a file in the version's folder`);
    else if (!name.endsWith(".onnx"))
      this.problem(field, path, `'${name}' is not an ONNX file; only ONNX models can be served`);
    else this.#modelFile = name;
  }

  /** Parameters of Triton's ONNX Runtime backend; the number of threads is the one that exists here. */
  #parameter(field: TextField, path: string): void {
    let key = "";
    let value: TextField | null = null;
    this.each(this.message(field, path), path, {
      key: (at, where) => {
        key = this.text(at, where) ?? "";
      },
      value: (at, where) =>
        this.each(this.message(at, where), where, {
          string_value: (text) => {
            value = text;
          },
        }),
    });
    const stated = value as TextField | null;
    if (key !== "intra_op_thread_count") {
      this.meaningless(field, `${path}.${key}`, "the daemon has its own settings");
      return;
    }
    const threads = stated?.value.kind === "string" ? Number(stated.value.text) : Number.NaN;
    if (!Number.isInteger(threads) || threads < 0 || threads > 1024) {
      this.problem(
        field,
        `${path}.${key}`,
        `got ${stated === null ? "nothing" : shown(stated.value)}; expected an integer from 0 to 1024`,
      );
    } else if (threads > 0) this.#written.threads = threads;
  }
}

/** Preferred sizes are those that Triton waits for; smaller batches need smaller buckets all the same. */
function bucketsWith(preferred: readonly number[], max: number): readonly number[] {
  const sizes = new Set([...preferred, max]);
  for (let size = 1; size < max; size *= 2) sizes.add(size);
  return [...sizes].sort((a, b) => a - b);
}
