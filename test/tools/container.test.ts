import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { parse, parseAllDocuments } from "yaml";
import { type DaemonSettings, loadSettings } from "../../daemon/config/daemon-settings.ts";
import { HttpServer } from "../../daemon/metrics/http-server.ts";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import type { DaemonStatus } from "../../daemon/status.ts";
import { tempDir } from "../config/temp-dir.ts";

const FOLDER = path.join(PACKAGE_ROOT, "tools", "container");
const IN_IMAGE = "/opt/slackline";

// biome-ignore lint/suspicious/noExplicitAny: manifests have whatever their readers know
type Manifest = any;

interface Instruction {
  readonly name: string;
  readonly rest: string;
}

const dockerfile: readonly Instruction[] = readText("Dockerfile")
  .replaceAll(/^\s*#.*\n/gm, "")
  .replaceAll(/\\\n/g, " ")
  .split("\n")
  .filter((line) => line.trim() !== "")
  .map((line) => ({ name: line.split(" ", 1)[0]!, rest: line.slice(line.indexOf(" ") + 1).trim() }));
/** What the image is: the last stage. */
const image: readonly Instruction[] = dockerfile.slice(dockerfile.findLastIndex(({ name }) => name === "FROM"));
const compose: Manifest = parse(readText("compose.yaml"), { merge: true });
const manifests: readonly Manifest[] = parseAllDocuments(readText("kubernetes.yaml")).map((document) => {
  assert.deepEqual(document.errors, []);
  return document.toJS();
});
const deployment: Manifest = manifests.find(({ kind }) => kind === "Deployment");
const pod: Manifest = deployment.spec.template.spec;
const container: Manifest = pod.containers[0];

function readText(name: string): string {
  return readFileSync(path.join(FOLDER, name), "utf8");
}

function instruction(name: string): string {
  const found = image.filter((each) => each.name === name);
  assert.equal(found.length, 1, `one ${name}`);
  return found[0]!.rest;
}

/** A command in the form that runs without a shell. */
function words(text: string): string[] {
  const list: unknown = JSON.parse(text);
  assert.ok(Array.isArray(list) && list.every((word) => typeof word === "string"));
  return list;
}

function imageEnvironment(): Record<string, string> {
  return Object.fromEntries(
    instruction("ENV")
      .split(/\s+/)
      .map((pair) => pair.split("=", 2) as [string, string]),
  );
}

function imageSettings(t: TestContext): DaemonSettings {
  const loaded = loadSettings({ argv: [], env: imageEnvironment(), cwd: tempDir(t) });
  assert.ok(loaded.type === "serve");
  return loaded.settings;
}

/** The pages of a daemon whose models are still being loaded. */
async function loadingDaemon(t: TestContext): Promise<{ readonly server: HttpServer; readonly port: number }> {
  const server = new HttpServer({
    metrics: () => Promise.resolve(""),
    readiness: () => ({ ready: false, reason: "loading" }),
    status: () => ({}) as DaemonStatus,
  });
  t.after(() => server.close());
  return { server, port: await server.listen("127.0.0.1", 0) };
}

test("the image's environment is settings that the daemon knows", (t) => {
  const settings = imageSettings(t);
  assert.deepEqual(settings.warnings, []);
  assert.equal(settings.host, "0.0.0.0");
  assert.equal(settings.modelsDir, "/models");
  assert.ok(settings.profileCacheDir.startsWith(`${instruction("VOLUME")}/`), "profiles are kept in the volume");
  const made = image.filter(({ name }) => name === "RUN").map(({ rest }) => rest);
  for (const folder of [settings.modelsDir, instruction("VOLUME"), instruction("WORKDIR")]) {
    assert.ok(
      made.some((command) => command.split(/\s+/).includes(folder)),
      `${folder} is made`,
    );
  }
});

test("the image exposes the daemon's ports, and so do compose and Kubernetes", (t) => {
  const { grpcPort, httpPort } = imageSettings(t);
  const ports = [grpcPort, httpPort];
  assert.deepEqual(instruction("EXPOSE").split(" ").map(Number), ports);
  assert.deepEqual(
    container.ports.map(({ containerPort }: Manifest) => containerPort),
    ports,
  );
  for (const name of ["slackline", "slackline-cuda"]) {
    const published = compose.services[name].ports.map((text: string) => Number(text.split(":").at(-1)));
    assert.deepEqual(published, ports, name);
  }
  const scraped = parse(compose.configs.prometheus.content).scrape_configs[0].static_configs[0].targets;
  assert.deepEqual(scraped, [`slackline:${httpPort}`]);
  assert.equal(Number(deployment.spec.template.metadata.annotations["prometheus.io/port"]), httpPort);
});

test("what the image starts is in the bundle, and ends by a signal that the daemon drains on", () => {
  const [entry, ...more] = words(instruction("ENTRYPOINT"));
  assert.deepEqual(more, []);
  const launcher = path.join(PACKAGE_ROOT, "tools", "bundle", "contents", path.relative(IN_IMAGE, entry!));
  const script = readFileSync(launcher, "utf8");
  assert.match(script, /^exec "\$here\/node\/bin\/node" /m, "the launcher becomes Node, which then gets the signals");
  assert.deepEqual(words(instruction("CMD")), ["serve"]);
  assert.equal(instruction("STOPSIGNAL"), "SIGTERM");
  assert.equal(instruction("COPY"), `--from=build ${IN_IMAGE} ${IN_IMAGE}`);
  const bundled = dockerfile.find(({ rest }) => rest.startsWith("npm run bundle"))?.rest;
  assert.equal(bundled, `npm run bundle -- --folder ${IN_IMAGE}`);
});

test("the image's health check passes while the daemon answers, and fails when it doesn't", async (t) => {
  const [program, ...args] = words(instruction("HEALTHCHECK").replace(/^.*? CMD /, ""));
  assert.equal(program, `${IN_IMAGE}/node/bin/node`);
  const { server, port } = await loadingDaemon(t);
  const check = (): Promise<number | string | null | undefined> =>
    new Promise((resolve) => {
      const env = { ...process.env, SLACKLINE_HTTP_PORT: String(port) };
      execFile(process.execPath, args, { env }, (error) => resolve(error === null ? 0 : error.code));
    });
  assert.equal(await check(), 0, "alive while models load");
  await server.close();
  assert.equal(await check(), 1);
});

test("files that the image is built from are in the checkout and not kept out of the build", () => {
  const ignored = readFileSync(path.join(PACKAGE_ROOT, ".dockerignore"), "utf8").split("\n");
  const copied = dockerfile.filter(({ name, rest }) => name === "COPY" && !rest.startsWith("--from"));
  for (const { rest } of copied) {
    for (const source of rest.split(/\s+/).slice(0, -1)) {
      assert.ok(existsSync(path.join(PACKAGE_ROOT, source)), source);
      assert.ok(!ignored.includes(source), source);
    }
  }
  const { dockerfile: file, context } = compose.services.slackline.build;
  assert.equal(path.resolve(FOLDER, context), path.resolve(PACKAGE_ROOT));
  assert.ok(existsSync(path.resolve(FOLDER, context, file)));
});

test("a stopping container is given more time than the daemon takes to drain", (t) => {
  const { drainTimeoutMs } = imageSettings(t);
  assert.ok(parseInt(compose.services.slackline.stop_grace_period, 10) * 1000 > drainTimeoutMs);
  const [program, seconds] = container.lifecycle.preStop.exec.command;
  assert.equal(program, "sleep");
  assert.ok(pod.terminationGracePeriodSeconds * 1000 > Number(seconds) * 1000 + drainTimeoutMs);
});

test("with a read-only root everything that is written to is mounted, under compose and Kubernetes", (t) => {
  const { modelsDir } = imageSettings(t);
  const mounted = [modelsDir, instruction("VOLUME")];
  for (const name of ["slackline", "slackline-cuda"]) {
    const service = compose.services[name];
    assert.equal(service.read_only, true, name);
    const targets = service.volumes.map((text: string) => text.replace(/:ro$/, "").split(":").at(-1));
    assert.deepEqual(targets, mounted, name);
  }
  assert.equal(container.securityContext.readOnlyRootFilesystem, true);
  assert.deepEqual(
    container.volumeMounts.map(({ mountPath }: Manifest) => mountPath),
    mounted,
  );
  assert.deepEqual(
    container.volumeMounts.map(({ name }: Manifest) => name),
    pod.volumes.map(({ name }: Manifest) => name),
  );
});

test("Kubernetes runs the daemon as the image's user and probes pages that it has", async (t) => {
  const { runAsNonRoot, runAsUser, runAsGroup, fsGroup } = pod.securityContext;
  assert.equal(runAsNonRoot, true);
  assert.equal(instruction("USER"), `${runAsUser}:${runAsGroup}`);
  assert.equal(fsGroup, runAsGroup);

  const { port } = await loadingDaemon(t);
  const answers: Record<string, number> = {};
  for (const probe of ["startupProbe", "livenessProbe", "readinessProbe"]) {
    const { httpGet } = container[probe];
    assert.equal(httpGet.port, container.ports.at(-1).name);
    answers[probe] = (await fetch(`http://127.0.0.1:${port}${httpGet.path}`)).status;
  }
  assert.deepEqual(answers, { startupProbe: 200, livenessProbe: 200, readinessProbe: 503 }, "while models load");
});

test("the services of Kubernetes select the deployment's pods and name their ports", () => {
  const { labels } = deployment.spec.template.metadata;
  assert.deepEqual(deployment.spec.selector.matchLabels, labels);
  const services = manifests.filter(({ kind }) => kind === "Service");
  assert.deepEqual(
    services.map(({ spec }) => spec.clusterIP),
    ["None", undefined],
    "one without an address of its own, so that its name has all daemons' addresses",
  );
  for (const { spec } of services) {
    assert.deepEqual(spec.selector, labels);
    for (const { port, targetPort } of spec.ports) {
      const named = container.ports.find(({ name }: Manifest) => name === targetPort);
      assert.equal(named?.containerPort, port);
    }
  }
});
