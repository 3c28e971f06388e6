/**
 * A lane as the daemon keeps it: starts its process, loads models on it, and after a crash starts it again and loads them
 * anew. What executes batches is its `device`, one for each life of the process.
 */
import { createRequire } from "node:module";
import type { ModelVersion } from "../repository/model.ts";
import type { Profile, ProfilePoint, ShapeProfiles } from "../scheduler/types.ts";
import { Arena, OutOfArenaMemory, openArenaIfPossible } from "./arena.ts";
import { Backoff } from "./backoff.ts";
import { CRASHES_MAX, CrashedBeside, Crashes, loadInSpiteOfOthers } from "./crashes.ts";
import { HANG_LIMITS, type HangLimits } from "./hang-limits.ts";
import { LaneDevice } from "./lane-device.ts";
import {
  type Culprit,
  type HostEvents,
  type LaneHost,
  startProcessHost,
  startThreadHost,
  type ThreadChannel,
} from "./lane-host.ts";
import type { LaneOptions, LoadedModel, LoadOptions, Transport } from "./lane-options.ts";
import { LoadError } from "./load-error.ts";
import { loadRequest, shapesToWarm } from "./load-request.ts";
import type { FromThread, KnownProfiles, LoadRequest, SeparatedSizes, WarmedModel } from "./messages.ts";
import { yieldToDaemon } from "./priority.ts";
import { monotoneProfile } from "./profile.ts";
import { identityOf, ProfileCache, type ProfileIdentity } from "./profile-cache.ts";
import { allowsThreads, providerText } from "./provider.ts";
import { ShapeTable } from "./shape-table.ts";
import { NO_THREAD, SilenceWatch } from "./silence-watch.ts";

interface Kept {
  readonly version: ModelVersion;
  loaded: LoadedModel;
  shapes: ShapeTable;
  channel: ThreadChannel;
  readonly crashes: Crashes;
}

interface PendingLoad {
  readonly model: string;
  readonly resolve: (result: WarmedModel) => void;
  readonly reject: (error: LoadError) => void;
}

export class LaneProcess {
  readonly lane: string;
  readonly transport: Transport;
  readonly #options: LaneOptions;
  readonly #arena: Arena | null;
  readonly #cache: ProfileCache | null;
  readonly #runtimeVersion: string;
  readonly #models = new Map<string, Kept>();
  readonly #backoff = new Backoff({ firstMs: 100, mostMs: 30_000, resetMs: 60_000 });
  #host: LaneHost | null = null;
  #device: LaneDevice;
  /** Resolves when there is a host to load on. */
  #up: Promise<void>;
  /** Loads and unloads go one after another: a profile taken while another session is built would be wrong. */
  #queue: Promise<unknown> = Promise.resolve();
  #pending: PendingLoad | null = null;
  readonly #limits: HangLimits;
  readonly #silence: SilenceWatch;
  readonly #profileBudgetMs: number;
  #warming: { readonly resolve: (us: number) => void; readonly reject: (error: LoadError) => void } | null = null;
  readonly #unloading = new Map<string, () => void>();
  #sharedChannel: ThreadChannel | null = null;
  /** Lines to a process that is gone: nothing answers on them. */
  readonly #dead = new WeakSet<ThreadChannel>();
  #restarts = 0;
  /** Since when models that it had are not all loaded; null while they are. */
  #downSinceMs: number | null = null;
  #closed = false;

