import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { type DaemonSettings, loadSettings, type SettingsSources } from "../../daemon/config/daemon-settings.ts";
import { ConfigError, formatProblem } from "../../daemon/config/problems.ts";
import { SETTING_NAMES, SETTINGS } from "../../daemon/config/settings-table.ts";
import { tempDir, writeFiles } from "./temp-dir.ts";

function settingsOf(sources: SettingsSources): DaemonSettings {
  const loaded = loadSettings({ env: {}, ...sources });
  assert.equal(loaded.type, "serve");
  return (loaded as { settings: DaemonSettings }).settings;
}

function problemsOf(sources: SettingsSources): string[] {
  try {
    loadSettings({ env: {}, ...sources });
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.problems.map(formatProblem);
  }
  return [];
}

function withYaml(t: TestContext, yaml: string): string {
  const cwd = tempDir(t);
  writeFiles(cwd, { "slackline.yaml": yaml });
  return cwd;
}

test("without file, environment or flags every setting has its default", (t) => {
  const cwd = tempDir(t);
  const settings = settingsOf({ cwd, env: { HOME: "/home/someone" } });
  assert.equal(settings.configFile, null);
  assert.equal(settings.modelsDir, path.join(cwd, "models"));
  assert.equal(settings.host, "127.0.0.1");
  assert.equal(settings.grpcPort, 8001);
  assert.equal(settings.httpPort, 8002);
  assert.equal(settings.devices, "auto");
  assert.equal(settings.tls, null);
  assert.equal(settings.modelControl, "none");
  assert.equal(settings.profileCacheDir, "/home/someone/.cache/slackline/profiles");
  assert.equal(settings.queueBytesMax, settings.inflightBytesMax);
  for (const [name, value] of Object.entries(settings)) assert.notEqual(value, undefined, `${name} has no default`);
});

test("no time may be longer than timers can take", () => {
  const times = SETTING_NAMES.filter((name) => name.split("_").includes("ms"));
  assert.ok(times.includes("repository_poll_ms") && times.includes("load_timeout_ms"));
  const unlimited = times.filter((name) => SETTINGS[name].schema.safeParse(2 ** 31).success);
  assert.deepEqual(unlimited, []);
});

test("a cache is off, or large enough for answers", (t) => {
  const cwd = tempDir(t);
  assert.equal(settingsOf({ cwd }).cacheBytesMax, 64 * 1024 * 1024);
  for (const bytes of [0, 1_048_576]) {
    assert.equal(settingsOf({ cwd, argv: ["--cache-bytes-max", String(bytes)] }).cacheBytesMax, bytes);
  }
  for (const bytes of ["1", "-1", "1048576.5", "64MiB"]) {
    const [problem, ...more] = problemsOf({ cwd, argv: [`--cache-bytes-max=${bytes}`] });
    assert.match(problem ?? "", /cache-bytes-max: got .*; expected 0, or an integer, at least 1048576$/);
    assert.deepEqual(more, []);
  }
});

test("the sample repository inside models is served when it is there", (t) => {
  const cwd = tempDir(t);
  mkdirSync(path.join(cwd, "models", "repository"), { recursive: true });
  assert.equal(settingsOf({ cwd }).modelsDir, path.join(cwd, "models", "repository"));
});

test("flags go before the environment, the environment before the file", (t) => {
  const cwd = withYaml(t, "grpc_port: 1001\nhttp_port: 1002\nlog_level: warn\nhost: file.example\n");
  const settings = settingsOf({
    cwd,
    env: { SLACKLINE_GRPC_PORT: "2001", SLACKLINE_HTTP_PORT: "2002", SLACKLINE_DEVICE: "cuda:0, cuda:1" },
    argv: ["--grpc-port", "3001"],
  });
  assert.equal(settings.grpcPort, 3001);
  assert.equal(settings.httpPort, 2002);
  assert.equal(settings.logLevel, "warn");
  assert.equal(settings.host, "file.example");
  assert.deepEqual(settings.devices, [
    { provider: "cuda", index: 0 },
    { provider: "cuda", index: 1 },
  ]);
});

test("paths are taken from where they are written: the file's folder, or the working folder", (t) => {
  const cwd = tempDir(t);
  writeFiles(cwd, { "etc/site.yaml": "models: ../repo\nprofile_cache: cache\n" });
  const settings = settingsOf({ cwd, argv: ["--config", "etc/site.yaml", "--decision-log=out/log.jsonl"] });
  assert.equal(settings.modelsDir, path.join(cwd, "repo"));
  assert.equal(settings.profileCacheDir, path.join(cwd, "etc", "cache"));
  assert.equal(settings.decisionLogFile, path.join(cwd, "out", "log.jsonl"));
  assert.equal(settings.configFile, path.join(cwd, "etc", "site.yaml"));
});

