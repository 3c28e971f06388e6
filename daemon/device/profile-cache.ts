/** Measured profiles on disk, so that a restart only warms up. One small JSON file for each model and way of executing it. */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import path from "node:path";
import { z } from "zod";
import type { ModelVersion } from "../repository/model.ts";
import type { KnownProfiles } from "./messages.ts";

/** Raised when what is stored, or how it is measured, changes meaning. */
const FORMAT = 2;

/** All that decides how long a model's batches take. */
export interface ProfileIdentity {
  readonly modelHash: string;
  readonly runtimeVersion: string;
  /** Provider and hardware. */
  readonly device: string;
  readonly threads: number;
  readonly maxBatchSize: number;
  /** As configured; null where they are chosen by measuring. */
  readonly buckets: readonly number[] | null;
  readonly batched: boolean;
  /** Up to which the lengths of sequences were chosen by measuring; null where they were not. */
  readonly lengthMax: number | null;
  /** What trial runs filled inputs with: executions may depend on it. */
  readonly warmValues: Readonly<Record<string, number | string>>;
}

/** What a model version itself brings to the identity of its profiles. */
export function identityOf({
  hash,
  maxBatchSize,
  settings,
  batched,
  sequence,
}: ModelVersion): Omit<ProfileIdentity, "runtimeVersion" | "device" | "threads"> {
  const lengthMax = sequence === null || sequence.lengths !== null ? null : sequence.lengthMax;
  const { buckets, warmValues } = settings;
  return { modelHash: hash, maxBatchSize, buckets, batched, lengthMax, warmValues };
}

const stored = z.object({
  format: z.literal(FORMAT),
  identity: z.record(z.string(), z.unknown()),
  buckets: z.array(z.int().positive()).min(1),
  profiles: z.record(z.string(), z.array(z.object({ bucket: z.int().positive(), us: z.int().positive() })).min(1)),
});

export class ProfileCache {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** What was measured before; null where nothing was, or where the file cannot be understood. */
  async read(identity: ProfileIdentity): Promise<KnownProfiles | null> {
    try {
      const parsed = stored.safeParse(JSON.parse(await readFile(this.#file(identity), "utf8")));
      if (!parsed.success) return null;
      const { buckets, profiles } = parsed.data;
      const complete = Object.values(profiles).every((profile) =>
        profile.every(({ bucket }, i) => bucket === buckets[i]),
      );
      return complete && buckets.at(-1) === identity.maxBatchSize ? { buckets, profiles } : null;
    } catch {
      return null;
    }
  }

  /** Rejects where the folder cannot be written; profiles are then measured again at the next start. */
  async write(identity: ProfileIdentity, { buckets, profiles }: KnownProfiles): Promise<void> {
    await makeFolder(this.#folder);
    const file = this.#file(identity);
    // Written aside and moved, so that a reader never sees half a file.
    const draft = `${file}.${process.pid}.${Math.random().toString(36).slice(2)}`;
    await writeFile(draft, `${JSON.stringify({ format: FORMAT, identity, buckets, profiles }, null, 1)}\n`);
    await rename(draft, file);
  }

  #file(identity: ProfileIdentity): string {
    const { modelHash, runtimeVersion, device, threads, maxBatchSize, buckets, batched, lengthMax, warmValues } =
      identity;
    const key = JSON.stringify([
      FORMAT,
      modelHash,
      runtimeVersion,
      device,
      threads,
      maxBatchSize,
      buckets,
      batched,
      ...(lengthMax === null ? [] : [lengthMax]),
      ...(Object.keys(warmValues).length === 0 ? [] : [warmValues]),
    ]);
    return path.join(this.#folder, `${createHash("sha256").update(key).digest("hex").slice(0, 32)}.json`);
  }
}

/**
 * Makes a folder and those above it. Node's own recursive way goes on for ever where a folder can't be made although the one
 * above it exists, as in /proc (seen with Node 20).
 */
async function makeFolder(folder: string): Promise<void> {
  const parent = path.dirname(folder);
  if (!existsSync(parent)) await makeFolder(parent);
  await mkdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") throw error;
  });
}
