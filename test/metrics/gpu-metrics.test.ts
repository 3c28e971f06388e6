import assert from "node:assert/strict";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { Registry } from "prom-client";
import { GpuMetrics, parseReadings } from "../../daemon/metrics/gpu-metrics.ts";
import { tempDir } from "../config/temp-dir.ts";
import { isRunning } from "../support/is-running.ts";

const LINE = "GPU-1111-2222, NVIDIA H100 80GB HBM3, 37, 81559, 1024, 120.50, 700.00";

function program(t: TestContext, script: string): string {
  const file = path.join(tempDir(t), "nvidia-smi");
  writeFileSync(file, `#!/bin/sh\n${script}\n`);
  chmodSync(file, 0o755);
  return file;
}

test("readings are shown by GPU under the names that dashboards know", async (t) => {
  const registry = new Registry();
  const script = `case "$1" in --query-gpu=*) ;; *) exit 9 ;; esac\necho "${LINE}"\necho "GPU-3333, Other, [N/A], 8192, 0, [N/A], [N/A]"\nexec sleep 60`;
  const metrics = new GpuMetrics(registry, { program: program(t, script), intervalMs: 60_000 });
  t.after(() => metrics.stop());
  assert.equal(await metrics.start(), true);
  while (metrics.readings.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
  const page = await registry.metrics();
  assert.match(page, /^nv_gpu_utilization\{gpu_uuid="GPU-1111-2222"\} 0\.37$/m);
  assert.match(page, /^nv_gpu_memory_total_bytes\{gpu_uuid="GPU-1111-2222"\} 85520809984$/m);
  assert.match(page, /^nv_gpu_memory_used_bytes\{gpu_uuid="GPU-1111-2222"\} 1073741824$/m);
  assert.match(page, /^nv_gpu_power_usage\{gpu_uuid="GPU-1111-2222"\} 120\.5$/m);
  assert.match(page, /^nv_gpu_memory_used_bytes\{gpu_uuid="GPU-3333"\} 0$/m);
  assert.doesNotMatch(page, /^nv_gpu_utilization\{gpu_uuid="GPU-3333"\}/m);
});

test("without the program there is nothing, and no error", async (t) => {
  const errors: string[] = [];
  const options = {
    program: path.join(tempDir(t), "none"),
    intervalMs: 100,
    onError: (text: string) => errors.push(text),
  };
  const metrics = new GpuMetrics(new Registry(), options);
  assert.equal(await metrics.start(), false);
  assert.deepEqual([metrics.readings, errors], [[], []]);
});

test("one process repeats its answers, and ends with the metrics", async (t) => {
  const folder = tempDir(t);
  const script = `echo $$ >> ${folder}/pids\nfor power in 100 200 300; do echo "GPU-1, X, 1, 2, 3, $power, 700"; sleep 0.01; done\nexec sleep 60`;
  const metrics = new GpuMetrics(new Registry(), { program: program(t, script), intervalMs: 10 });
  t.after(() => metrics.stop());
  await metrics.start();
  while (metrics.readings[0]?.powerW !== 300) await new Promise((resolve) => setTimeout(resolve, 5));
  const pids = readFileSync(`${folder}/pids`, "utf8").trim().split("\n");
  assert.equal(pids.length, 1);
  metrics.stop();
  while (isRunning(Number(pids[0]))) await new Promise((resolve) => setTimeout(resolve, 5));
});

test("a driver that fails is told once, and asked again", async (t) => {
  const file = path.join(tempDir(t), "state");
  writeFileSync(file, "x");
  const script = `if [ "$(wc -c < ${file})" -gt 3 ]; then echo "${LINE}"; exec sleep 60; else printf x >> ${file}; echo "no driver" >&2; exit 9; fi`;
  const errors: string[] = [];
  const registry = new Registry();
  const metrics = new GpuMetrics(registry, {
    program: program(t, script),
    intervalMs: 5,
    onError: (text) => errors.push(text),
  });
  t.after(() => metrics.stop());
  assert.equal(await metrics.start(), true);
  assert.deepEqual(metrics.readings, []);
  while (metrics.readings.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(errors, ["nvidia-smi failed: no driver"]);
});

test("a program that answers for one GPU and fails at the next is told once, and the answer is shown", async (t) => {
  const errors: string[] = [];
  const folder = tempDir(t);
  const script = `echo x >> ${folder}/runs\necho "${LINE}"\necho "Unable to determine the device handle" >&2\nexit 15`;
  const metrics = new GpuMetrics(new Registry(), {
    program: program(t, script),
    intervalMs: 2,
    onError: (text) => errors.push(text),
  });
  t.after(() => metrics.stop());
  await metrics.start();
  const runs = (): number => readFileSync(`${folder}/runs`, "utf8").length / 2;
  while (runs() < 4) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(errors, ["nvidia-smi failed: Unable to determine the device handle"]);
  assert.equal(metrics.readings.length, 1);
});

test("a program that can't be started is told, and does not end the daemon", async (t) => {
  const file = path.join(tempDir(t), "nvidia-smi");
  writeFileSync(file, "not executable");
  const errors: string[] = [];
  const metrics = new GpuMetrics(new Registry(), {
    program: file,
    intervalMs: 1_000,
    onError: (text) => errors.push(text),
  });
  t.after(() => metrics.stop());
  assert.equal(await metrics.start(), true);
  assert.equal(errors.length, 1);
  assert.match(errors[0]!, /EACCES/);
});

test("lines that are no GPU's are left out", () => {
  assert.deepEqual(parseReadings("\nNo devices were found\nGPU-1, a\n"), []);
  assert.equal(parseReadings(`${LINE}\n`)[0]?.utilization, 0.37);
});