test("TLS opens the daemon to other hosts unless told otherwise", (t) => {
  const cwd = tempDir(t);
  writeFiles(cwd, { "cert.pem": "c", "key.pem": "k" });
  const argv = ["--tls-cert", "cert.pem", "--tls-key", "key.pem"];
  assert.equal(settingsOf({ cwd, argv }).host, "0.0.0.0");
  assert.equal(settingsOf({ cwd, argv: [...argv, "--host", "10.1.2.3"] }).host, "10.1.2.3");
});

test("tenants come from the file as a mapping, or from the environment as one line", (t) => {
  const cwd = withYaml(t, "tenants:\n  search: { weight: 2.5 }\n  batch: { best_effort: true }\n");
  assert.deepEqual(settingsOf({ cwd }).tenants, {
    search: { weight: 2.5, bestEffortDefault: false },
    batch: { weight: 1, bestEffortDefault: true },
  });
  const env = { SLACKLINE_TENANTS: "{ ads: { weight: 3 } }" };
  assert.deepEqual(settingsOf({ cwd, env }).tenants, { ads: { weight: 3, bestEffortDefault: false } });
});

const BAD_FILES: readonly { readonly name: string; readonly yaml: string; readonly problems: readonly string[] }[] = [
  {
    name: "every problem is listed at once, each with its line",
    yaml: [
      "grpc_port: 99999",
      "http_prot: 8002",
      "device: cuda:0,tpu",
      "log_level: loud",
      "best_effort_share_min: 1.5",
      "tenants:",
      "  team-a:",
      "    wieght: 2",
      "  team-b:",
      "    weight: -1",
      "fairness: maybe",
      "",
    ].join("\n"),
    problems: [
      "slackline.yaml:1:12: grpc_port: got 99999; expected an integer from 0 to 65535",
      "slackline.yaml:2:1: http_prot: unknown key; did you mean 'http_port'?",
      "slackline.yaml:3:9: device: 'tpu' is not a device; expected auto, or a list of cuda, cuda:N, webgpu, cpu (such as cuda:0,cuda:1)",
      'slackline.yaml:4:12: log_level: got "loud"; expected one of trace, debug, info, warn, error, fatal, silent',
      "slackline.yaml:5:24: best_effort_share_min: got 1.5; expected a number from 0 to 1",
      "slackline.yaml:8:5: tenants.team-a.wieght: unknown key; did you mean 'weight'?",
      "slackline.yaml:10:13: tenants.team-b.weight: got -1; expected a number above 0, up to 1000000",
      'slackline.yaml:11:11: fairness: got "maybe"; expected true or false',
    ],
  },
  {
    name: "text where a number belongs",
    yaml: 'grpc_port: "8001"\ndrain_timeout_ms: 1.5\n',
    problems: [
      'slackline.yaml:1:12: grpc_port: got "8001"; expected an integer from 0 to 65535',
      "slackline.yaml:2:19: drain_timeout_ms: got 1.5; expected an integer from 0 to 86400000",
    ],
  },
  {
    name: "a key without a value",
    yaml: "models:\n",
    problems: ["slackline.yaml:1:8: models: got nothing; expected a folder"],
  },
  {
    name: "a key given twice, and another problem beside it",
    yaml: "host: a\nhost: b\nhttp_port: -1\n",
    problems: [
      "slackline.yaml:2:1: this key is given twice",
      "slackline.yaml:3:12: http_port: got -1; expected an integer from 0 to 65535",
    ],
  },
  {
    name: "a list instead of settings",
    yaml: "- 1\n",
    problems: ["slackline.yaml:1:1: got [1]; expected settings as `name: value` lines"],
  },
  {
    name: "an unknown key that resembles none",
    yaml: "tenants: { a: { quux: 1 } }\n",
    problems: ["slackline.yaml:1:17: tenants.a.quux: unknown key; known: weight, best_effort"],
  },
  {
    name: "a key that would reach an object's prototype",
    yaml: "__proto__: { host: x }\n",
    problems: [],
  },
  { name: "an empty list of devices", yaml: "device: []\n", problems: [] },
];

