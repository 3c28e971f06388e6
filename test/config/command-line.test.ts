import assert from "node:assert/strict";
import { test } from "node:test";
import { type CommandLine, parseCommandLine, serveHelp } from "../../daemon/config/command-line.ts";
import { parseDevices } from "../../daemon/config/devices.ts";
import { nearestName } from "../../daemon/config/nearest-name.ts";
import { formatProblem } from "../../daemon/config/problems.ts";
import { flagName, SETTING_NAMES, SETTINGS } from "../../daemon/config/settings-table.ts";

type Serve = Extract<CommandLine, { type: "serve" }>;

function serve(...argv: string[]): Serve {
  const parsed = parseCommandLine(argv);
  assert.equal(parsed.type, "serve");
  return parsed as Serve;
}

test("flags are read as their settings' types", () => {
  const { written, problems, configFile } = serve(
    "--models=repo",
    "--grpc-port",
    "0",
    "--reprofile",
    "--no-fairness",
    "--allow-software-gpu=false",
    "--load-models",
    "a,b",
    "--config",
    "x.yaml",
  );
  assert.deepEqual(problems, []);
  assert.equal(configFile, "x.yaml");
  assert.deepEqual(written, {
    models: "repo",
    grpc_port: 0,
    reprofile: true,
    fairness: false,
    allow_software_gpu: false,
    load_models: ["a", "b"],
  });
});

test("the last of a repeated flag counts", () => {
  assert.equal(serve("--host", "a", "--host", "b").written.host, "b");
});

const BAD: readonly { readonly argv: readonly string[]; readonly problems: readonly string[] }[] = [
  { argv: ["--grpc_port", "1"], problems: ["--grpc_port: unknown flag; did you mean 'grpc-port'?"] },
  { argv: ["--grpc-port", "abc"], problems: ['--grpc-port: got "abc"; expected an integer from 0 to 65535'] },
  { argv: ["--grpc-port", ""], problems: ["--grpc-port: got nothing; expected --grpc-port PORT"] },
  {
    argv: ["--host", "--http-port", "1"],
    problems: [
      "unexpected argument '1'; settings are given as --name value",
      '--host: got "--http-port", which is a flag; expected --host HOST',
    ],
  },
  { argv: ["models"], problems: ["unexpected argument 'models'; settings are given as --name value"] },
  { argv: ["--config"], problems: ["--config: got nothing; expected --config FILE"] },
  { argv: ["--device", "cuda,auto"], problems: [/'auto' stands alone/.source] },
  { argv: ["--device", "cuda:0,cuda"], problems: ["'cuda' is listed twice"] },
  { argv: ["--no-host"], problems: ["--no-host: unknown flag"] },
  { argv: ["-x"], problems: ["-x: unknown flag"] },
];

test("bad flags are told in sentences", () => {
  for (const { argv, problems } of BAD) {
    const found = serve(...argv).problems.map(formatProblem);
    assert.equal(found.length, problems.length, `${argv.join(" ")}: ${found.join("\n")}`);
    for (const expected of problems) {
      assert.ok(
        found.some((text) => text.includes(expected)),
        `${argv.join(" ")}: ${found.join("\n")}`,
      );
    }
  }
});

test("help lists every setting, and goes before everything else", () => {
  assert.deepEqual(parseCommandLine(["--bad", "-h"]), { type: "help" });
  assert.deepEqual(parseCommandLine(["--version"]), { type: "version" });
  const help = serveHelp();
  for (const name of SETTING_NAMES) {
    assert.ok(help.includes(`--${flagName(name)}`), name);
    assert.ok(SETTINGS[name].what.length > 0 && SETTINGS[name].byDefault.length > 0, name);
  }
});

test("devices are a single auto or a list without repeats", () => {
  assert.equal(parseDevices(["auto"]), "auto");
  assert.deepEqual(parseDevices(["webgpu", "cpu"]), [
    { provider: "webgpu", index: 0 },
    { provider: "cpu", index: 0 },
  ]);
  for (const bad of [[""], ["cpu:1"], ["cuda:x"], ["tensorrt"], []]) assert.ok("problem" in Object(parseDevices(bad)));
});

test("a hint is given for near names only", () => {
  const known = ["grpc_port", "http_port", "host", "models"];
  assert.equal(nearestName("grcp_port", known), "grpc_port");
  assert.equal(nearestName("GRPC-PORT", known), "grpc_port");
  assert.equal(nearestName("model", known), "models");
  assert.equal(nearestName("port", known), "grpc_port");
  assert.equal(nearestName("temperature", known), null);
});
