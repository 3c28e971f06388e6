/** Large tensors through system shared memory, against a daemon that does as it is told. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { afterEach, describe, it } from "node:test";
import { SlacklineClient, type SlacklineClientOptions, tensor } from "slackline-client";
import { until } from "../support/live-daemon.ts";
import { openObjects } from "../support/open-objects.ts";
import { FakeDaemon, type FakeDaemonOptions } from "./fake-daemon.ts";
import { FakeRegions, placeOf } from "./fake-regions.ts";

const MIB = 1024 * 1024;
const SEGMENT_BYTES = 16 * MIB;
const skip = process.platform !== "linux";

const cleanup: (() => void)[] = [];
afterEach(() => {
  for (const undo of cleanup.splice(0).reverse()) undo();
});

interface Shared {
  readonly daemon: FakeDaemon;
  readonly regions: FakeRegions;
  readonly client: SlacklineClient;
}

async function start(options: Partial<SlacklineClientOptions> = {}, fake: FakeDaemonOptions = {}): Promise<Shared> {
  const regions = new FakeRegions();
  const daemon = await FakeDaemon.start({ regions, ...fake });
  const client = new SlacklineClient({ target: daemon.target, ...options });
  cleanup.push(
    () => regions.close(),
    () => daemon.kill(),
    () => client.close(),
  );
  return { daemon, regions, client };
}

/** An input of `bytes` bytes, all equal to `value`. */
function large(value: number, bytes: number): { x: ReturnType<typeof tensor.uint8> } {
  return { x: tensor.uint8([1, bytes], new Uint8Array(bytes).fill(value)) };
}

async function answerOf(answer: ReturnType<SlacklineClient["infer"]>): Promise<number> {
  const { data } = (await answer).output("x", "UINT8");
  assert.ok(data.every((byte) => byte === data[0]));
  return data[0]!;
}

const statusOf = (client: SlacklineClient) => client.sharedMemoryStatus()[0]!;

/** Asks until a request has gone through shared memory; then `client` has a segment. */
async function warm({ client }: Shared, bytes = 64 * 1024): Promise<void> {
  await until("tensors are shared", async () => {
    const { shared } = statusOf(client);
    assert.equal(await answerOf(client.infer("warm", large(1, bytes))), 1);
    return statusOf(client).shared > shared;
  });
}

/** Where the last request's input was; null for in the message. */
const lastPlace = (daemon: FakeDaemon) => placeOf(daemon.arrivals.at(-1)!.request.inputs[0]!.parameters);

/** Those that were registered and still have their names. */
function named({ registered }: FakeRegions): string[] {
  return registered.filter((name) => existsSync(`/dev/shm/${name}`));
}

