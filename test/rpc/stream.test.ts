import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:http2";
import { afterEach, describe, it } from "node:test";
import { type ClientDuplexStream, type ServiceError, status } from "@grpc/grpc-js";
import type { RpcSettings } from "../../daemon/rpc/settings.ts";
import type { ModelInferRequest } from "../../proto/generated/inference/ModelInferRequest.ts";
import type { ModelStreamInferResponse__Output } from "../../proto/generated/inference/ModelStreamInferResponse.ts";
import { answered, floats, type Harness, infer, protocol, startServer, vectorRequest } from "./harness.ts";

const STREAM_METHOD = protocol.inference.GRPCInferenceService.service.ModelStreamInfer;

/** A message with gRPC's prefix: not compressed, its length. */
function framed(message: Buffer): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

type Responses = AsyncIterator<ModelStreamInferResponse__Output>;

let harness: Harness;

async function open(settings: Partial<RpcSettings> = {}) {
  harness = await startServer(settings);
  const call: ClientDuplexStream<ModelInferRequest, ModelStreamInferResponse__Output> =
    harness.client.ModelStreamInfer();
  // Tests that read on see it; in the others the server stops when they are done.
  call.on("error", () => {});
  return { call, responses: call[Symbol.asyncIterator]() as Responses, inference: harness.inference };
}

async function next(responses: Responses): Promise<ModelStreamInferResponse__Output> {
  const { value, done } = await responses.next();
  assert.ok(!done, "the stream has ended");
  return value;
}

function idOf(response: ModelStreamInferResponse__Output): string | undefined {
  return response.infer_response?.id;
}

function parameter(response: ModelStreamInferResponse__Output, name: string): string | undefined {
  const value = response.infer_response?.parameters[name];
  return value?.string_param ?? value?.int64_param;
}

