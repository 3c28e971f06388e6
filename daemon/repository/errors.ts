/** The repository as a whole can't be used, or a model in it can't; the message is a sentence for operators. */
export class RepositoryError extends Error {
  readonly kind: "repository" | "unknown-model" | "unavailable";

  constructor(kind: RepositoryError["kind"], message: string, cause?: unknown) {
    super(message, { cause });
    this.name = "RepositoryError";
    this.kind = kind;
  }
}

/** Why one version can't be served; the message is a sentence without paths of the host. */
export class VersionError extends Error {
  override readonly name: string = "VersionError";
}
