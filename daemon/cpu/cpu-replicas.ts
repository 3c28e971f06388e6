/** CPU replicas as the daemon keeps them: one process with a pool of threads for each model, every replica a lane. */
import { createRequire } from "node:module";
import { Arena, OutOfArenaMemory } from "../device/arena.ts";
import { Backoff } from "../device/backoff.ts";
import { cpuName } from "../device/choose-device.ts";
import { LaneDevice } from "../device/lane-device.ts";
import {
  type HostEvents,
  type LaneHost,
  startProcessHost,
  startThreadHost,
  type ThreadChannel,
} from "../device/lane-host.ts";
import { LoadError } from "../device/load-error.ts";
import type { FromThread, WarmedModel } from "../device/messages.ts";
import { ProfileCache, type ProfileIdentity } from "../device/profile-cache.ts";
import { CPU_PROVIDER } from "../device/provider.ts";
import { ShapeTable } from "../device/shape-table.ts";
import { warmShapesOf } from "../device/warm-shapes.ts";
import type { Device } from "../engine/ports.ts";
import type { LoadedReplicas, ReplicaPool } from "../lifecycle/ports.ts";
import type { ModelVersion } from "../repository/model.ts";
import type { ShapeProfiles } from "../scheduler/types.ts";
import type { PoolLoadRequest } from "./pool-main.ts";
import { bestSplit, candidateSplits, describeSplits, type MeasuredSplit, type Split } from "./splits.ts";

export interface CpuReplicasOptions {
  /** Cores to divide; all models share them. */
  readonly cores: number;
  /** Folder for measured profiles; null: none are kept. */
  readonly cacheFolder: string | null;
  /** Time to spend on measuring each shape of a model with each split; 2000 by default. */
  readonly profileBudgetMs?: number;
  readonly events: ReplicaEvents;
}

export interface ReplicaEvents {
  /** After the process had died, which each replica's old device told as `lost`: a replica is back, its model loaded. */
  restored(model: string, device: Device, profiles: ShapeProfiles): void;
  /** A replica could not be brought back: it is gone until its model is loaded anew. */
  dropped(model: string, lane: string, error: Error): void;
  progress?(model: string, activity: string): void;
  log(level: "info" | "warn", message: string): void;
}

/** The sessions of one split of a model in the pool's process. */
interface LoadedSplit {
  readonly channel: ThreadChannel;
  readonly warmed: WarmedModel;
}

interface Kept {
  readonly version: ModelVersion;
  readonly split: Split;
  readonly shapes: ShapeTable;
  readonly known: WarmedModel;
  readonly summary: string;
  devices: LaneDevice[];
  channel: ThreadChannel;
}

interface Waiting {
  readonly resolve: (result: WarmedModel) => void;
  readonly reject: (error: Error) => void;
}

