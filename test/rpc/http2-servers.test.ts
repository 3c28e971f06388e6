import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:http2";
import { describe, it } from "node:test";
import { until } from "../support/live-daemon.ts";
import { answered, infer, startServer, vectorRequest } from "./harness.ts";

const [NODE_MAJOR = 0, NODE_MINOR = 0] = process.versions.node.split(".").map(Number);

describe("the server's connections", () => {
  it("have receive windows wider than HTTP/2's own, each call and the connection", async (t) => {
    const harness = await startServer();
    t.after(() => harness.stop());
    const session = connect(`http://${harness.address}`);
    t.after(() => session.destroy());
    const [settings] = await once(session, "remoteSettings");
    assert.equal(settings.initialWindowSize, 256 * 1024);
    assert.equal(settings.maxConcurrentStreams, 16_384, "grpc-js's own settings stay");
    await until("the connection has room for as much", () => session.state.remoteWindowSize === 256 * 1024 || null);
  });

  const hasOption = NODE_MAJOR > 22 || (NODE_MAJOR === 22 && NODE_MINOR >= 10);
  const skip = hasOption ? false : "Node has no option for it before 22.10";
  it("bear it that callers give up thousands of calls, and answer the others", { skip }, async (t) => {
    const harness = await startServer();
    t.after(() => harness.stop());
    const { client, inference } = harness;
    inference.immediate = false;
    const kept = infer(client, vectorRequest());
    await until("it is there", () => inference.received[0] ?? null);
    const id = inference.received[0]!.id;
    for (let round = 0; round < 30; round++) {
      const calls = Array.from({ length: 100 }, () => client.ModelInfer(vectorRequest(), () => {}));
      await until("all are there", () => inference.received.length === 1 + 100 * (round + 1));
      for (const call of calls) call.cancel();
      await until("all are given up", () => inference.cancelled.length === 100 * (round + 1));
    }
    inference.end(id);
    answered(await kept);
  });
});
