/**
 * Runs the device lane's tests and a whole daemon through a GPU's provider, one test after the other.
 *
 *     node dist/test/gpu/run.js webgpu [--require] [--hardware]
 *     node dist/test/gpu/run.js cuda
 *
 * `--test-name-pattern` is the test runner's.
 *
 * Without `--hardware` WebGPU runs on SwiftShader, which computes on the CPU, so that any machine can run the GPU's path; where
 * SwiftShader or the Vulkan loader is missing it says so and ends with 0, or with 1 under `--require`. `--hardware` leaves the
 * choice of the driver to the Vulkan loader. Where CUDA does not work the tests fail.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { chooseDevice, DeviceUnavailable } from "../../daemon/device/choose-device.ts";

/** Where Debian's `chromium` package puts SwiftShader's description for the Vulkan loader. */
const SWIFTSHADER = "/usr/lib/chromium/vk_swiftshader_icd.json";
const TESTS = [
  "../device/lane.test.js",
  "../device/lane-life.test.js",
  "../device/padding.test.js",
  "digits.js",
  "cold-shape.js",
];
const PROVIDERS: readonly string[] = ["webgpu", "cuda"];
/** What the probe says where there is nothing to test on. */
const NOTHING_THERE = /no Vulkan loader|finds no usable driver|found no driver with an adapter/;

const { values, positionals } = parseArgs({
  options: {
    require: { type: "boolean", default: false },
    hardware: { type: "boolean", default: false },
    "test-name-pattern": { type: "string", default: ".*" },
  },
  allowPositionals: true,
});
const [provider = ""] = positionals;
if (positionals.length !== 1 || !PROVIDERS.includes(provider)) {
  process.stderr.write(`test: a provider is missing or unknown: one of ${PROVIDERS.join(", ")}\n`);
  process.exit(2);
}

function skip(reason: string): never {
  const how = "On Debian: apt-get install chromium libvulkan1";
  process.stdout.write(`test:${provider}: ${values.require ? "cannot run" : "skipped"}: ${reason}. ${how}\n`);
  process.exit(values.require ? 1 : 0);
}

const software = provider === "webgpu" && !values.hardware;
if (software) {
  const named = process.env.VK_ICD_FILENAMES ?? process.env.VK_DRIVER_FILES;
  if (named === undefined && !existsSync(SWIFTSHADER)) skip(`SwiftShader is not at ${SWIFTSHADER}`);
  process.env.VK_ICD_FILENAMES = named ?? SWIFTSHADER;
}
// The Vulkan loader wants one, and a service account has none.
process.env.XDG_RUNTIME_DIR ??= tmpdir();
process.env.SLACKLINE_TEST_DEVICE = provider;

try {
  const { name } = await chooseDevice(provider, { allowSoftwareGpu: software });
  process.stdout.write(`test:${provider} on ${name}\n`);
} catch (error) {
  if (!(error instanceof DeviceUnavailable)) throw error;
  if (software && NOTHING_THERE.test(error.message)) skip(error.message);
  process.stderr.write(`test:${provider}: ${error.message}\n`);
  process.exit(1);
}

const started = performance.now();
const files = TESTS.map((file) => fileURLToPath(new URL(file, import.meta.url)));
// One after the other: software shaders take all cores there are, and a GPU is one for all.
const pattern = `--test-name-pattern=${values["test-name-pattern"]}`;
const args = ["--enable-source-maps", "--test", "--test-concurrency=1", pattern, ...files];
const child = spawn(process.execPath, args, { stdio: "inherit" });
child.once("close", (code) => {
  process.stdout.write(`test:${provider} took ${((performance.now() - started) / 1000).toFixed(0)} s\n`);
  process.exitCode = code ?? 1;
});
