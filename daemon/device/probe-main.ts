/** Entry of the probe: finds out in a process of its own whether a provider works, since a driver may end the process. */
import { probeProvider } from "./probe.ts";
import type { ProbeRequest, ProbeResult } from "./probe-types.ts";

const request = JSON.parse(process.argv[2]!) as ProbeRequest;
let result: ProbeResult;
try {
  result = { ok: true, name: await probeProvider(request) };
} catch (error) {
  result = { ok: false, reason: error instanceof Error ? error.message : String(error) };
}
process.send!(result, () => process.exit());
