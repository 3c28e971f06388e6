/** The composition: builds every part, connects them, starts and stops them in order. */
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import path from "node:path";
import type { Logger } from "pino";
import { AnswerCache } from "./cache/answer-cache.ts";
import { CachedInference } from "./cache/cached-inference.ts";
import type { DaemonSettings, TlsFiles } from "./config/daemon-settings.ts";
import { deviceText } from "./config/devices.ts";
import { fileErrorText } from "./config/yaml-file.ts";
import { divideCores, replicasByDefault, usesReplicas } from "./cores.ts";
import { CpuReplicas } from "./cpu/cpu-replicas.ts";
import { chooseDevice, type DeviceChoice } from "./device/choose-device.ts";
import { LaneProcess } from "./device/lane-process.ts";
import { type DecisionLogFile, openDecisionLog } from "./engine/decision-log.ts";
import { Engine } from "./engine/engine.ts";
import type { EngineObserver } from "./engine/observer.ts";
import type { Recorder } from "./engine/recording.ts";
import { EngineHost, ShapedInference } from "./engine-host.ts";
import { FailureLog } from "./failure-log.ts";
import { Lifecycle } from "./lifecycle/lifecycle.ts";
import { LiveClock } from "./live-clock.ts";
import { EventLoopDelay } from "./metrics/event-loop-delay.ts";
import { GpuMetrics } from "./metrics/gpu-metrics.ts";
import { HttpServer } from "./metrics/http-server.ts";
import { Metrics } from "./metrics/metrics.ts";
import { PACKAGE_ROOT } from "./package-root.ts";
import { ModelRepository, NOT_LOADED } from "./repository/model-repository.ts";
import { createRpcServer } from "./rpc/server.ts";
import type { RpcTls } from "./rpc/settings.ts";
import { createScheduler } from "./scheduler/index.ts";
import type { Scheduler, SchedulerOptions } from "./scheduler/types.ts";
import type { DaemonState, DaemonStatus } from "./status.ts";
import { daemonStatus } from "./status-page.ts";

/** What the scheduler allows for copying a batch's inputs into a lane's memory: well above it for all but huge batches. */
const GATHER_US = 1000;
/**
 * From the end of a run call to the begin of the next, where the next batch is sent when the end is known: 0.3 to 0.6 ms of
 * threads and an event loop that have to wake up, and what predictions are off.
 */
const HANDOVER_US = 1000;

export const VERSION: string = JSON.parse(readFileSync(path.join(PACKAGE_ROOT, "package.json"), "utf8")).version;

export interface Daemon {
  readonly grpcPort: number;
  readonly httpPort: number;
  /** Resolves when every model that can be served is; rejects where none can be: the daemon is to be stopped then. */
  readonly ready: Promise<void>;
  /** What `/status` answers. */
  status(): DaemonStatus;
  /** Refuses new requests, answers those that were accepted, ends. Resolves with whether all were answered in time. */
  stop(): Promise<boolean>;
}

/** What the settings say to the scheduler. */
export function schedulerOptions(settings: DaemonSettings): SchedulerOptions {
  return {
    fairness: settings.fairness,
    bestEffortShareMin: settings.bestEffortShareMin,
    tenantWeights: Object.fromEntries(Object.entries(settings.tenants).map(([name, { weight }]) => [name, weight])),
    gatherUs: GATHER_US,
    handoverUs: HANDOVER_US,
  };
}

export interface DaemonHooks {
  /** In place of the daemon's own, for comparisons. */
  readonly scheduler?: Scheduler;
  /** Told of every step of the scheduler. */
  readonly recorder?: Recorder;
}

/**
 * Starts a daemon: its ports listen when this resolves, its models may still be loading.
 *
 * @throws Error with a sentence where the repository, a device or a port can't be had; nothing is left running then
 */
export async function startDaemon(settings: DaemonSettings, logger: Logger, hooks: DaemonHooks = {}): Promise<Daemon> {
  // What has been started, to be ended in reverse order.
  const running: (() => void | Promise<void>)[] = [];
  const end = async (): Promise<void> => {
    for (const stop of running.splice(0).reverse()) await stop();
  };
  try {
    return await compose(settings, logger, hooks, running, end);
  } catch (error) {
    await end();
    throw error;
  }
}