for (const transport of ["stream", "unary"] as const) {
  describe(`shared memory, ${transport}`, { skip, timeout: 60_000 }, () => {
    it("carries large tensors and leaves small ones and strings in the message", async () => {
      const shared = await start({ transport });
      const { client, daemon } = shared;
      await warm(shared);
      const inputs = {
        small: tensor.int32([1], Int32Array.of(7)),
        big: tensor.float64(
          [1, 5_000],
          Float64Array.from({ length: 5_000 }, (_, i) => i / 3),
        ),
        text: tensor.strings([1], ["x".repeat(20_000)]),
        other: tensor.int64(
          [1, 3_000],
          BigInt64Array.from({ length: 3_000 }, (_, i) => BigInt(-i)),
        ),
      };
      const copies = structuredClone(inputs);
      const { outputs } = await client.infer("m", inputs);
      assert.deepEqual(Object.keys(outputs), ["small", "big", "text", "other"]);
      assert.deepEqual(outputs.big, copies.big);
      assert.deepEqual(outputs.other, copies.other);
      assert.deepEqual(outputs.small, copies.small);
      assert.deepEqual(inputs, copies);
      const { request } = daemon.arrivals.at(-1)!;
      assert.deepEqual(
        request.inputs.map(({ parameters }) => placeOf(parameters) !== null),
        [false, true, false, true],
      );
      assert.equal(request.raw_input_contents.length, 2);
    });

    it("names a place for large outputs whose size the model's configuration tells", async () => {
      const output = (name: string, dims: number[]) => ({ name, data_type: "TYPE_FP32" as const, dims });
      const config = (model: string) =>
        model === "m" ? { max_batch_size: 8, output: [output("x", [4_096]), output("y", [-1]), output("z", [3])] } : {};
      const shared = await start({ transport }, { config });
      const { client, daemon } = shared;
      await warm(shared);
      const row = (value: number, width: number) => tensor.float32([2, width], new Float32Array(2 * width).fill(value));
      const inputs = { x: row(1, 4_096), y: row(2, 4_096), z: row(3, 3) };
      await until("outputs are shared", async () => {
        const { outputs } = await client.infer("m", inputs);
        assert.deepEqual(outputs, inputs);
        return daemon.arrivals.at(-1)!.request.outputs.length > 0;
      });
      const { outputs } = daemon.arrivals.at(-1)!.request;
      assert.deepEqual(
        outputs.map(({ name, parameters }) => [name, placeOf(parameters)?.bytes]),
        [
          ["x", 32_768],
          // All are answered nevertheless.
        ],
      );
      const some = await client.infer("m", inputs, { outputs: ["z", "x"] });
      assert.deepEqual(some.outputs.x, inputs.x);
      assert.deepEqual(
        daemon.arrivals.at(-1)!.request.outputs.map(({ name }) => name),
        ["z", "x"],
      );
    });

    it("names places for a model's outputs after an answer by its fallback too", async () => {
      const output = { name: "x", data_type: "TYPE_UINT8" as const, dims: [65_536] };
      const config = () => ({ max_batch_size: 8, output: [output] });
      const shared = await start({ transport }, { config });
      const { client, daemon, regions } = shared;
      const inputs = large(1, 65_536);
      const isPlaced = async (): Promise<boolean> => {
        await client.infer("m", inputs);
        return daemon.arrivals.at(-1)!.request.outputs.length > 0;
      };
      await until("outputs are shared", isPlaced);
      daemon.behave = (request) => ({
        type: "answer",
        response: { ...regions.echo(request, "7"), model_name: "m-small" },
      });
      assert.equal((await client.infer("m", inputs)).model, "m-small");
      daemon.behave = () => ({ type: "echo" });
      assert.equal(await isPlaced(), true);
    });

    it("gives all outputs of a model whose version or outputs change, and places for them again", async () => {
      let version = "1";
      let rename = (input: string): string => input;
      let itemBytes = 65_536;
      const config = () => {
        const output = (name: string) => ({ name, data_type: "TYPE_UINT8" as const, dims: [itemBytes] });
        return { max_batch_size: 8, output: version === "1" ? [output("x")] : ["x", "y"].map(rename).map(output) };
      };
      const shared = await start({ transport }, { config });
      const { client, daemon, regions } = shared;
      daemon.behave = (request) => {
        try {
          return { type: "answer", response: regions.echo(request, version, rename) };
        } catch (error) {
          return { type: "error", code: "INVALID_ARGUMENT", message: (error as Error).message, cause: "invalid" };
        }
      };
      const ask = async (): Promise<void> => {
        const { x } = large(1, itemBytes);
        const { outputs } = await client.infer("m", version === "1" ? { x } : { x, y: x });
        assert.deepEqual(outputs, version === "1" ? { x } : { [rename("x")]: x, [rename("y")]: x });
      };
      const places = (): (number | undefined)[] =>
        daemon.arrivals.at(-1)!.request.outputs.map(({ parameters }) => placeOf(parameters)?.bytes);
      const placed = (count: number): Promise<unknown> =>
        until("outputs are shared", async () => {
          await ask();
          return places().length === count && places().every((bytes) => bytes === itemBytes);
        });
      await placed(1);
      // One more output.
      version = "2";
      await ask();
      await placed(2);
      // Others.
      version = "3";
      rename = (input) => `${input}_renamed`;
      await ask();
      await placed(2);
      // Larger ones in the same version.
      itemBytes *= 2;
      await ask();
      await ask();
      assert.deepEqual(places(), [], "what did not hold is not believed any more");
    });

    it("asks once for each of the versions that answer in turn, and names places whichever does", async () => {
      let asked = 0;
      const config = (model: string) => {
        if (model === "m") asked++;
        return { max_batch_size: 8, output: [{ name: "x", data_type: "TYPE_UINT8" as const, dims: [65_536] }] };
      };
      const shared = await start({ transport }, { config });
      const { client, daemon, regions } = shared;
      await warm(shared);
      let version = 0;
      daemon.behave = (request) => ({ type: "answer", response: regions.echo(request, String(version)) });
      const isPlaced = async (answering: number): Promise<boolean> => {
        version = answering;
        assert.equal((await client.infer("m", large(1, 65_536))).version, String(version));
        assert.ok(asked <= 2, `asked ${asked} times`);
        return daemon.arrivals.at(-1)!.request.outputs.length > 0;
      };
      // What the first is expected of, the second answers.
      await until("outputs are shared", async () => (await isPlaced(1)) && (await isPlaced(2)) && (await isPlaced(1)));
      for (let i = 0; i < 10; i++) assert.equal(await isPlaced(1 + (i % 2)), true);
      assert.equal(asked, 2);
    });

    it("leaves no name behind, and nothing at all when it is closed", async () => {
      const before = openObjects().length;
      const shared = await start({ transport });
      await warm(shared);
      assert.equal(openObjects().length, before + 2, "the client's and the daemon's");
      assert.deepEqual(named(shared.regions), []);
      shared.client.close();
      await shared.daemon.until(() => shared.regions.unregistered.length === shared.regions.registered.length);
      assert.equal(openObjects().length, before);
    });

    it("sends in the message what the daemon can't find in its regions", async () => {
      const shared = await start({ transport });
      const { client, daemon, regions } = shared;
      await warm(shared);
      daemon.behave = ({ inputs }) =>
        placeOf(inputs[0]!.parameters) === null
          ? { type: "echo" }
          : { type: "error", code: "NOT_FOUND", message: "region is not registered", cause: "shared_memory" };
      const answers = [1, 2, 3].map((value) =>
        answerOf(client.infer("m", large(value, 100_000), { deadlineMs: 30_000 })),
      );
      assert.deepEqual(await Promise.all(answers), [1, 2, 3]);
      assert.equal(statusOf(client).problem, "region is not registered");
      await daemon.until(() => regions.unregistered.length === 1);
      await until("the memory is given back", () => statusOf(client).bytes === 0);
    });

    it("keeps to its limit, and lends room again once the daemon has answered", async () => {
      const shared = await start({ transport, sharedMemoryBytesMax: SEGMENT_BYTES });
      const { client, daemon } = shared;
      await warm(shared);
      daemon.behave = () => ({ type: "hold" });
      const bytes = 6 * MIB;
      const held = [1, 2, 3].map((value) => answerOf(client.infer("m", large(value, bytes))));
      await daemon.until(() => daemon.held === 3);
      const places = daemon.arrivals.slice(-3).map(({ request }) => placeOf(request.inputs[0]!.parameters));
      assert.equal(places.filter((place) => place === null).length, 1, "the third has no room");
      assert.equal(statusOf(client).bytes, SEGMENT_BYTES);
      assert.match(statusOf(client).problem!, /sharedMemoryBytesMax/);
      daemon.release();
      assert.deepEqual(await Promise.all(held), [1, 2, 3]);
      daemon.behave = () => ({ type: "echo" });
      assert.equal(await answerOf(client.infer("m", large(4, 15 * MIB))), 4);
      assert.equal(lastPlace(daemon)?.bytes, 15 * MIB);
    });

    it("serves requests whose stream or connection broke from new memory", async () => {
      const shared = await start({ transport });
      const { client, daemon, regions } = shared;
      await warm(shared);
      daemon.behave = () => ({ type: "hold" });
      const answers = [1, 2].map((value) => answerOf(client.infer("m", large(value, 50_000), { deadlineMs: 30_000 })));
      await daemon.until(() => daemon.held === 2);
      daemon.behave = () => ({ type: "echo" });
      daemon.kill();
      const again = await FakeDaemon.start({ port: daemon.port, regions });
      cleanup.push(() => again.kill());
      assert.deepEqual(await Promise.all(answers), [1, 2]);
      const [old] = regions.registered;
      await again.until(() => regions.unregistered.includes(old!));
      await warm({ ...shared, daemon: again });
      assert.notEqual(lastPlace(again)?.region, old);
    });

    it("goes without where the daemon will not register its memory, and says why", async () => {
      const before = openObjects().length;
      const shared = await start({ transport });
      const { client, daemon, regions } = shared;
      regions.refusal = new Error("no such object on this host");
      assert.equal(await answerOf(client.infer("m", large(1, 50_000))), 1);
      await until("it was refused", () => statusOf(client).problem !== null);
      assert.match(statusOf(client).problem!, /no such object/);
      assert.equal(await answerOf(client.infer("m", large(2, 50_000))), 2);
      assert.equal(lastPlace(daemon), null);
      assert.deepEqual([regions.registered.length, statusOf(client).shared, statusOf(client).bytes], [1, 0, 0]);
      assert.deepEqual([named(regions), openObjects().length], [[], before]);
    });

    it("reads outputs from where it said and from nowhere else", async () => {
      const config = () => ({
        max_batch_size: 8,
        output: [{ name: "x", data_type: "TYPE_UINT8" as const, dims: [65_536] }],
      });
      const shared = await start({ transport }, { config });
      const { client, daemon } = shared;
      await until("outputs are shared", async () => {
        await client.infer("m", large(1, 65_536));
        return daemon.arrivals.at(-1)!.request.outputs.length > 0;
      });
      daemon.behave = ({ id, outputs }) => {
        if (outputs.length === 0) return { type: "echo" };
        const { region } = placeOf(outputs[0]!.parameters)!;
        const parameters = {
          shared_memory_region: { string_param: region },
          shared_memory_byte_size: { int64_param: 65_536 },
          shared_memory_offset: { int64_param: 8 * MIB },
        };
        return {
          type: "answer",
          response: {
            id,
            outputs: [{ name: "x", datatype: "UINT8", shape: [1, 65_536], parameters }],
            raw_output_contents: [Buffer.alloc(0)],
          },
        };
      };
      const answer = answerOf(client.infer("m", large(2, 65_536), { deadlineMs: 30_000 }));
      // A stream is ended by an answer that makes no sense, and what was on it is asked once more; a call has failed.
      if (transport === "stream") assert.equal(await answer, 2);
      else await assert.rejects(answer, { code: "INTERNAL", message: /where this request has no room/ });
    });
  });
}

