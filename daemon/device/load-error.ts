/** Why a model could not be loaded on a lane. */
export type LoadErrorCode =
  /** The file is missing, unreadable, or no ONNX model that the runtime takes. */
  | "invalid"
  /** The session's inputs and outputs are not those that the repository read from the file. */
  | "mismatch"
  /** It loaded but no trial run succeeded. */
  | "warm-up"
  /** The lane's shared memory cannot hold two of its largest batches. */
  | "memory"
  /** No cores are set aside for CPU replicas. */
  | "no-cores"
  /** The lane's process died while loading it. */
  | "crashed"
  /** The lane was closed, or the model unloaded, before it had loaded. */
  | "closed";

export class LoadError extends Error {
  readonly code: LoadErrorCode;

  constructor(code: LoadErrorCode, message: string) {
    super(message);
    this.name = "LoadError";
    this.code = code;
  }
}
