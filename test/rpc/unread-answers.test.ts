import assert from "node:assert/strict";
import { once } from "node:events";
import { type ClientHttp2Session, connect } from "node:http2";
import { connect as connectSocket } from "node:net";
import { afterEach, describe, it } from "node:test";
import { compressionAlgorithms, credentials } from "@grpc/grpc-js";
import { RpcError } from "../../daemon/rpc/errors.ts";
import type { RpcSettings } from "../../daemon/rpc/settings.ts";
import { UnreadAnswers } from "../../daemon/rpc/unread-answers.ts";
import { answered, failed, type Harness, infer, protocol, startServer, vectorRequest } from "./harness.ts";
import { TIMINGS } from "./puppet-inference.ts";

const { ModelInfer, ModelStreamInfer } = protocol.inference.GRPCInferenceService.service;

let harness: Harness;
/** A bare HTTP/2 connection, since a gRPC client reads ahead by itself; calls without a reader leave flow control closed. */
let session: ClientHttp2Session;

async function start(settings: Partial<RpcSettings>) {
  harness = await startServer(settings);
  session = connect(`http://${harness.address}`);
}

async function stop() {
  session.destroy();
  await harness.stop();
}

interface UnreadCall {
  /** Reads the call to its end: its messages and its status. */
  read(): Promise<{ readonly messages: Buffer[]; readonly status: string }>;
}

function call(path: string, requests: readonly object[]): UnreadCall {
  const headers = { ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" };
  const stream = session.request(headers, { endStream: false });
  stream.pause();
  let status = "";
  const takeStatus = (received: object) => {
    status = (received as Record<string, string>)["grpc-status"] ?? status;
  };
  stream.on("response", takeStatus).on("trailers", takeStatus);
  const closed = once(stream, "close");
  for (const request of requests) stream.write(framed(ModelInfer.requestSerialize(request)));
  stream.end();
  return {
    async read() {
      const chunks: Buffer[] = [];
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.resume();
      await closed;
      return { messages: unframed(Buffer.concat(chunks)), status };
    },
  };
}

/** A message with gRPC's prefix: not compressed, its length. */
function framed(message: Buffer): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

function unframed(bytes: Buffer): Buffer[] {
  const messages: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + 5 + bytes.readUInt32BE(at + 1);
    messages.push(bytes.subarray(at + 5, end));
    at = end;
  }
  return messages;
}

/** Ends all requests that wait, each with an output of so many bytes. */
function answerAll(bytes: number): void {
  const output = { name: "out_x", datatype: "FP32", shape: [1, bytes / 4], data: new Uint8Array(bytes) } as const;
  for (const id of [...harness.inference.held.keys()]) {
    harness.inference.end(id, { type: "answered", outputs: [output], timings: TIMINGS });
  }
}

const MB = 2 ** 20;

describe("memory of answers", () => {
  it("leaves room for others when connections do not read", () => {
    const unread = new UnreadAnswers(1_000_000);
    for (let peer = 0; peer < 5; peer++) {
      let kept = 0;
      assert.throws(() => {
        for (;;) {
          unread.take(String(peer), 1000);
          kept++;
        }
      }, RpcError);
      assert.ok(kept > 0, `connection ${peer} has no room`);
    }
    assert.ok(unread.held < 1_000_000);
    unread.take("late", 1000);
  });

  it("lets a large answer go out alone, and gives its memory back", async () => {
    const unread = new UnreadAnswers(1000);
    unread.take("a", 5000);
    assert.throws(() => unread.take("b", 10), {
      code: "RESOURCE_EXHAUSTED",
      cause: "unread_answers",
      message:
        "the answer's 10 bytes were dropped: of answers that were not read, this connection holds 0 bytes and all connections 5000, and inflight_bytes_max is 1000; read answers as they come, or send fewer requests at once",
    });
    const none = unread.none();
    unread.give("a", 5000);
    await none;
    unread.take("b", 900);
    assert.throws(() => unread.give("b", 901), /1 bytes more/);
  });
});

