/** Starts lanes' processes while hardly any file descriptors are left, and prints what became of them as JSON. */
import { closeSync, openSync, readFileSync } from "node:fs";
import { Arena } from "../../daemon/device/arena.ts";
import { startProcessHost } from "../../daemon/device/lane-host.ts";
import { LaneProcess } from "../../daemon/device/lane-process.ts";
import { CPU_PROVIDER } from "../../daemon/device/provider.ts";

/** More than a process needs. */
const LEFT_MAX = 12;

/** Opens files until none can be opened but `left`; what it returns closes them. */
function useUp(left: number): () => void {
  const files: number[] = [];
  try {
    for (;;) files.push(openSync("/dev/null", "r"));
  } catch {
    for (const file of files.splice(0, left)) closeSync(file);
  }
  return () => {
    for (const file of files.splice(0)) closeSync(file);
  };
}

/** What a lane tells from the death of its process, with no descriptor left, until it is back. */
async function restart(): Promise<string[]> {
  const told: string[] = [];
  let free: () => void = () => {};
  let back: () => void = () => {};
  const restarted = new Promise<void>((resolve) => {
    back = resolve;
  });
  const lane = await LaneProcess.start({
    lane: "lane0",
    provider: CPU_PROVIDER,
    deviceName: "test",
    threads: 1,
    cacheFolder: null,
    events: {
      restarted: () => {
        told.push("restarted");
        back();
      },
      reloaded: () => {},
      dropped: () => {},
      log: (level, message) => {
        told.push(`${level} ${message}`);
        if (message.includes("could not be restarted")) free();
      },
    },
  });
  free = useUp(0);
  process.kill(lane.pid!, "SIGKILL");
  await restarted;
  await lane.close();
  return told;
}

/** How many of the starts failed, with one descriptor more left each time. */
async function starts(): Promise<number> {
  const arena = Arena.open();
  let failures = 0;
  for (let left = 0; left <= LEFT_MAX; left++) {
    const free = useUp(left);
    try {
      const host = await startProcessHost(arena, { lost: () => {}, output: () => {} });
      await host.close();
    } catch {
      failures++;
    }
    free();
  }
  arena.close();
  return failures;
}

const told = await restart();
const failures = await starts();
// Addresses without a file are listed with an @ in front.
const listening = readFileSync("/proc/net/unix", "utf8").includes(`@slackline-${process.pid}-`);
process.stdout.write(JSON.stringify({ restart: told, failures, listening }));
