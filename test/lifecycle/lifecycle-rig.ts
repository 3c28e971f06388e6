import { Engine } from "../../daemon/engine/engine.ts";
import type { Outcome } from "../../daemon/engine/ports.ts";
import { EngineHost } from "../../daemon/engine-host.ts";
import { Lifecycle } from "../../daemon/lifecycle/lifecycle.ts";
import type { LoadedOnLane, LoadedReplicas, ModelLane, ReplicaPool } from "../../daemon/lifecycle/ports.ts";
import { ModelRepository } from "../../daemon/repository/model-repository.ts";
import type { ShapeProfiles } from "../../daemon/scheduler/types.ts";
import { addOne } from "../../models/onnx/tiny.ts";
import { EdfScheduler } from "../support/edf-scheduler.ts";
import { linearProfile, request } from "../support/engine-rig.ts";
import { temporaryFolder, writeModelFiles } from "../support/live-daemon.ts";
import { ManualClock } from "../support/manual-clock.ts";
import { PuppetDevice } from "../support/puppet-device.ts";

/** Batches have four items at most. */
export const PROFILES: ShapeProfiles = { "": linearProfile(4) };

const LOADED: LoadedOnLane = {
  profiles: PROFILES,
  coldShapes: [],
  padding: null,
  unbatchedOutputs: [],
  mixedOutputs: [],
};

/** Loads at once, or, after `hold`, when told to. */
class Gate {
  #held: Promise<void> = Promise.resolve();
  #told: () => void = () => {};
  /** Resolves when something waits at the gate. */
  reached: Promise<void> = Promise.resolve();

  /** @returns what opens it again, or fails what waits there */
  hold(): (error?: Error) => void {
    this.reached = new Promise((told) => {
      this.#told = told;
    });
    let open: (error?: Error) => void = () => {};
    this.#held = new Promise((resolve, reject) => {
      open = (error) => (error === undefined ? resolve() : reject(error));
    });
    return open;
  }

  async pass(): Promise<void> {
    this.#told();
    await this.#held;
  }
}

class PuppetLane implements ModelLane {
  readonly lane: string;
  readonly loads: Gate = new Gate();
  /** Keys that it was told to unload. */
  readonly unloads: string[] = [];
  /** Whether each version that it loaded, in their order, was batched. */
  readonly batched: boolean[] = [];
  /** Outputs in which it finds that the items of a batch mix. */
  mixedOutputs: readonly string[] = [];

  constructor(lane: string) {
    this.lane = lane;
  }

  async load({ batched }: { readonly batched: boolean }): Promise<LoadedOnLane> {
    await this.loads.pass();
    this.batched.push(batched);
    return { ...LOADED, mixedOutputs: batched ? this.mixedOutputs : [] };
  }

  async unload(key: string): Promise<void> {
    this.unloads.push(key);
  }

  profilesFor(): null {
    return null;
  }

  isCold(): boolean {
    return false;
  }

  async warm(): Promise<never> {
    throw new Error("nothing is cold here");
  }
}

class PuppetReplicas implements ReplicaPool {
  readonly loads: Gate = new Gate();
  readonly unloads: string[] = [];
  device: PuppetDevice | null = null;

  async load({ key }: { readonly key: string }): Promise<LoadedReplicas> {
    await this.loads.pass();
    this.device = new PuppetDevice(`cpu/${key}#0`, "replica");
    return { ...LOADED, devices: [this.device], threadsEach: 1, summary: "1 × 1 thread" };
  }

  async unload(key: string): Promise<void> {
    this.unloads.push(key);
  }

  profilesFor(): null {
    return null;
  }
}

export interface LifecycleRigOptions {
  readonly lanes?: readonly string[];
  /** The models' `config.yaml`; without replicas by default. */
  readonly config?: string;
  readonly drainMs?: number;
}

/**
 * A lifecycle on puppet lanes, under explicit control, over a repository of two models: `m` is loaded at the start, `other`
 * is not. Lanes crash, restart, reload and drop when told to.
 */
export class LifecycleRig {
  readonly lifecycle: Lifecycle;
  readonly repository: ModelRepository;
  readonly lanes: readonly PuppetLane[];
  readonly replicas: PuppetReplicas = new PuppetReplicas();
  /** Outcomes of what was submitted, in the order in which they came. */
  readonly outcomes: Outcome[] = [];
  readonly #folder = temporaryFolder();
  readonly #engine: Engine;
  readonly #devices = new Map<string, PuppetDevice>();
  #withdrawn: () => void = () => {};