describe("callers that do not read", () => {
  afterEach(stop);

  it("lose answers of a stream beyond their share, each told so, while others are served", async () => {
    await start({ inflightBytesMax: 8 * MB });
    harness.inference.immediate = false;
    const total = 40;
    const requests = Array.from({ length: total }, (_, index) => vectorRequest({ id: String(index) }));
    const stream = call(ModelStreamInfer.path, requests);
    await harness.inference.until(() => harness.inference.held.size === total);
    answerAll(MB);
    assert.ok(harness.server.load().bytes < 5 * MB, `${harness.server.load().bytes} bytes are held`);
    harness.inference.immediate = true;
    for (let i = 0; i < 10; i++) answered(await infer(harness.client, vectorRequest()));
    const { messages } = await stream.read();
    const responses = messages.map((message) => ModelStreamInfer.responseDeserialize(message));
    assert.deepEqual(new Set(responses.map(({ infer_response }) => infer_response?.id)).size, total);
    const dropped = responses.filter(({ error_message }) => error_message !== "");
    assert.equal(dropped.length, total - 3);
    for (const { error_message, infer_response } of dropped) {
      assert.match(error_message, /^the answer's 10\d+ bytes were dropped: /);
      assert.equal(infer_response?.parameters.slackline_code?.string_param, "RESOURCE_EXHAUSTED");
      assert.equal(infer_response?.parameters.slackline_cause?.string_param, "unread_answers");
    }
    assert.deepEqual(harness.refusals, new Array(total - 3).fill("vector/2 RESOURCE_EXHAUSTED unread_answers"));
    assert.equal(harness.server.load().bytes, 0);
  });

  it("lose answers of unary calls beyond their connection's share, while others are served", async () => {
    await start({ inflightBytesMax: 8 * MB });
    harness.inference.immediate = false;
    const calls = Array.from({ length: 20 }, () => call(ModelInfer.path, [vectorRequest()]));
    await harness.inference.until(() => harness.inference.held.size === calls.length);
    answerAll(MB);
    harness.inference.immediate = true;
    answered(await infer(harness.client, vectorRequest()));
    const results = await Promise.all(calls.map((unread) => unread.read()));
    assert.deepEqual(results.map(({ status }) => status).sort(), [
      ...new Array(3).fill("0"),
      ...new Array(17).fill("8"),
    ]);
    answered(await infer(harness.client, vectorRequest()));
    assert.equal(harness.server.load().bytes, 0);
  });

  for (const { path } of [ModelInfer, ModelStreamInfer]) {
    it(`are waited for when the daemon drains: ${path}`, async () => {
      await start({});
      harness.inference.immediate = false;
      const unread = call(path, [vectorRequest()]);
      await harness.inference.until(() => harness.inference.held.size === 1);
      let drained = false;
      const draining = harness.server.drain().then(() => {
        drained = true;
      });
      answerAll(20 * MB);
      // Several turns of other calls, in which it would have ended.
      for (let i = 0; i < 10; i++)
        assert.equal(failed(await infer(harness.client, vectorRequest())).code, "UNAVAILABLE");
      assert.equal(drained, false);
      const read = unread.read();
      await draining;
      harness.client.close();
      await harness.server.stop();
      const { messages, status } = await read;
      assert.equal(status, "0");
      assert.ok(messages[0]!.length > 20 * MB);
    });
  }

  it("are given up when they do not even answer pings", { timeout: 30_000 }, async () => {
    await start({ keepaliveTimeMs: 20, keepaliveTimeoutMs: 20 });
    const socket = connectSocket(Number(harness.address.split(":")[1]), "127.0.0.1");
    const emptySettings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    socket.write(Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), emptySettings]));
    socket.resume();
    await once(socket, "close");
  });
});

describe("messages larger than all memory for requests", () => {
  afterEach(stop);

  it("are not received, nor decompressed", async () => {
    await start({ inflightBytesMax: 100_000 });
    const request = vectorRequest({ raw_input_contents: [Buffer.alloc(5_000_000)] });
    const plain = failed(await infer(harness.client, request));
    assert.equal(plain.code, "RESOURCE_EXHAUSTED");
    assert.match(plain.message, /^Received message larger than max \(50000\d\d vs 100000\)$/);
    const client = new protocol.inference.GRPCInferenceService(harness.address, credentials.createInsecure(), {
      "grpc.default_compression_algorithm": compressionAlgorithms.gzip,
    });
    const compressed = failed(await infer(client, request));
    client.close();
    assert.equal(compressed.code, "RESOURCE_EXHAUSTED");
    assert.equal(compressed.message, "Received message that decompresses to a size larger than 100000");
  });
});