async function compose(
  settings: DaemonSettings,
  logger: Logger,
  hooks: DaemonHooks,
  running: (() => void | Promise<void>)[],
  end: () => Promise<void>,
): Promise<Daemon> {
  for (const warning of settings.warnings) logger.warn(warning);
  // ONNX Runtime would keep a database of its use in the home folder, and may send that to its vendor. Lanes inherit this.
  process.env.ORT_DISABLE_TELEMETRY ??= "1";
  const repository = new ModelRepository({
    dir: settings.modelsDir,
    control: settings.modelControl,
    loadModels: settings.loadModels,
    defaults: {
      maxBatchSize: settings.maxBatchSizeDefault,
      sloMs: settings.sloMsDefault,
      queueItemsMax: settings.queueItemsMax,
      queueBytesMax: settings.queueBytesMax,
      cacheBytesMax: settings.cacheBytesMax,
    },
  });
  const firstScan = await repository.scan();

  const clock = new LiveClock();
  running.push(() => clock.wakeAt(null, () => {}));
  const answers = settings.cacheBytesMax === 0 ? null : new AnswerCache(settings.cacheBytesMax);
  const eventLoopDelay = new EventLoopDelay();
  running.push(() => eventLoopDelay.stop());
  const metrics = new Metrics({
    version: VERSION,
    nowUs: () => clock.nowUs(),
    eventLoopDelay: () => eventLoopDelay.read(),
    queues: () => engine.snapshot().models,
    ...(answers === null ? {} : { cache: () => answers.figures }),
    models: () =>
      repository
        .index()
        .filter(({ reason }) => reason !== NOT_LOADED)
        .map((entry) => ({ ...entry, ready: entry.state === "READY" })),
  });
  const gpuMetrics = new GpuMetrics(metrics.registry, {
    intervalMs: settings.gpuMetricsIntervalMs,
    onError: (reason) => logger.warn(reason),
  });
  running.push(() => gpuMetrics.stop());
  const decisionLog = settings.decisionLogFile === null ? null : startDecisionLog(settings.decisionLogFile, logger);
  if (decisionLog !== null) running.push(() => decisionLog.close());
  const engine: Engine = new Engine({
    clock,
    scheduler: createScheduler(schedulerOptions(settings)),
    ...hooks,
    observers: [
      metrics.tallies,
      new FailureLog(logger),
      ...(decisionLog === null ? [] : [decisionLog.log]),
      { laneDown: (lane) => lifecycle.laneLost(lane) } satisfies EngineObserver,
    ],
  });

  const choices = await chooseDevices(settings, logger);
  const deviceIsCpu = choices.every(({ provider }) => provider.name === "cpu");
  const spillOver = replicasByDefault(settings, deviceIsCpu);
  const shares = divideCores(
    settings,
    { onCpu: deviceIsCpu, needed: firstScan.models.some(({ settings: { device } }) => device !== "cpu") },
    firstScan.models.some((version) => usesReplicas(version, spillOver)),
  );
  // Filled below, when there is somebody to tell what becomes of them.
  const lanes: LaneProcess[] = [];
  const hangLimits = { executionMs: settings.executionTimeoutMs, loadMs: settings.loadTimeoutMs };
  const replicas = new CpuReplicas({
    // Where nothing needs the pool yet, a model that comes later may.
    cores: settings.poolCores ?? Math.max(1, shares.poolCores),
    cacheFolder: settings.profileCacheDir,
    hangLimits,
    events: {
      restored: (model, device, profiles) => lifecycle.replicaRestored(model, device, profiles),
      dropped: (model, lane, error) => lifecycle.laneDropped(lane, model, error.message),
      progress: (model, activity) => lifecycle.loading(model, activity),
      log: (level, message) => logger[level](message),
    },
  });
  running.push(() => replicas.close());

  let state: DaemonState = "starting";
  const lifecycle: Lifecycle = new Lifecycle({
    repository,
    host: new EngineHost(engine),
    lanes,
    replicas,
    control: settings.modelControl,
    pollMs: settings.repositoryPollMs,
    drainMs: settings.drainTimeoutMs,
    reprofile: settings.reprofile,
    replicasByDefault: spillOver,
    logger,
    observer: {
      servingChanged(name, version, serving) {
        rpc.setServing({ model: `${name}/${version}` }, serving);
        rpc.setServing({ model: name }, lifecycle.find(name, "").type === "ready");
      },
    },
  });
  running.push(() => lifecycle.close());

  const shaped = new ShapedInference(engine, lifecycle);
  const rpc = createRpcServer({
    inference: answers === null ? shaped : new CachedInference(shaped, answers, metrics.tallies),
    idleUs: () => clock.idleUs(),
    catalog: lifecycle,
    statistics: metrics.statistics,
    observer: metrics.tallies,
    logger,
    settings: {
      host: settings.host,
      port: settings.grpcPort,
      tls: settings.tls === null ? null : readTls(settings.tls),
      messageBytesMax: settings.messageBytesMax,
      inflightBytesMax: settings.inflightBytesMax,
      connectionAgeMaxMs: settings.connectionAgeMaxS === null ? null : settings.connectionAgeMaxS * 1000,
      replyMarginUs: Math.round(settings.replyMarginMs * 1000),
      errors: settings.errorStyle,
      sharedMemoryPeers: settings.sharedMemoryPeers,
      bestEffortTenants: new Set(
        Object.entries(settings.tenants).flatMap(([name, tenant]) => (tenant.bestEffortDefault ? [name] : [])),
      ),
      serverVersion: VERSION,
    },
  });
  const status = () =>
    daemonStatus({
      version: VERSION,
      state,
      ports,
      clock,
      choices,
      lanes,
      replicas,
      shares,
      lifecycle,
      repository,
      engine,
      metrics,
      eventLoopDelay,
    });
  const http = new HttpServer({
    metrics: () => metrics.text(),
    readiness: () => ({
      ready: state === "ready",
      reason: state === "draining" ? "shutting down" : (lifecycle.activity ?? "starting"),
    }),
    status,
  });
  for (const choice of choices) {
    const lane = deviceText({ provider: choice.provider.name, index: choice.provider.deviceId });
    const process = await LaneProcess.start({
      lane,
      provider: choice.provider,
      deviceName: choice.name,
      threads: shares.laneThreads,
      cacheFolder: settings.profileCacheDir,
      hangLimits,
      events: {
        restarted: (device) => engine.addLane(device),
        reloaded: ({ model, profiles }) => lifecycle.laneReloaded(lane, model, profiles),
        dropped: (model, error) => lifecycle.laneDropped(lane, model, error.message),
        progress: (model, activity) => lifecycle.loading(model, activity),
        log: (level, message) => logger[level](message),
      },
    });
    lanes.push(process);
    running.push(() => process.close());
    engine.addLane(process.device);
  }
  const { port: grpcPort } = await rpc.start();
  running.push(() => rpc.stop());
  const httpPort = await http.listen(settings.host, settings.httpPort);
  running.push(() => http.close());
  const ports = { grpc: grpcPort, http: httpPort };
  void gpuMetrics.start();

  const ready = lifecycle.start(firstScan).then(() => {
    if (state !== "starting") return;
    state = "ready";
    rpc.setServing("daemon", true);
  });
  // Whoever waits for it learns of the failure; until somebody does it is no unhandled one.
  ready.catch(() => undefined);

  return {
    grpcPort,
    httpPort,
    ready,
    status,
    async stop(): Promise<boolean> {
      state = "draining";
      lifecycle.close();
      const drained = await within(settings.drainTimeoutMs, Promise.all([rpc.drain(), engine.drain()]));
      if (!drained) {
        logger.warn(
          `within drain_timeout_ms ${engine.snapshot().accepted} requests were not answered; ${rpc.load().bytes} bytes of requests and of answers that were not read are given up`,
        );
      }
      await end();
      return drained;
    },
  };
}