describe("shared memory of requests that were given up", { skip, timeout: 60_000 }, () => {
  it("is not used again before the daemon has answered them, on a stream", async () => {
    const shared = await start({ transport: "stream", sharedMemoryBytesMax: SEGMENT_BYTES });
    const { client, daemon, regions } = shared;
    await warm(shared);
    daemon.behave = () => ({ type: "hold" });
    const controller = new AbortController();
    const bytes = 12 * MIB;
    const unwanted = client.infer("m", large(1, bytes), { signal: controller.signal });
    await daemon.until(() => daemon.held === 1);
    const place = lastPlace(daemon)!;
    controller.abort();
    await assert.rejects(unwanted, { code: "CANCELLED" });
    await daemon.until(() => daemon.cancelled.length === 1);
    daemon.behave = () => ({ type: "echo" });
    assert.equal(await answerOf(client.infer("m", large(2, bytes))), 2);
    assert.equal(lastPlace(daemon), null, "there is no other room");
    assert.deepEqual(regions.read(place), Buffer.alloc(bytes, 1), "what the daemon may still read is as it was");
    daemon.release();
    await until("the room is lent again", async () => {
      assert.equal(await answerOf(client.infer("m", large(3, bytes))), 3);
      return lastPlace(daemon) !== null;
    });
    assert.deepEqual(lastPlace(daemon), place);
    assert.deepEqual(regions.unregistered, []);
  });

  it("goes with its segment on unary calls, whose end nothing tells, and does not disturb the others", async () => {
    const shared = await start({ transport: "unary" });
    const { client, daemon, regions } = shared;
    await warm(shared);
    daemon.behave = () => ({ type: "hold" });
    const controller = new AbortController();
    const unwanted = client.infer("m", large(1, 50_000), { signal: controller.signal });
    const wanted = answerOf(client.infer("m", large(2, 50_000)));
    await daemon.until(() => daemon.held === 2);
    controller.abort();
    await assert.rejects(unwanted, { code: "CANCELLED" });
    daemon.behave = () => ({ type: "echo" });
    assert.equal(await answerOf(client.infer("m", large(3, 50_000))), 3);
    assert.equal(lastPlace(daemon), null);
    assert.deepEqual(regions.unregistered, [], "one request still has room in it");
    daemon.release();
    assert.equal(await wanted, 2);
    await daemon.until(() => regions.unregistered.length === 1);
    await until("the memory is given back", () => statusOf(client).bytes === 0);
  });
});

