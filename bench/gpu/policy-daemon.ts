/** A daemon with a comparison policy in place of its scheduler: `--policy NAME`, then the flags of `serve`. */
import { loadSettings } from "../../daemon/config/daemon-settings.ts";
import { schedulerOptions, startDaemon } from "../../daemon/daemon.ts";
import { createLogger } from "../../daemon/logger.ts";
import { findPolicy } from "../sim/policies.ts";
import { OneShape } from "./one-shape.ts";

const argv = process.argv.slice(2);
const at = argv.indexOf("--policy");
const [, name = ""] = at < 0 ? [] : argv.splice(at, 2);
const policy = findPolicy(name);
if (policy === undefined) throw new Error(`--policy: there is no policy '${name}'`);
const loaded = loadSettings({ argv });
if (loaded.type !== "serve") throw new Error("only the flags of serve are taken");
const { settings } = loaded;
// It sends its next batch before the last one ends, as the daemon's own does: else the device would wait for it each time.
const options = { ...schedulerOptions(settings), gatherUs: 0 };
const logger = createLogger(settings.logLevel, settings.logFormat);
const daemon = await startDaemon(settings, logger, { scheduler: new OneShape(policy.create(options)) });
for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.once(signal, () => void daemon.stop().then((drained) => process.exit(drained ? 0 : 1)));
}
await daemon.ready;
process.stdout.write(`ready grpc=${settings.host}:${daemon.grpcPort} http=${settings.host}:${daemon.httpPort}\n`);
