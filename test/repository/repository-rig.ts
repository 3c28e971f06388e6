import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { ModelRepository, type RepositoryOptions, type ScanResult } from "../../daemon/repository/model-repository.ts";
import { tempDir, writeFiles } from "../config/temp-dir.ts";
import { onnxBytes } from "./onnx-bytes.ts";

export const DEFAULTS = {
  maxBatchSize: 32,
  sloMs: null,
  queueItemsMax: 1000,
  queueBytesMax: 1_000_000,
  cacheBytesMax: 1_000_000,
};

export interface Rig {
  readonly dir: string;
  readonly repository: ModelRepository;
}

/** A repository in a new folder with these files. */
export function rig(
  t: TestContext,
  files: Readonly<Record<string, string | Uint8Array>>,
  options: Partial<RepositoryOptions> = {},
): Rig {
  const dir = tempDir(t);
  writeFiles(dir, files);
  return { dir, repository: new ModelRepository({ dir, control: "none", defaults: DEFAULTS, ...options }) };
}

export const GOOD: Uint8Array = onnxBytes();

export function keys(result: ScanResult): string[] {
  return result.models.map((model) => model.key);
}

/** The one reason why something is not served. */
export function onlyReason(result: ScanResult): string {
  assert.equal(result.unavailable.length, 1, JSON.stringify(result.unavailable));
  return result.unavailable[0]!.reason;
}