describe("whether memory is shared", { skip, timeout: 60_000 }, () => {
  it("follows the target's name and the option", () => {
    const sharing = (options: SlacklineClientOptions): string[] => {
      const client = new SlacklineClient(options);
      client.close();
      return client.sharedMemoryStatus().map(({ target }) => target);
    };
    const local = [
      "localhost:1",
      "127.0.0.1:1",
      "127.1.2.3:1",
      "[::1]:1",
      "ipv4:127.0.0.1:1",
      "dns:localhost:1",
      "unix:/run/x.sock",
    ];
    for (const target of local) assert.deepEqual(sharing({ target }), [target]);
    const other = [
      "10.0.0.1:1",
      "gpu.internal:1",
      "localhost.example.com:1",
      "ipv4:127.0.0.1:1,127.0.0.1:2",
      "dns://8.8.8.8/localhost:1",
    ];
    for (const target of other) assert.deepEqual(sharing({ target }), []);
    assert.deepEqual(sharing({ target: "localhost:1", sharedMemory: "off" }), []);
    assert.deepEqual(sharing({ target: "localhost:1", sharedMemoryBytesMax: 0 }), []);
    assert.throws(() => new SlacklineClient({ target: "x:1", sharedMemory: "on" as "auto" }), /"auto" or "off"/);
  });

  it("is up to the daemon, which has to say that it keeps the rules", async () => {
    const daemon = await FakeDaemon.start();
    const client = new SlacklineClient({ target: daemon.target });
    cleanup.push(
      () => daemon.kill(),
      () => client.close(),
    );
    assert.equal(await answerOf(client.infer("m", large(1, 50_000))), 1);
    await until("it was asked", () => statusOf(client).problem !== null);
    assert.match(statusOf(client).problem!, /is no slackline daemon that shares memory/);
    assert.equal(await answerOf(client.infer("m", large(2, 50_000))), 2);
  });
});
