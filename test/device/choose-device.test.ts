import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { chooseDevice, DeviceUnavailable } from "../../daemon/device/choose-device.ts";
import type { ProbeRequest, ProbeResult } from "../../daemon/device/probe-types.ts";
import { parseProvider, providerText } from "../../daemon/device/provider.ts";

function probing(results: Partial<Record<string, ProbeResult>>, asked: ProbeRequest[] = []) {
  return async (request: ProbeRequest): Promise<ProbeResult> => {
    asked.push(request);
    return results[providerText(request.provider)] ?? { ok: false, reason: `no ${request.provider.name} here` };
  };
}

describe("device choice", () => {
  it("takes the best that works and says why better ones were passed over", async () => {
    const choice = await chooseDevice("auto", { probe: probing({ webgpu: { ok: true, name: "Some GPU" } }) });
    assert.deepEqual(choice.provider, { name: "webgpu", deviceId: 0 });
    assert.equal(choice.name, "Some GPU");
    assert.deepEqual(choice.passedOver, [{ provider: "cuda", reason: "no cuda here" }]);
  });

  it("falls back to the CPU", async () => {
    const choice = await chooseDevice("auto", { probe: probing({}) });
    assert.equal(choice.provider.name, "cpu");
    assert.match(choice.name, /\d+ cores/);
    assert.deepEqual(
      choice.passedOver.map(({ provider }) => provider),
      ["cuda", "webgpu"],
    );
  });

  it("does as it is told or fails with the reason", async () => {
    const asked: ProbeRequest[] = [];
    const probe = probing({ "cuda:1": { ok: true, name: "Second GPU" } }, asked);
    assert.deepEqual((await chooseDevice("cuda:1", { probe, allowSoftwareGpu: true })).name, "Second GPU");
    assert.deepEqual(asked, [{ provider: { name: "cuda", deviceId: 1 }, allowSoftwareGpu: true }]);
    assert.equal((await chooseDevice("cpu", { probe })).provider.name, "cpu");
    await assert.rejects(chooseDevice("webgpu", { probe }), (error) => {
      assert.ok(error instanceof DeviceUnavailable);
      assert.match(error.message, /device "webgpu" cannot be used: no webgpu here/);
      return true;
    });
    await assert.rejects(
      chooseDevice("tpu", { probe }),
      /device "tpu" is unknown: use auto, cuda, cuda:N, webgpu or cpu/,
    );
  });

  it("asks in a child process, and gets an answer on any machine", async () => {
    const choice = await chooseDevice("auto");
    for (const { reason } of choice.passedOver) assert.match(reason, /\S+ \S+/);
    assert.notEqual(choice.name, "");
  });

  it("understands providers with and without a device number", () => {
    assert.deepEqual(parseProvider("cuda:2"), { name: "cuda", deviceId: 2 });
    assert.deepEqual(parseProvider("webgpu"), { name: "webgpu", deviceId: 0 });
    for (const text of ["cpu:1", "cuda:", "cuda:-1", "gpu", ""]) assert.equal(parseProvider(text), null);
  });
});