function startDecisionLog(file: string, logger: Logger): DecisionLogFile {
  try {
    closeSync(openSync(file, "w"));
  } catch (error) {
    const folder = path.dirname(file);
    const what = existsSync(folder) ? fileErrorText(error) : `the folder ${folder} does not exist`;
    throw new Error(`decision log ${file}: ${what}`, { cause: error });
  }
  return openDecisionLog(file, (error) => {
    logger.error(`the decision log ends here: ${file} can't be written: ${error.message}`);
  });
}

async function chooseDevices(settings: DaemonSettings, logger: Logger): Promise<DeviceChoice[]> {
  const names = settings.devices === "auto" ? ["auto"] : settings.devices.map(deviceText);
  const choices: DeviceChoice[] = [];
  for (const name of names) {
    const choice = await chooseDevice(name, { allowSoftwareGpu: settings.allowSoftwareGpu });
    choices.push(choice);
    const passedOver = choice.passedOver.map(({ provider, reason }) => `${provider}: ${reason}`);
    logger.info(
      { provider: choice.provider.name, device: choice.name, passed_over: passedOver },
      `device: ${choice.name} (${choice.reason})`,
    );
  }
  return choices;
}

function readTls({ certFile, keyFile, clientCaFile }: TlsFiles): RpcTls {
  return {
    certificateChain: readFileSync(certFile),
    privateKey: readFileSync(keyFile),
    clientCa: clientCaFile === null ? null : readFileSync(clientCaFile),
  };
}

/** Whether the work was done in time. */
async function within(limitMs: number, work: Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(resolve, limitMs, false);
  });
  const done = await Promise.race([work.then(() => true), late]);
  clearTimeout(timer);
  return done;
}
