/** The HTTP pages of a live daemon, from the start of loading to its end. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { pino } from "pino";
import { SlacklineClient, tensor } from "slackline-client";
import { startDaemon, VERSION } from "../../daemon/daemon.ts";
import type { DaemonStatus } from "../../daemon/status.ts";
import { addOne } from "../../models/onnx/tiny.ts";
import { unknownOperator } from "../support/broken-model.ts";
import { type LiveDaemon, startLiveDaemon, temporaryFolder, writeModelFiles } from "../support/live-daemon.ts";

describe("pages", () => {
  const repository = temporaryFolder();
  let live: LiveDaemon;

  before(async () => {
    writeModelFiles(repository.dir, "m", { "1/model.onnx": addOne(4), "config.yaml": "slo_ms: 60000\n" });
    writeModelFiles(repository.dir, "broken", { "1/model.onnx": unknownOperator() });
    const onCpu = "device: cpu\nreplicas: 2\nthreads: 1\nslo_ms: 60000\n";
    writeModelFiles(repository.dir, "n", { "1/model.onnx": addOne(4), "config.yaml": onCpu });
    live = await startLiveDaemon(repository.dir);
  });
  after(async () => {
    await live?.stop();
    repository.remove();
  });

  test("while models load it is alive and not ready, and requests are told to wait", async () => {
    const { settings } = live;
    const daemon = await startDaemon({ ...settings, reprofile: true }, pino({ level: "silent" }));
    const client = new SlacklineClient({ target: `127.0.0.1:${daemon.grpcPort}` });
    try {
      const page = (path: string) => fetch(`http://127.0.0.1:${daemon.httpPort}${path}`);
      // Loading takes far longer than these answers, but nothing promises that: what must hold is that they agree.
      const [health, readiness, status] = await Promise.all([page("/healthz"), page("/readyz"), page("/status")]);
      assert.deepEqual([health.status, await health.text()], [200, "ok\n"]);
      const { state, activity } = (await status.json()) as DaemonStatus;
      if (state === "starting") assert.notEqual(activity, null);
      if (readiness.status === 503) assert.match(await readiness.text(), /^not ready: (starting|loading|profiling)/);
      await daemon.ready;
      assert.deepEqual([(await page("/readyz")).status, await (await page("/readyz")).text()], [200, "ready\n"]);
      assert.ok(await client.ready());
    } finally {
      client.close();
      await daemon.stop();
    }
  });

  test("lanes and replicas run without the runtime's telemetry", { skip: process.platform !== "linux" }, async () => {
    for (const { pid } of (await live.status()).lanes) {
      assert.match(readFileSync(`/proc/${pid}/environ`, "utf8"), /(^|\0)ORT_DISABLE_TELEMETRY=1\0/);
    }
  });

  test("/status tells of device, lanes and models", async () => {
    const x = tensor.float32([3, 4], new Float32Array(12));
    await Promise.all([live.client.infer("m", { x }), live.client.infer("n", { x })]);
    const status = await live.status();
    assert.deepEqual([status.version, status.pid, status.state], [VERSION, process.pid, "ready"]);
    assert.deepEqual([status.grpc_port, status.http_port], [live.daemon.grpcPort, live.daemon.httpPort]);
    assert.deepEqual([status.device.provider, status.activity], ["cpu", null]);
    assert.ok(status.rss_bytes > 1e7 && status.event_loop_delay_ms.p99 >= 0);

    const lanes = new Map(status.lanes.map((lane) => [lane.lane, lane]));
    assert.deepEqual([...lanes.keys()], ["cpu", "cpu/n/1#0", "cpu/n/1#1"]);
    const device = lanes.get("cpu")!;
    assert.deepEqual([device.kind, device.items, device.restarts], ["device", 3, 0]);
    assert.ok(device.rss_bytes! > 1e7 && device.pid !== process.pid);
    const replica = lanes.get("cpu/n/1#0")!;
    assert.ok(replica.pid !== null && replica.pid !== device.pid);
    assert.equal(replica.pid, lanes.get("cpu/n/1#1")!.pid);

    const models = new Map(status.models.map((model) => [model.name, model]));
    const { placement, profile_ms, replica_profile_ms, counts } = models.get("m")!;
    assert.deepEqual([placement, replica_profile_ms, counts.on_time, counts.items], ["device", null, 1, 3]);
    assert.equal(profile_ms!.at(-1)![0], 32);
    assert.deepEqual([models.get("n")!.placement, models.get("n")!.profile_ms], ["replica", null]);
    assert.match(models.get("n")!.replicas!, /^2 × 1 thread/);
    assert.equal(models.get("broken")!.state, "UNAVAILABLE");
    assert.match(models.get("broken")!.reason, /NoSuchOperator/);
  });

  test("/metrics has the counters that dashboards know", async () => {
    const page = await live.page("/metrics");
    assert.match(page.headers.get("content-type")!, /^text\/plain; version=0\.0\.4/);
    const text = await page.text();
    assert.match(text, /^nv_inference_request_success\{model="m",version="1"\} 1$/m);
    assert.match(text, /^nv_inference_count\{model="m",version="1"\} 3$/m);
    assert.match(text, /^# TYPE nv_inference_request_duration_us counter$/m);
    assert.match(text, /^slackline_[a-z_]+\{/m);
  });

  test("the health service knows the daemon and its models", async () => {
    assert.ok(await live.client.modelReady("m"));
    assert.equal(await live.client.modelReady("broken"), false);
    assert.equal(await live.client.modelReady("nope"), false);
  });

  test("other paths and methods are refused", async () => {
    assert.equal((await live.page("/nope")).status, 404);
    const post = await fetch(`http://127.0.0.1:${live.daemon.httpPort}/status`, { method: "POST", body: "{}" });
    assert.equal(post.status, 405);
  });
});
