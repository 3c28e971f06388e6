import assert from "node:assert/strict";
import { test } from "node:test";
import { availableCores, availableMemoryBytes, type Machine, memoryBytesMax } from "../../daemon/resources.ts";
import { tempDir, writeFiles } from "../config/temp-dir.ts";

const GIB = 2 ** 30;
const FREE: Machine = {
  cores: 16,
  memoryBytes: 64 * GIB,
  freeBytes: 40 * GIB,
  limitBytes: 0,
  belowLimitBytes: 40 * GIB,
  cgroupRoot: "/nowhere",
  membership: "",
};

test("without a container all cores and the machine's memory may be used", () => {
  assert.equal(availableCores(FREE), 16);
  assert.equal(memoryBytesMax(FREE), 64 * GIB);
  assert.equal(availableMemoryBytes(FREE), 40 * GIB);
});

test("a limit above the machine's memory, which stands for none, is none", () => {
  const machine = { ...FREE, limitBytes: 2 ** 63, belowLimitBytes: 0 };
  assert.equal(memoryBytesMax(machine), 64 * GIB);
  assert.equal(availableMemoryBytes(machine), 40 * GIB);
});

test("a container's quota of processor time counts in whole cores, at least one", (t) => {
  const cgroupRoot = tempDir(t);
  const machine = { ...FREE, cgroupRoot, membership: "0::/\n" };
  for (const [limit, cores] of [
    ["400000 100000", 4],
    ["250000 100000", 2],
    ["50000 100000", 1],
    ["max 100000", 16],
    ["6400000 100000", 16],
  ] as const) {
    writeFiles(cgroupRoot, { "cpu.max": `${limit}\n` });
    assert.equal(availableCores(machine), cores, limit);
  }
});

test("a quota of a group above the process's own holds too", (t) => {
  const cgroupRoot = tempDir(t);
  writeFiles(cgroupRoot, {
    "pod/cpu.max": "300000 100000\n",
    "pod/container/cpu.max": "800000 100000\n",
  });
  assert.equal(availableCores({ ...FREE, cgroupRoot, membership: "0::/pod/container\n" }), 3);
});

test("version 1 of control groups is read, of a group that the container sees as its root too", (t) => {
  const cgroupRoot = tempDir(t);
  writeFiles(cgroupRoot, { "cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n" });
  const machine = { ...FREE, cgroupRoot, membership: "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/\n" };
  assert.equal(availableCores(machine), 2);
  writeFiles(cgroupRoot, { "cpu/cpu.cfs_quota_us": "-1\n" });
  assert.equal(availableCores(machine), 16);
});

test("files that the kernel keeps in a container's memory count as available", (t) => {
  const cgroupRoot = tempDir(t);
  const limited: Machine = { ...FREE, limitBytes: 8 * GIB, belowLimitBytes: GIB, cgroupRoot };
  assert.equal(memoryBytesMax(limited), 8 * GIB);
  assert.equal(availableMemoryBytes(limited), GIB);

  writeFiles(cgroupRoot, {
    "pod/memory.stat": `anon ${GIB}\nfile ${5 * GIB}\nshmem ${GIB}\ninactive_anon ${GIB}\nactive_anon ${GIB}\ninactive_file ${3 * GIB}\nactive_file ${GIB}\n`,
    "memory/pod/memory.stat": `inactive_file 0\nactive_file 0\ntotal_inactive_file ${2 * GIB}\ntotal_active_file ${GIB}\n`,
  });
  assert.equal(availableMemoryBytes({ ...limited, membership: "0::/pod\n" }), 5 * GIB);
  assert.equal(availableMemoryBytes({ ...limited, membership: "3:memory:/pod\n" }), 4 * GIB);
  assert.equal(availableMemoryBytes({ ...limited, membership: "0::/pod\n", freeBytes: 2 * GIB }), 2 * GIB);
});
