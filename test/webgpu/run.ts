/**
 * Runs the device lane's tests and a whole daemon through the WebGPU provider, on SwiftShader, which computes on the CPU.
 *
 *     node dist/test/webgpu/run.js [--require] [--hardware]
 *
 * Where SwiftShader or the Vulkan loader is missing it says so and ends with 0, or with 1 under `--require`. `--hardware`
 * leaves the choice of the driver to the Vulkan loader, for a machine with a GPU.
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
/** What the probe says where there is nothing to test on. */
const NOTHING_THERE = /no Vulkan loader|finds no usable driver|found no driver with an adapter/;

const { values } = parseArgs({
  options: { require: { type: "boolean", default: false }, hardware: { type: "boolean", default: false } },
});

function skip(reason: string): never {
  const how = "On Debian: apt-get install chromium libvulkan1";
  process.stdout.write(`test:webgpu: ${values.require ? "cannot run" : "skipped"}: ${reason}. ${how}\n`);
  process.exit(values.require ? 1 : 0);
}

if (!values.hardware) {
  const named = process.env.VK_ICD_FILENAMES ?? process.env.VK_DRIVER_FILES;
  if (named === undefined && !existsSync(SWIFTSHADER)) skip(`SwiftShader is not at ${SWIFTSHADER}`);
  process.env.VK_ICD_FILENAMES = named ?? SWIFTSHADER;
}
// The loader wants one, and a service account has none.
process.env.XDG_RUNTIME_DIR ??= tmpdir();
process.env.SLACKLINE_TEST_DEVICE = "webgpu";

try {
  const { name } = await chooseDevice("webgpu", { allowSoftwareGpu: !values.hardware });
  process.stdout.write(`test:webgpu on ${name}\n`);
} catch (error) {
  if (!(error instanceof DeviceUnavailable)) throw error;
  if (NOTHING_THERE.test(error.message)) skip(error.message);
  process.stderr.write(`test:webgpu: ${error.message}\n`);
  process.exit(1);
}

const started = performance.now();
const files = TESTS.map((file) => fileURLToPath(new URL(file, import.meta.url)));
// One after the other: software shaders take all cores there are.
const args = ["--enable-source-maps", "--test", "--test-concurrency=1", ...files];
const child = spawn(process.execPath, args, { stdio: "inherit" });
child.once("close", (code) => {
  process.stdout.write(`test:webgpu took ${((performance.now() - started) / 1000).toFixed(0)} s\n`);
  process.exitCode = code ?? 1;
});