  private constructor(options: LaneOptions, arena: Arena | null, transport: Transport) {
    this.#options = options;
    this.lane = options.lane;
    this.#profileBudgetMs = options.profileBudgetMs ?? 3000;
    this.#limits = { ...HANG_LIMITS, ...options.hangLimits };
    this.#silence = new SilenceWatch(this.#limits, (reason, takesTurns) => {
      // What waits for its turn may wait for a batch that hangs.
      this.#host?.kill(reason, takesTurns ? undefined : null);
    });
    this.transport = transport;
    this.#arena = arena;
    this.#cache = options.cacheFolder === null ? null : new ProfileCache(options.cacheFolder);
    this.#runtimeVersion = createRequire(import.meta.url)("onnxruntime-node/package.json").version;
    this.#device = this.#newDevice();
    this.#up = Promise.resolve();
  }

  /** Starts the lane's process; rejects where it does not come up. */
  static async start(options: LaneOptions): Promise<LaneProcess> {
    const { transport, arenaBytesMax } = options;
    let arena: Arena | null = null;
    if (transport === undefined) {
      arena = openArenaIfPossible(`lane ${options.lane}`, (text) => options.events.log("warn", text), arenaBytesMax);
    } else if (transport !== "threads") {
      arena = Arena.open([transport], arenaBytesMax);
    }
    const lane = new LaneProcess(options, arena, arena?.backing ?? "threads");
    try {
      lane.#host = await lane.#startHost();
    } catch (error) {
      arena?.close();
      throw error;
    }
    return lane;
  }

  /** The current life's port; a new one after each `restarted`. */
  get device(): LaneDevice {
    return this.#device;
  }

  /** Process that executes; null while it restarts. The daemon's own where it has no process of its own. */
  get pid(): number | null {
    return this.#host === null ? null : (this.#host.pid ?? process.pid);
  }

  get restarts(): number {
    return this.#restarts;
  }

  /** Memory that its slots take; 0 where memory is not shared. */
  get sharedBytes(): number {
    return this.#arena?.reservedBytes ?? 0;
  }

  /**
   * Loads, warms and (where nothing is cached) measures a model; batches of others go on meanwhile. Replaces an earlier load
   * under the same key. Rejects with a `LoadError`; the lane goes on without the model.
   */
  load(version: ModelVersion, { reprofile = false }: LoadOptions = {}): Promise<LoadedModel> {
    return this.#inTurn(async () => {
      if (this.#models.has(version.key)) await this.#unloadNow(version.key);
      const kept = await loadInSpiteOfOthers(() => this.#loadNow(version, reprofile));
      this.#models.set(version.key, kept);
      return kept.loaded;
    });
  }

  /** The engine must not start batches of the model any more; one that is executing is waited for. */
  unload(model: string): Promise<void> {
    return this.#inTurn(() => this.#unloadNow(model));
  }

  /**
   * The profile of a shape, measured or guessed: in proportion to its elements from the nearest shape that was measured.
   * `cold` shapes were never executed by a provider that prepares for each shape: their first run may take seconds.
   * null where the model is not loaded.
   */
  profileFor(model: string, shape: string): { profile: Profile; measured: boolean; cold: boolean } | null {
    const kept = this.#models.get(model);
    if (kept === undefined) return null;
    const { profile, measured } = kept.shapes.get(shape);
    return { profile, measured, cold: !measured && this.#options.provider.name !== "cpu" };
  }

  /**
   * To be called with each request's shape key before it is submitted: where this lane had no profile for the shape yet,
   * returns all profiles with one for it added, to be announced to the engine as `loaded`; null where nothing is new. Cold
   * shapes are not announced: what the scheduler was not told of stays off the paths of deadlines on a device.
   */
  profilesFor(model: string, shape: string): ShapeProfiles | null {
    const shapes = this.#models.get(model)?.shapes;
    if (shapes === undefined || shapes.has(shape) || this.#options.provider.name !== "cpu") return null;
    shapes.get(shape);
    return shapes.profiles;
  }

  /** Whether the provider prepares for each shape, and has not yet for this one. */
  isCold(model: string, shape: string): boolean {
    const kept = this.#models.get(model);
    return kept !== undefined && this.#options.provider.name !== "cpu" && !kept.shapes.isMeasured(shape);
  }

  /**
   * Prepares for a shape that was not warmed at load, one batch size at a time; `turn` is waited for before each. Resolves to
   * all measured profiles, to be announced to the engine as `loaded`. Rejects with a `LoadError` where the model fails at
   * the shape or does not stay loaded, and with what `turn` rejects with.
   */
  async warm(model: string, shape: string, turn: () => Promise<void>): Promise<ShapeProfiles> {
    const kept = this.#models.get(model);
    if (kept === undefined) throw new LoadError("closed", `${model} is not loaded on lane ${this.lane}`);
    const points: ProfilePoint[] = [];
    for (const bucket of kept.loaded.buckets) {
      await turn();
      points.push({ bucket, us: await this.#inTurn(() => this.#warmBucket(kept, shape, bucket)) });
    }
    kept.shapes.add(shape, monotoneProfile(points));
    return kept.shapes.measured;
  }

  /** Ends the process at once. Batches that are executing are lost without a word. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#backoff.cancel();
    const error = new LoadError("closed", `lane ${this.lane} was closed`);
    this.#pending?.reject(error);
    this.#warming?.reject(error);
    await this.#host?.close();
    this.#host = null;
    this.#device.lose(`lane ${this.lane} was closed`);
    this.#arena?.close();
  }

  #inTurn<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(task);
    this.#queue = result.catch(() => {});
    return result;
  }

  #newDevice(): LaneDevice {
    const { lane, kind = "device" } = this.#options;
    return new LaneDevice(lane, kind, this.#arena, this.#limits, {
      fatal: (model, message) => this.#host?.kill(`the device failed while executing ${model}: ${message}`, model),
      hung: (model, reason) => this.#host?.kill(reason, model),
      // Trial runs of a load take turns with batches, and may be long.
      occupied: () => this.#silence.watching,
    });
  }

  async #startHost(): Promise<LaneHost> {
    const events: HostEvents = {
      lost: (reason, culprit) => this.#lost(reason, culprit),
      output: (line) => this.#options.events.log("info", `lane ${this.lane}: ${line}`),
    };
    if (this.#arena === null) return startThreadHost(events);
    const host = await startProcessHost(this.#arena, events);
    if (this.#options.provider.name === "cpu" && host.pid !== null) yieldToDaemon(host.pid);
    return host;
  }

  async #warmBucket(kept: Kept, shape: string, bucket: number): Promise<number> {
    const { key } = kept.version;
    if (this.#models.get(key) !== kept) throw new LoadError("closed", `${key} was unloaded or is loaded anew`);
    if (this.#host === null || this.#dead.has(kept.channel)) {
      throw new LoadError("crashed", `lane ${this.lane} is restarting`);
    }
    const budgetMs = this.#profileBudgetMs / kept.loaded.buckets.length;
    try {
      const work = (): Promise<number> => {
        return new Promise((resolve, reject) => {
          this.#warming = { resolve, reject };
          kept.channel.send({ type: "warm", model: key, shape, bucket, budgetMs });
        });
      };
      return await this.#silence.during(`warming ${key}`, { channel: kept.channel, takesTurns: true }, work);
    } finally {
      this.#warming = null;
    }
  }

  #lost(reason: string, told: Culprit): void {
    this.#host = null;
    this.#downSinceMs ??= performance.now();
    this.#sharedChannel = null;
    const culprit = told === undefined ? this.#device.executing : told;
    if (culprit !== null) this.#models.get(culprit)?.crashes.count();
    for (const { channel } of this.#models.values()) this.#dead.add(channel);
    const text = `lane ${this.lane} was lost: ${reason}`;
    this.#options.events.log("warn", text);
    this.#up = this.#closed ? Promise.resolve() : this.#restart().catch((error) => this.#failedToRestart(error));
    this.#device.lose(text);
    const pending = this.#pending;
    this.#pending = null;
    const message = `the lane's process died while loading it: ${reason}`;
    pending?.reject(new (culprit === null ? CrashedLoading : CrashedBeside)("crashed", message));
    this.#warming?.reject(new LoadError("crashed", `the lane's process died while warming: ${reason}`));
    for (const unloaded of this.#unloading.values()) unloaded();
    this.#unloading.clear();
  }

  async #restart(): Promise<void> {
    for (;;) {
      await this.#backoff.wait();
      if (this.#closed) return;
      try {
        const host = await this.#startHost();
        if (this.#closed) {
          await host.close();
          return;
        }
        this.#host = host;
        break;
      } catch (error) {
        this.#failedToRestart(error);
      }
    }
    this.#restarts++;
    this.#device = this.#newDevice();
    this.#options.events.restarted(this.#device);
    for (const key of [...this.#models.keys()]) this.#reload(key);
    void this.#inTurn(async () => this.#tellBack());
  }

  /** Once what it had is loaded again, unless it was lost once more meanwhile. */
  #tellBack(): void {
    const isDown = [...this.#models.values()].some(({ channel }) => this.#dead.has(channel));
    if (this.#host === null || this.#downSinceMs === null || isDown) return;
    const seconds = ((performance.now() - this.#downSinceMs) / 1000).toFixed(1);
    this.#downSinceMs = null;
    const count = this.#models.size;
    const models = count === 1 ? "1 model is" : `${count} models are`;
    this.#options.events.log("info", `lane ${this.lane} is back after ${seconds} s: ${models} loaded again`);
  }

  #failedToRestart(error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    this.#options.events.log("warn", `lane ${this.lane} could not be restarted: ${reason}`);
  }

  #reload(key: string): void {
    void this.#inTurn(async () => {
      const kept = this.#models.get(key);
      // Where the lane was lost once more before its turn came, an earlier restart's turn may have brought it back already.
      if (kept === undefined || !this.#dead.has(kept.channel)) return;
      try {
        if (kept.crashes.areTooMany()) {
          const message = `it was executing or loading each of the last ${CRASHES_MAX} times when lane ${this.lane} crashed`;
          throw new LoadError("crashed", message);
        }
        const again = { ...(await this.#loadNow(kept.version, false, kept.loaded)), crashes: kept.crashes };
        this.#models.set(key, again);
        this.#options.events.reloaded(again.loaded);
      } catch (error) {
        // Where the lane was lost again, the restart that follows reloads whatever is still kept.
        if (error instanceof CrashedBeside || this.#closed) return;
        if (error instanceof CrashedLoading) {
          // Once may have been anybody's doing, such as the system's for want of memory.
          kept.crashes.count();
          return;
        }
        this.#models.delete(key);
        this.#options.events.dropped(key, error instanceof LoadError ? error : new LoadError("invalid", String(error)));
      }
    });
  }

  async #loadNow(version: ModelVersion, reprofile: boolean, before: LoadedModel | null = null): Promise<Kept> {
    const warmShapes = shapesToWarm(version, before);
    const threads = version.settings.threads ?? this.#options.threads;
    const identity = this.#identity(version, threads);
    const known = before ?? (reprofile ? null : ((await this.#cache?.read(identity)) ?? null));
    await this.#up;
    if (this.#closed) throw new LoadError("closed", `lane ${this.lane} was closed`);
    const request = loadRequest(version, before !== null, {
      provider: this.#options.provider,
      threads,
      warmShapes,
      known,
      profileBudgetMs: this.#profileBudgetMs,
    });
    const host = this.#host;
    const { channel, warmed } = await this.#loadOn(request, version);
    const fromCache = known !== null && Object.keys(warmed.profiles).every((shape) => shape in known.profiles);
    if (!fromCache) await this.#remember(identity, warmed);
    // It is not among the models that a restart loads again yet.
    if (this.#host !== host) throw new CrashedBeside("crashed", `lane ${this.lane} was lost when it had loaded`);
    if (warmed.separated !== null) this.#tellOfSizes(version.key, warmed.separated);
    const { profiles, buckets, coldShapes, padding, unbatchedOutputs, mixedOutputs, createUs, warmUpUs } = warmed;
    return {
      version,
      channel,
      shapes: new ShapeTable(version, profiles),
      crashes: new Crashes(),
      loaded: {
        model: version.key,
        profiles,
        buckets,
        fromCache,
        coldShapes,
        padding,
        unbatchedOutputs,
        mixedOutputs,
        createUs,
        warmUpUs,
      },
    };
  }

  #tellOfSizes(key: string, { sessions, costUs, dropped, problem }: SeparatedSizes): void {
    const cost = `a batch of another size than the one before takes ${Math.round(costUs / 1000)} ms more`;
    const left = dropped.length === 0 ? "" : `; batches of ${dropped.join(", ")} are padded to the next size`;
    const { events } = this.#options;
    events.log("info", `${key}: ${cost}, so ${sessions} sessions share its batch sizes${left}`);
    if (problem !== null) events.log("warn", `${key}: there are no more sessions: ${problem}`);
  }

  async #loadOn(
    request: LoadRequest,
    version: ModelVersion,
  ): Promise<{ readonly channel: ThreadChannel; readonly warmed: WarmedModel }> {
    const doing = `loading ${version.key}`;
    const channel = await this.#silence.during(doing, NO_THREAD, () => this.#openChannel());
    const device = this.#device;
    try {
      const warmed = await this.#silence.during(doing, { channel, takesTurns: false }, () => {
        return new Promise<WarmedModel>((resolve, reject) => {
          this.#pending = { model: version.key, resolve, reject };
          channel.send({ type: "load", request });
        });
      });
      this.#place(device, version, channel, warmed);
      return { channel, warmed };
    } catch (error) {
      this.#closeChannel(channel);
      throw error;
    }
  }

  #place(device: LaneDevice, version: ModelVersion, channel: ThreadChannel, warmed: WarmedModel): void {
    try {
      device.place(version, channel, warmed.slotBytes, Object.keys(warmed.profiles));
    } catch (error) {
      channel.send({ type: "unload", model: version.key });
      if (!(error instanceof OutOfArenaMemory)) throw error;
      throw new LoadError("memory", `two batches of ${version.maxBatchSize} items find no room: ${error.message}`);
    }
  }

  async #remember(identity: ProfileIdentity, profiles: KnownProfiles): Promise<void> {
    try {
      await this.#cache?.write(identity, profiles);
    } catch (error) {
      this.#options.events.log("warn", `profiles cannot be kept for the next start: ${String(error)}`);
    }
  }

  async #unloadNow(model: string): Promise<void> {
    const kept = this.#models.get(model);
    if (kept === undefined) return;
    this.#models.delete(model);
    if (this.#host === null || this.#dead.has(kept.channel)) return;
    await this.#silence.during(`unloading ${model}`, { channel: kept.channel, takesTurns: false }, () => {
      return new Promise<void>((resolve) => {
        this.#unloading.set(model, resolve);
        kept.channel.send({ type: "unload", model });
      });
    });
    this.#unloading.delete(model);
    this.#device.remove(model);
    this.#closeChannel(kept.channel);
  }

  async #openChannel(): Promise<ThreadChannel> {
    if (this.#sharedChannel !== null) return this.#sharedChannel;
    const host = this.#host;
    if (host === null) throw new CrashedBeside("crashed", `lane ${this.lane} is restarting`);
    let channel: ThreadChannel;
    try {
      channel = await host.openThread();
    } catch (error) {
      throw new CrashedBeside("crashed", error instanceof Error ? error.message : String(error));
    }
    channel.onMessage((message, payload, buffer) => this.#received(channel, message, payload, buffer));
    if (!allowsThreads(this.#options.provider)) this.#sharedChannel = channel;
    return channel;
  }

  #closeChannel(channel: ThreadChannel): void {
    if (channel !== this.#sharedChannel) this.#host?.closeThread(channel);
  }

  #received(channel: ThreadChannel, message: FromThread, payload: Uint8Array, buffer: ArrayBuffer | null): void {
    this.#silence.heard(channel);
    switch (message.type) {
      case "done":
      case "failed":
        this.#silence.turnPassed();
        this.#device.ended(message, payload, buffer);
        break;
      case "progress":
        // It has a trial run ahead, for which it waits until no batch wants to execute.
        this.#silence.takesTurns(channel);
        this.#options.events.progress?.(message.model, message.activity);
        break;
      case "loaded":
        this.#takePending(message.model)?.resolve(message.result);
        break;
      case "load-failed":
        this.#takePending(message.model)?.reject(new LoadError(message.code, message.message));
        break;
      case "warmed":
        this.#warming?.resolve(message.us);
        break;
      case "warm-failed":
        this.#warming?.reject(new LoadError("warm-up", message.message));
        break;
      case "unloaded":
        this.#unloading.get(message.model)?.();
        break;
    }
  }

  #takePending(model: string): PendingLoad | null {
    const pending = this.#pending;
    if (pending?.model !== model) return null;
    this.#pending = null;
    return pending;
  }

  #identity(version: ModelVersion, threads: number): ProfileIdentity {
    const { provider, deviceName } = this.#options;
    return {
      ...identityOf(version),
      runtimeVersion: this.#runtimeVersion,
      device: `${providerText(provider)} ${deviceName}`,
      threads,
    };
  }
}

/** The process died while the model loaded, and nothing else was at work. */
class CrashedLoading extends LoadError {}
