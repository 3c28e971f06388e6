/** Chooses what executes: asks each provider, best first, in a process of its own whether it works here. */
import { fork } from "node:child_process";
import os from "node:os";
import { availableCores } from "../resources.ts";
import type { ProbeRequest, ProbeResult } from "./probe-types.ts";
import { CPU_PROVIDER, type Provider, type ProviderName, parseProvider, providerText } from "./provider.ts";
import { siblingModule } from "./sibling.ts";

export interface DeviceChoice {
  readonly provider: Provider;
  /** Hardware as the provider or the operating system names it. */
  readonly name: string;
  /** One sentence: asked for by the operator, or why it is the best available. */
  readonly reason: string;
  /** Better providers that were tried, each with why it is not used. */
  readonly passedOver: readonly { readonly provider: ProviderName; readonly reason: string }[];
}

export interface ChooseOptions {
  readonly allowSoftwareGpu?: boolean;
  /** How a provider is asked; by default in a child process. */
  readonly probe?: (request: ProbeRequest) => Promise<ProbeResult>;
}

/** The device that was asked for by name cannot be used; the message says why and what to do. */
export class DeviceUnavailable extends Error {}

const BEST_FIRST: readonly ProviderName[] = ["cuda", "webgpu"];
/** The first use of a GPU by a process can take many seconds. */
const PROBE_TIMEOUT_MS = 60_000;

/** `requested` is `auto`, `cpu`, `webgpu`, `cuda` or `cuda:N`; rejects with `DeviceUnavailable`. */
export async function chooseDevice(requested: string, options: ChooseOptions = {}): Promise<DeviceChoice> {
  const { allowSoftwareGpu = false, probe = probeInChild } = options;
  if (requested === "auto") return await chooseBest(allowSoftwareGpu, probe);
  const provider = parseProvider(requested);
  if (provider === null) {
    throw new DeviceUnavailable(`device "${requested}" is unknown: use auto, cuda, cuda:N, webgpu or cpu`);
  }
  const reason = "asked for by the operator";
  if (provider.name === "cpu") return { provider, name: cpuName(), reason, passedOver: [] };
  const result = await probe({ provider, allowSoftwareGpu });
  if (!result.ok) {
    throw new DeviceUnavailable(`device "${requested}" cannot be used: ${result.reason}. Use --device auto or cpu`);
  }
  return { provider, name: result.name, reason, passedOver: [] };
}

async function chooseBest(
  allowSoftwareGpu: boolean,
  probe: (request: ProbeRequest) => Promise<ProbeResult>,
): Promise<DeviceChoice> {
  const passedOver: { provider: ProviderName; reason: string }[] = [];
  for (const name of BEST_FIRST) {
    const provider: Provider = { name, deviceId: 0 };
    const result = await probe({ provider, allowSoftwareGpu });
    if (result.ok) return { provider, name: result.name, reason: "the best that works here", passedOver };
    passedOver.push({ provider: name, reason: result.reason });
  }
  return { provider: CPU_PROVIDER, name: cpuName(), reason: "no GPU can be used", passedOver };
}

/** Model and number of the processors. */
export function cpuName(): string {
  const cpus = os.cpus();
  const cores = availableCores();
  return `${cpus[0]?.model.trim() || "CPU"}, ${cores} ${cores === 1 ? "core" : "cores"}`;
}

function probeInChild(request: ProbeRequest): Promise<ProbeResult> {
  return new Promise((resolve) => {
    const child = fork(siblingModule(import.meta.url, "probe-main"), [JSON.stringify(request)], {
      execArgv: [],
      stdio: ["ignore", "ignore", "ignore", "ipc"],
    });
    const name = providerText(request.provider);
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      resolve({ ok: false, reason: `${name} did not answer within ${PROBE_TIMEOUT_MS / 1000} s` });
    }, PROBE_TIMEOUT_MS);
    child.once("message", (result) => {
      clearTimeout(timer);
      resolve(result as ProbeResult);
    });
    child.once("error", (error) => {
      clearTimeout(timer);
      resolve({ ok: false, reason: `it could not be tried: ${error.message}` });
    });
    child.once("exit", (code, signal) => {
      clearTimeout(timer);
      const ended: ProbeResult = { ok: false, reason: `trying it ended the process (${signal ?? `code ${code}`})` };
      // An answer sent just before the end is still read before the line is closed; it then counts.
      if (child.connected) child.once("disconnect", () => resolve(ended));
      else resolve(ended);
    });
  });
}