export class CpuReplicas implements ReplicaPool {
  readonly #options: CpuReplicasOptions;
  readonly #cache: ProfileCache | null;
  readonly #runtimeVersion: string = createRequire(import.meta.url)("onnxruntime-node/package.json").version;
  readonly #models = new Map<string, Kept>();
  readonly #backoff = new Backoff({ firstMs: 100, mostMs: 30_000, resetMs: 60_000 });
  /** Loads that wait for an answer of the process. */
  readonly #loading = new Set<Waiting>();
  readonly #unloading = new Map<ThreadChannel, () => void>();
  #arena: Arena | null = null;
  /** Null until the first model is loaded, and while the process restarts. */
  #host: LaneHost | null = null;
  #queue: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(options: CpuReplicasOptions) {
    this.#options = options;
    this.#cache = options.cacheFolder === null ? null : new ProfileCache(options.cacheFolder);
  }

  /** Process that executes; null before the first load and while it restarts. */
  get pid(): number | null {
    return this.#host?.pid ?? null;
  }

  /** Rejects with a `LoadError`; replicas of other models go on. Replaces an earlier load under the same key. */
  load(
    version: ModelVersion,
    sloUs: number | null,
    { reprofile }: { readonly reprofile: boolean },
  ): Promise<LoadedReplicas> {
    return this.#inTurn(async () => {
      if (this.#models.has(version.key)) await this.#unloadNow(version.key);
      await this.#start();
      const measured: MeasuredSplit[] = [];
      const splits = this.#splitsOf(version);
      let loaded: { readonly split: Split; readonly sessions: LoadedSplit } | null = null;
      for (const split of splits) {
        const remembered = splits.length > 1 && !reprofile ? await this.#recall(version, split) : null;
        if (remembered !== null) {
          measured.push({ split, profile: Object.values(remembered.profiles)[0] ?? [] });
          continue;
        }
        if (loaded !== null) await this.#close(version.key, loaded.sessions.channel);
        if (splits.length > 1) {
          this.#options.events.progress?.(version.key, `${split.replicas} replicas × ${split.threads} threads`);
        }
        loaded = { split, sessions: await this.#loadSplit(version, split, reprofile) };
        measured.push({ split, profile: Object.values(loaded.sessions.warmed.profiles)[0] ?? [] });
      }
      const best = bestSplit(measured, sloUs);
      if (loaded !== null && loaded.split !== best.split) {
        await this.#close(version.key, loaded.sessions.channel);
        loaded = null;
      }
      const sessions = loaded?.sessions ?? (await this.#loadSplit(version, best.split, false));
      const summary = describeSplits(measured, best, sloUs);
      const kept: Kept = {
        version,
        split: best.split,
        shapes: new ShapeTable(version, sessions.warmed.profiles),
        known: sessions.warmed,
        summary,
        devices: [],
        channel: sessions.channel,
      };
      this.#models.set(version.key, kept);
      try {
        this.#makeDevices(kept, sessions);
      } catch (error) {
        await this.#unloadNow(version.key);
        throw error;
      }
      const { profiles, coldShapes, unbatchedOutputs } = sessions.warmed;
      const { devices } = kept;
      return {
        devices,
        threadsEach: best.split.threads,
        summary,
        profiles,
        coldShapes,
        unbatchedOutputs,
        fromCache: false,
      };
    });
  }

  /** Nothing of the model may be executing any more. */
  unload(key: string): Promise<void> {
    return this.#inTurn(() => this.#unloadNow(key));
  }

  profilesFor(key: string, shape: string): ShapeProfiles | null {
    const shapes = this.#models.get(key)?.shapes;
    if (shapes === undefined || shapes.has(shape)) return null;
    shapes.get(shape);
    return shapes.profiles;
  }

  /** Ends the process at once. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#backoff.cancel();
    this.#rejectLoading(new LoadError("closed", "the CPU replicas were closed"));
    await this.#host?.close();
    this.#host = null;
    for (const { devices } of this.#models.values()) for (const device of devices) device.lose("the daemon ends");
    this.#arena?.close();
  }

  #inTurn<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(task);
    this.#queue = result.catch(() => {});
    return result;
  }

  #splitsOf({ settings }: ModelVersion): Split[] {
    const { cores } = this.#options;
    if (settings.replicas === "auto") return candidateSplits(cores, settings.threads);
    const replicas = Math.max(1, settings.replicas);
    return [{ replicas, threads: settings.threads ?? Math.max(1, Math.floor(cores / replicas)) }];
  }

  async #start(): Promise<void> {
    if (this.#closed) throw new LoadError("closed", "the CPU replicas were closed");
    if (this.#host !== null) return;
    this.#arena ??= Arena.open();
    const events: HostEvents = {
      lost: (reason) => this.#lost(reason),
      output: (line) => this.#options.events.log("info", `CPU replicas: ${line}`),
    };
    const extension = import.meta.url.endsWith(".ts") ? ".ts" : ".js";
    const entry = new URL(`./pool-main${extension}`, import.meta.url);
    this.#host =
      this.#arena === null ? startThreadHost(events, entry) : await startProcessHost(this.#arena, events, entry);
  }

  async #loadSplit(version: ModelVersion, split: Split, reprofile: boolean): Promise<LoadedSplit> {
    const known = reprofile ? null : await this.#recall(version, split);
    const channel = await this.#host!.openThread();
    channel.onMessage((message, payload, buffer) => this.#received(version.key, channel, message, payload, buffer));
    const request: PoolLoadRequest = {
      model: version.key,
      path: version.path,
      inputs: version.inputs,
      outputs: version.outputs,
      batched: version.batched,
      maxBatchSize: version.maxBatchSize,
      provider: CPU_PROVIDER,
      threads: split.threads,
      buckets: version.settings.buckets,
      warmShapes: warmShapesOf(version),
      known,
      profileBudgetMs: this.#options.profileBudgetMs ?? 2000,
      replicas: split.replicas,
    };
    try {
      const warmed = await new Promise<WarmedModel>((resolve, reject) => {
        const waiting: Waiting = {
          resolve: (result) => {
            this.#loading.delete(waiting);
            resolve(result);
          },
          reject: (error) => {
            this.#loading.delete(waiting);
            reject(error);
          },
        };
        this.#loading.add(waiting);
        channel.send({ type: "load", request });
      });
      if (known === null) await this.#remember(version, split, warmed);
      return { channel, warmed };
    } catch (error) {
      this.#host?.closeThread(channel);
      throw error;
    }
  }

  #received(
    key: string,
    channel: ThreadChannel,
    message: FromThread,
    payload: Uint8Array,
    buffer: ArrayBuffer | null,
  ): void {
    // Loads go one after another, so an answer is that of the only one that waits.
    const [waiting] = this.#loading;
    switch (message.type) {
      case "loaded":
        waiting?.resolve(message.result);
        break;
      case "load-failed":
        waiting?.reject(new LoadError(message.code, message.message));
        break;
      case "unloaded":
        this.#unloading.get(channel)?.();
        break;
      case "done":
      case "failed":
        // Each device knows the execution it waits for and passes over those of the others.
        for (const device of this.#models.get(key)?.devices ?? []) device.ended(message, payload, buffer);
        break;
      case "progress":
        break;
    }
  }

  #makeDevices(kept: Kept, { channel, warmed }: LoadedSplit): void {
    kept.channel = channel;
    kept.devices = Array.from({ length: kept.split.replicas }, (_, index) => {
      const lane = `cpu/${kept.version.key}#${index}`;
      return new LaneDevice(lane, "replica", this.#arena, { fatal: () => this.#host?.kill() });
    });
    try {
      for (const device of kept.devices) {
        device.place(kept.version, channel, warmed.slotBytes, Object.keys(warmed.profiles));
      }
    } catch (error) {
      if (!(error instanceof OutOfArenaMemory)) throw error;
      throw new LoadError(
        "memory",
        `two batches for each of ${kept.split.replicas} replicas find no room: ${error.message}`,
      );
    }
  }

  async #unloadNow(key: string): Promise<void> {
    const kept = this.#models.get(key);
    if (kept === undefined) return;
    this.#models.delete(key);
    for (const device of kept.devices) device.remove(key);
    if (this.#host !== null) await this.#close(key, kept.channel);
  }

  async #close(key: string, channel: ThreadChannel): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#unloading.set(channel, resolve);
      channel.send({ type: "unload", model: key });
    });
    this.#unloading.delete(channel);
    this.#host?.closeThread(channel);
  }

  #lost(reason: string): void {
    this.#host = null;
    const text = `the CPU replicas' process was lost: ${reason}`;
    this.#options.events.log("warn", text);
    for (const { devices } of this.#models.values()) for (const device of devices) device.lose(text);
    this.#rejectLoading(new LoadError("crashed", text));
    for (const unloaded of this.#unloading.values()) unloaded();
    this.#unloading.clear();
    if (!this.#closed) void this.#inTurn(() => this.#restore());
  }

  async #restore(): Promise<void> {
    await this.#backoff.wait();
    for (const kept of [...this.#models.values()]) {
      const { key } = kept.version;
      const lanes = kept.devices.map(({ lane }) => lane);
      try {
        await this.#start();
        const sessions = await this.#loadSplit(kept.version, kept.split, false);
        this.#makeDevices(kept, sessions);
        for (const device of kept.devices) this.#options.events.restored(key, device, kept.shapes.profiles);
      } catch (error) {
        if (this.#closed) return;
        this.#models.delete(key);
        for (const lane of lanes) this.#options.events.dropped(key, lane, error as Error);
      }
    }
  }

  #rejectLoading(error: LoadError): void {
    for (const waiting of [...this.#loading]) waiting.reject(error);
  }

  async #recall(version: ModelVersion, split: Split): Promise<Pick<WarmedModel, "buckets" | "profiles"> | null> {
    return (await this.#cache?.read(this.#identity(version, split))) ?? null;
  }

  async #remember(version: ModelVersion, split: Split, warmed: WarmedModel): Promise<void> {
    try {
      await this.#cache?.write(this.#identity(version, split), warmed);
    } catch (error) {
      this.#options.events.log("warn", `profiles cannot be kept for the next start: ${String(error)}`);
    }
  }

  #identity(version: ModelVersion, { replicas, threads }: Split): ProfileIdentity {
    return {
      modelHash: version.hash,
      runtimeVersion: this.#runtimeVersion,
      device: `${replicas} replicas on ${cpuName()}`,
      threads,
      maxBatchSize: version.maxBatchSize,
      buckets: version.settings.buckets,
      batched: version.batched,
    };
  }
}