describe("inference on a stream", () => {
  afterEach(() => harness.stop());

  it("answers in the order of completion, each with its id and own data", async () => {
    const { call, responses, inference } = await open();
    inference.immediate = false;
    for (const id of ["a", "b", "c"])
      call.write(vectorRequest({ id, raw_input_contents: [floats(1, 2, 3, id.charCodeAt(0))] }));
    await inference.until(() => inference.held.size === 3);
    for (const request of [...inference.received].reverse()) inference.end(request.id);
    for (const id of ["c", "b", "a"]) {
      const response = await next(responses);
      assert.equal(idOf(response), id);
      assert.equal(response.error_message, "");
      assert.deepEqual(response.infer_response?.raw_output_contents, [floats(1, 2, 3, id.charCodeAt(0))]);
    }
    call.end();
    assert.equal((await responses.next()).done, true);
  });

  it("carries errors in answers, with code, cause and retry hint, and stays up", async () => {
    const { call, responses, inference } = await open();
    inference.outcome = { type: "shed", cause: "queue_bytes", detail: { limit: 99, retryAfterUs: 2_000 } };
    call.write(vectorRequest({ id: "shed" }));
    const shed = await next(responses);
    assert.equal(idOf(shed), "shed");
    assert.equal(shed.error_message, "the queue of model 'vector' is full: queue_bytes_max is 99; try again in 2 ms");
    assert.equal(parameter(shed, "slackline_code"), "RESOURCE_EXHAUSTED");
    assert.equal(parameter(shed, "slackline_cause"), "queue_bytes");
    assert.equal(parameter(shed, "slackline_retry_after_ms"), "2");
    inference.outcome = null;
    call.write(vectorRequest({ id: "fine" }));
    assert.equal(idOf(await next(responses)), "fine");
    call.end();
  });

  it("cancels by id: the request is answered as cancelled, the cancelling message not at all", async () => {
    const { call, responses, inference } = await open();
    inference.immediate = false;
    call.write(vectorRequest({ id: "one" }));
    call.write(vectorRequest({ id: "two" }));
    const cancel = (id: string) => call.write({ id, parameters: { slackline_cancel: { bool_param: true } } });
    cancel("one");
    cancel("never sent");
    const cancelled = await next(responses);
    assert.equal(idOf(cancelled), "one");
    assert.equal(parameter(cancelled, "slackline_code"), "CANCELLED");
    const [one, two] = inference.received;
    assert.deepEqual(inference.cancelled, [one!.id]);
    inference.end(two!.id);
    assert.equal(idOf(await next(responses)), "two");
    cancel("two");
    call.end();
    assert.equal((await responses.next()).done, true);
  });

  it("says that a cancelling message needs an id", async () => {
    const { call, responses } = await open();
    call.write({ parameters: { slackline_cancel: { bool_param: true } } });
    assert.equal((await next(responses)).error_message, "slackline_cancel needs the id of a request");
    call.end();
  });

  it("answers what is under way when the client has finished sending, and then ends", async () => {
    const { call, responses, inference } = await open();
    inference.immediate = false;
    call.write(vectorRequest({ id: "last" }));
    call.end();
    await inference.until(() => inference.held.size === 1);
    inference.end(inference.last().id);
    assert.equal(idOf(await next(responses)), "last");
    assert.equal((await responses.next()).done, true);
  });

  it("withdraws everything when the client cancels the stream", async () => {
    const { call, inference } = await open();
    inference.immediate = false;
    const ended = new Promise<ServiceError>((resolve) => call.on("error", resolve as (error: Error) => void));
    for (let i = 0; i < 10; i++) call.write(vectorRequest({ id: String(i) }));
    await inference.until(() => inference.held.size === 10);
    call.cancel();
    assert.equal((await ended).code, 1);
    await inference.until(() => inference.cancelled.length === 10);
    assert.deepEqual(harness.server.load(), { requests: 0, streams: 0, bytes: 0 });
  });

  it("refuses requests beyond its limit of unanswered ones, and still takes cancellations", async () => {
    const { call, responses, inference } = await open({ streamRequestsMax: 3 });
    inference.immediate = false;
    for (const id of ["a", "b", "c", "d"]) call.write(vectorRequest({ id }));
    const refused = await next(responses);
    assert.equal(idOf(refused), "d");
    assert.match(refused.error_message, /^3 requests of this stream are unanswered, which is the most it may have/);
    assert.equal(parameter(refused, "slackline_code"), "RESOURCE_EXHAUSTED");
    assert.equal(parameter(refused, "slackline_cause"), "stream_requests");
    assert.equal(parameter(refused, "slackline_retry_after_ms"), "20");
    assert.deepEqual(harness.refusals, ["- RESOURCE_EXHAUSTED stream_requests"]);
    assert.equal(inference.received.length, 3);

    call.write({ id: "b", parameters: { slackline_cancel: { bool_param: true } } });
    const cancelled = await next(responses);
    assert.equal(idOf(cancelled), "b");
    assert.equal(parameter(cancelled, "slackline_code"), "CANCELLED");
    call.write(vectorRequest({ id: "e" }));
    await inference.until(() => inference.received.length === 4);
    for (const { id } of inference.received) if (inference.held.has(id)) inference.end(id);
    for (const id of ["a", "c", "e"]) assert.equal(idOf(await next(responses)), id);
    call.end();
    assert.equal((await responses.next()).done, true);
  });

  it("bounds the memory of a reader that takes nothing, and answers everything once it reads", async () => {
    const streamUnreadBytesMax = 2_000_000;
    const { inference } = await open({ streamUnreadBytesMax });
    const columns = 50_000;
    const inputs = [{ name: "x", datatype: "FP32", shape: [2, columns] }];
    const request = { model_name: "flat", inputs, raw_input_contents: [Buffer.alloc(8 * columns)] };
    const total = 60;
    // A bare HTTP/2 stream, since a gRPC client reads ahead by itself; what has no reader here leaves flow control closed.
    const session = connect(`http://${harness.address}`, { maxSessionMemory: 1000 });
    const stream = session.request(
      { ":method": "POST", ":path": STREAM_METHOD.path, "content-type": "application/grpc", te: "trailers" },
      { endStream: false },
    );
    const message = framed(STREAM_METHOD.requestSerialize(request));
    for (let i = 0; i < total; i++) stream.write(message);
    stream.end();
    await inference.until(() => harness.server.load().bytes > streamUnreadBytesMax);
    const received = inference.received.length;
    assert.ok(received < total / 2, `${received} requests were read`);
    // Several turns of the other calls: had the stream still been read, more would have arrived meanwhile.
    for (let i = 0; i < 20; i++) answered(await infer(harness.client, vectorRequest()));
    assert.ok(inference.received.length - 20 < received + 20, "the server went on reading");
    assert.ok(harness.server.load().bytes < streamUnreadBytesMax + 17 * message.length);

    let bytes = 0;
    stream.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
    });
    await once(stream, "end");
    assert.ok(bytes > total * 8 * columns);
    assert.equal(inference.received.length, total + 20);
    await new Promise<void>((resolve) => session.close(resolve));
    assert.equal(harness.server.load().bytes, 0);
  });

  it("goes on where its connection has reached its age and takes no more calls", async () => {
    harness = await startServer({ connectionAgeMaxMs: 50 });
    const session = connect(`http://${harness.address}`);
    const agedOut = once(session, "goaway");
    const stream = session.request(
      { ":method": "POST", ":path": STREAM_METHOD.path, "content-type": "application/grpc", te: "trailers" },
      { endStream: false },
    );
    await agedOut;
    stream.write(framed(STREAM_METHOD.requestSerialize(vectorRequest())));
    const [answer] = (await once(stream, "data")) as [Buffer];
    assert.equal(idOf(STREAM_METHOD.responseDeserialize(answer.subarray(5))), "r1");
    stream.resume().end();
    await once(session, "close");
    answered(await infer(harness.client, vectorRequest()));
  });

  it("reports bytes that are no message, and stays up", async () => {
    await open();
    const { path, responseDeserialize } = STREAM_METHOD;
    const raw = harness.client.makeBidiStreamRequest(path, (bytes: Buffer) => bytes, responseDeserialize);
    const responses = raw[Symbol.asyncIterator]() as Responses;
    raw.write(Buffer.from([0xff, 0xff, 0xff]));
    const refused = await next(responses);
    assert.equal(refused.error_message, "the message is not a valid ModelInferRequest");
    assert.equal(parameter(refused, "slackline_code"), "INVALID_ARGUMENT");
    raw.write(STREAM_METHOD.requestSerialize(vectorRequest({ id: "ok" })));
    assert.equal(idOf(await next(responses)), "ok");
    raw.end();
  });

  it("ends streams on shutdown only when what is under way has been answered", async () => {
    const { call, responses, inference } = await open();
    inference.immediate = false;
    call.write(vectorRequest({ id: "accepted" }));
    await inference.until(() => inference.held.size === 1);
    const drained = harness.server.drain();
    call.write(vectorRequest({ id: "too late" }));
    const refused = await next(responses);
    assert.equal(idOf(refused), "too late");
    assert.equal(parameter(refused, "slackline_code"), "UNAVAILABLE");
    assert.equal(parameter(refused, "slackline_cause"), "draining");
    inference.end(inference.last().id);
    await drained;
    const stopped = harness.server.stop(5_000);
    assert.equal(idOf(await next(responses)), "accepted");
    // There may be requests that never arrived.
    const ended = { code: status.UNAVAILABLE, details: "the daemon is shutting down" };
    await assert.rejects(responses.next(), ended);
    harness.client.close();
    await stopped;
  });

  it("ends a stream well on shutdown where its caller had nothing more to ask", async () => {
    const { call, responses, inference } = await open();
    inference.immediate = false;
    call.write(vectorRequest({ id: "last" }));
    call.end();
    await inference.until(() => inference.held.size === 1);
    // On the same connection, behind the stream's half-close.
    await new Promise((resolve) => harness.client.ServerLive({}, resolve));
    const stopped = harness.server.stop(5_000);
    inference.end(inference.last().id);
    assert.equal(idOf(await next(responses)), "last");
    assert.equal((await responses.next()).done, true);
    harness.client.close();
    await stopped;
  });
});
