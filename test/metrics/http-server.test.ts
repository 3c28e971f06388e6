import assert from "node:assert/strict";
import { connect } from "node:net";
import { type TestContext, test } from "node:test";
import { EventLoopDelay } from "../../daemon/metrics/event-loop-delay.ts";
import { type HttpPages, HttpServer } from "../../daemon/metrics/http-server.ts";
import type { DaemonStatus } from "../../daemon/status.ts";

const PAGES: HttpPages = {
  metrics: () => Promise.resolve("# page\n"),
  readiness: () => ({ ready: true, reason: "" }),
  status: () => ({ state: "ready" }) as unknown as DaemonStatus,
};

async function serve(
  t: TestContext,
  pages: Partial<HttpPages> = {},
): Promise<{ readonly url: string; readonly port: number }> {
  const server = new HttpServer({ ...PAGES, ...pages });
  const port = await server.listen("127.0.0.1", 0);
  t.after(() => server.close());
  return { url: `http://127.0.0.1:${port}`, port };
}

test("pages answer with their contents", async (t) => {
  const { url } = await serve(t);
  const metrics = await fetch(`${url}/metrics?x=1`);
  assert.equal(metrics.headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  assert.equal(await metrics.text(), "# page\n");
  assert.equal((await fetch(`${url}/healthz`)).status, 200);
  assert.equal(await (await fetch(`${url}/readyz`)).text(), "ready\n");
  assert.deepEqual(await (await fetch(`${url}/status`)).json(), { state: "ready" });
  const head = await fetch(`${url}/metrics`, { method: "HEAD" });
  assert.deepEqual([head.status, head.headers.get("content-length"), await head.text()], [200, "7", ""]);
});

test("readiness is told with its reason", async (t) => {
  const { url } = await serve(t, { readiness: () => ({ ready: false, reason: "loading digits/1" }) });
  const response = await fetch(`${url}/readyz`);
  assert.deepEqual([response.status, await response.text()], [503, "not ready: loading digits/1\n"]);
  assert.equal((await fetch(`${url}/healthz`)).status, 200);
});

test("unknown pages, other methods and failing pages have plain answers", async (t) => {
  const { url, port } = await serve(t, {
    metrics: () => Promise.reject(new Error("no figures")),
    status: () => {
      throw new Error("no status");
    },
  });
  assert.equal((await fetch(`${url}/`)).status, 404);
  const post = await fetch(`${url}/metrics`, { method: "POST", body: "x" });
  assert.deepEqual([post.status, post.headers.get("allow")], [405, "GET, HEAD"]);
  const failed = await fetch(`${url}/metrics`);
  assert.deepEqual([failed.status, await failed.text()], [500, "the page could not be made: no figures\n"]);
  assert.equal((await fetch(`${url}/status`)).status, 500);
  const answer = await new Promise<string>((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => socket.write("nonsense\r\n\r\n"));
    let text = "";
    socket.on("data", (data) => {
      text += data.toString();
    });
    socket.on("close", () => resolve(text));
    socket.on("error", reject);
  });
  assert.match(answer, /^HTTP\/1\.1 400 /);
  assert.equal((await fetch(`${url}/healthz`)).status, 200);
});

test("an address that can't be had is told in a sentence", async (t) => {
  const { port } = await serve(t);
  await assert.rejects(
    new HttpServer(PAGES).listen("127.0.0.1", port),
    new RegExp(`can't listen for HTTP on 127\\.0\\.0\\.1:${port}: the port is in use; .*--http-port`),
  );
  await assert.rejects(new HttpServer(PAGES).listen("192.0.2.1", 0), /this machine has no such address; .*--host/);
});

test("event-loop delay is readable from the start, and not negative", () => {
  const delay = new EventLoopDelay();
  try {
    const { p50, p99, max } = delay.read();
    for (const figure of [p50, p99, max]) assert.ok(Number.isFinite(figure) && figure >= 0);
  } finally {
    delay.stop();
  }
});
