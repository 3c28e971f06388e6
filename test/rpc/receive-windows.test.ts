import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:http2";
import { describe, it } from "node:test";
import { until } from "../support/live-daemon.ts";
import { startServer } from "./harness.ts";

describe("the server's receive windows", () => {
  it("are wider than HTTP/2's own, for each call and for the connection", async (t) => {
    const harness = await startServer();
    t.after(() => harness.stop());
    const session = connect(`http://${harness.address}`);
    t.after(() => session.destroy());
    const [settings] = await once(session, "remoteSettings");
    assert.equal(settings.initialWindowSize, 256 * 1024);
    assert.equal(settings.maxConcurrentStreams, 16_384, "grpc-js's own settings stay");
    await until("the connection has room for as much", () => session.state.remoteWindowSize === 256 * 1024 || null);
  });
});