test("bad settings files", async (t) => {
  for (const { name, yaml, problems } of BAD_FILES) {
    await t.test(name, (t) => {
      const found = problemsOf({ cwd: withYaml(t, yaml) });
      if (problems.length === 0) assert.equal(found.length, 1, found.join("\n"));
      else assert.deepEqual([...found].sort(), [...problems].sort());
    });
  }
});

test("a syntax error names its line", (t) => {
  const [problem, ...others] = problemsOf({ cwd: withYaml(t, "host: a\ndevice: [cpu\nlog_level: info\n") });
  assert.match(problem ?? "", /^slackline\.yaml:3:\d+: /);
  assert.deepEqual(others, []);
});

test("problems of file, environment and flags are listed together", (t) => {
  const found = problemsOf({
    cwd: withYaml(t, "grpc_port: x\n"),
    env: { SLACKLINE_HTTP_PORT: "many", SLACKLINE_TENANTS: "{ a: { weight: 0 } }" },
    argv: ["--drain-timeout-ms", "-5", "--modles", "here", "--reprofile=perhaps", "--host"],
  });
  assert.deepEqual(found, [
    'slackline.yaml:1:12: grpc_port: got "x"; expected an integer from 0 to 65535',
    'SLACKLINE_HTTP_PORT: got "many"; expected an integer from 0 to 65535',
    "SLACKLINE_TENANTS (a.weight): got 0; expected a number above 0, up to 1000000",
    "--modles: unknown flag; did you mean 'models'?",
    "--host: got nothing; expected --host HOST",
    "--drain-timeout-ms: got -5; expected an integer from 0 to 86400000",
    '--reprofile: got "perhaps"; expected true or false',
  ]);
});

test("settings that don't fit together are problems where they were given", (t) => {
  const cwd = withYaml(t, "grpc_port: 9000\nload_models: [a]\n");
  writeFiles(cwd, { "cert.pem": "c" });
  assert.deepEqual(problemsOf({ cwd, argv: ["--http-port", "9000"], env: { SLACKLINE_TLS_CERT: "cert.pem" } }), [
    "SLACKLINE_TLS_CERT: needs tls_key too",
    "slackline.yaml:1:12: grpc_port: is 9000, which is the http_port; they must differ",
    "slackline.yaml:2:14: load_models: only has a meaning with model_control: explicit",
  ]);
  assert.deepEqual(problemsOf({ cwd: tempDir(t), argv: ["--grpc-port", "0", "--http-port", "0"] }), []);
  assert.deepEqual(problemsOf({ cwd: tempDir(t), argv: ["--http-port", "8001"] }), [
    "--http-port: is 8001, which is the grpc_port; they must differ",
  ]);
});

test("a settings file that is named but can't be read is a problem", (t) => {
  const cwd = tempDir(t);
  mkdirSync(path.join(cwd, "folder"));
  assert.deepEqual(problemsOf({ cwd, argv: ["--config", "none.yaml"] }), [
    "none.yaml: can't be read: it does not exist",
  ]);
  assert.deepEqual(problemsOf({ cwd, env: { SLACKLINE_CONFIG: "folder" } }), [
    "folder: can't be read: it is a folder, not a file",
  ]);
});

test("a missing certificate is named", (t) => {
  const cwd = tempDir(t);
  writeFiles(cwd, { "key.pem": "k" });
  const [problem] = problemsOf({ cwd, argv: ["--tls-cert", "no.pem", "--tls-key", "key.pem"] });
  assert.equal(problem, `--tls-cert: ${path.join(cwd, "no.pem")} can't be read: it does not exist`);
});

test("variables that a cluster manager injects are not mistaken for settings", (t) => {
  const settings = settingsOf({
    cwd: tempDir(t),
    env: {
      SLACKLINE_SERVICE_HOST: "10.0.0.1",
      SLACKLINE_PORT_8001_TCP: "tcp://10.0.0.1:8001",
      SLACKLINE_GRPC_PORT: "tcp://10.0.0.1:8001",
      SLACKLINE_LOG_LEVL: "debug",
      SLACKLINE_COLOUR: "blue",
      SLACKLINE_TEST_DEVICE: "webgpu",
      SLACKLINE_HOST: "",
    },
  });
  assert.equal(settings.grpcPort, 8001);
  assert.deepEqual(settings.warnings, [
    "SLACKLINE_GRPC_PORT is ignored: 'tcp://10.0.0.1:8001' looks like a service address injected by a cluster manager",
    "SLACKLINE_LOG_LEVL is not a setting and has no effect; did you mean SLACKLINE_LOG_LEVEL?",
    "SLACKLINE_COLOUR is not a setting and has no effect; slackline serve --help lists them",
  ]);
});