  constructor({ lanes = ["gpu0"], config = "replicas: 0\n", drainMs = 60_000 }: LifecycleRigOptions = {}) {
    for (const name of ["m", "other"]) {
      writeModelFiles(this.#folder.dir, name, { "1/model.onnx": addOne(4), "config.yaml": config });
    }
    this.repository = new ModelRepository({
      dir: this.#folder.dir,
      control: "explicit",
      loadModels: ["m"],
      defaults: { maxBatchSize: 4, sloMs: 100, queueItemsMax: 1000, queueBytesMax: 1 << 30, cacheBytesMax: 0 },
    });
    this.#engine = new Engine({
      clock: new ManualClock(),
      scheduler: new EdfScheduler(),
      observers: [{ laneDown: (lane) => this.lifecycle.laneLost(lane) }],
    });
    this.lanes = lanes.map((lane) => new PuppetLane(lane));
    this.lifecycle = new Lifecycle({
      repository: this.repository,
      host: new EngineHost(this.#engine),
      lanes: this.lanes,
      replicas: this.replicas,
      control: "explicit",
      pollMs: 1000,
      drainMs,
      reprofile: false,
      replicasByDefault: true,
      observer: {
        servingChanged: (_name, _version, serving) => {
          if (!serving) this.#withdrawn();
        },
      },
      logger: { info: () => {}, warn: () => {}, error: () => {} },
    });
    for (const lane of lanes) this.restart(lane);
  }

  async start(): Promise<void> {
    await this.lifecycle.start(await this.repository.scan());
  }

  end(): void {
    this.lifecycle.close();
    this.#folder.remove();
  }

  /** Other files for the version of `m` that is served. */
  changeFiles(): void {
    writeModelFiles(this.#folder.dir, "m", { "1/model.onnx": addOne(5) });
  }

  /** Asks for a change that takes `m` away; resolves when no new requests may ask for it, and gives the change's own end. */
  async begin<T>(change: () => Promise<T>): Promise<{ readonly done: Promise<T> }> {
    const withdrawn = new Promise<void>((resolve) => {
      this.#withdrawn = resolve;
    });
    const done = change();
    await withdrawn;
    return { done };
  }

  submit(count: number): void {
    for (let i = 0; i < count; i++) {
      this.#engine.submit(request({ model: "m/1" }), (outcome) => this.outcomes.push(outcome));
    }
  }

  /** How many ended in which way, a shed one by its cause. */
  get tally(): Readonly<Record<string, number>> {
    const tally: Record<string, number> = {};
    for (const outcome of this.outcomes) {
      const way = outcome.type === "shed" ? outcome.cause : outcome.type;
      tally[way] = (tally[way] ?? 0) + 1;
    }
    return tally;
  }

  /** What the lane of that name executes on in its present life. */
  device(lane: string): PuppetDevice {
    return this.#devices.get(lane) ?? this.replicas.device!;
  }

  /** The lane ends what it was given, and what it is given then, until it has nothing left. */
  work(lane: string): void {
    const device = this.device(lane);
    while (device.running !== null) device.complete();
  }

  crash(lane: string): void {
    this.device(lane).die(`lane ${lane} crashed`);
  }

  /** The lane's process is there again, and empty. */
  restart(lane: string): void {
    const device = new PuppetDevice(lane);
    this.#devices.set(lane, device);
    this.#engine.addLane(device);
  }

  reload(lane: string): void {
    this.lifecycle.laneReloaded(lane, "m/1", PROFILES);
  }

  /** The replicas' process is there again, with the model. */
  restore(): void {
    const { lane } = this.replicas.device!;
    this.replicas.device = new PuppetDevice(lane, "replica");
    this.lifecycle.replicaRestored("m/1", this.replicas.device, PROFILES);
  }

  drop(lane: string): void {
    this.lifecycle.laneDropped(lane, "m/1", "out of memory");
  }

  /** Whether requests may ask for `m` now, and why not. */
  get found(): string {
    const found = this.lifecycle.find("m", "");
    return found.type === "not-ready" ? found.reason : found.type;
  }

  /** Lanes on which `m` can execute. */
  get upLanes(): readonly string[] {
    return this.lifecycle.served.find(({ version }) => version.name === "m")?.upLanes ?? [];
  }
}
