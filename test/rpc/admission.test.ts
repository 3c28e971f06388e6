import assert from "node:assert/strict";
import { after, before, beforeEach, describe, it } from "node:test";
import { type ServerInterceptingCall, status } from "@grpc/grpc-js";
import { admission } from "../../daemon/rpc/admission.ts";
import { Arrivals } from "../../daemon/rpc/arrivals.ts";
import { answered, failed, type Harness, infer, startServer, vectorRequest } from "./harness.ts";
import { nextTurn } from "./turns.ts";

const PATH = "/service/Infer";

type Intercepted = Parameters<ReturnType<typeof admission>>[1];

/** What becomes of calls that come while the clock says what it is told to say. */
function door() {
  const clock = { us: 1_000_000, idleUs: 0 };
  const arrivals = new Arrivals(
    () => clock.us,
    () => clock.idleUs,
  );
  const state = { draining: false };
  const refusals: string[] = [];
  const observer = { refused: (...what: unknown[]) => refusals.push(what.join(" ")), fellBack() {} };
  const intercept = admission(PATH, {
    arrivals,
    errors: "native",
    observer,
    nowUs: () => clock.us,
    draining: () => state.draining,
  });
  /** "refused", or by how many milliseconds its deadline was moved. */
  const call = (withinMs: number, path = PATH, connection = "a"): string | number => {
    const deadline = Date.now() + withinMs;
    let code: number | null = null;
    const inner = {
      getDeadline: () => deadline,
      getPeer: () => connection,
      start() {},
      sendStatus: (sent: { code: number }) => (code = sent.code),
    };
    const outer = intercept({ path } as never, inner as unknown as Intercepted) as ServerInterceptingCall;
    outer.start({} as never);
    if (code !== null) assert.equal(code, status.RESOURCE_EXHAUSTED);
    return code === null ? deadline - Number(outer.getDeadline()) : "refused";
  };
  return { clock, state, call, refusals };
}

describe("admission", () => {
  it("takes what comes while the daemon keeps up", async () => {
    const { clock, call, refusals } = door();
    for (let turns = 0; turns < 20; turns++) {
      assert.equal(call(1), 0);
      clock.us += 900;
      assert.equal(call(1_000), 0);
      await nextTurn();
    }
    assert.deepEqual(refusals, []);
  });

  it("counts a deadline from when the turn that reads it began, and refuses what has lost too much of its time", () => {
    const { clock, call, refusals } = door();
    assert.equal(call(1_000), 0);
    clock.us += 300_000;
    assert.equal(call(1_000), 300);
    assert.equal(call(Number.POSITIVE_INFINITY), Number.NaN, "there is none to count");
    assert.equal(call(300), "refused");
    assert.equal(call(300, "/service/Another"), 0);
    clock.us += 500_000;
    assert.equal(call(1_000), "refused");
    assert.equal(call(2_000, PATH, "b"), 0, "of another connection, that was not read before");
    assert.deepEqual(refusals, Array(2).fill(" RESOURCE_EXHAUSTED overloaded"));
  });

  it("leaves what comes to a daemon that ends to the answer that it has for all", () => {
    const { clock, state, call } = door();
    assert.equal(call(1_000), 0);
    clock.us += 2_000_000;
    assert.equal(call(1_000), "refused");
    state.draining = true;
    assert.equal(call(1_000), 0);
  });

  it("goes by the earliest time at which it can have come", async () => {
    const { clock, call } = door();
    assert.equal(call(1_000), 0);
    clock.us += 200_000;
    await nextTurn();
    assert.equal(call(200), "refused", "it may have waited since the turn before began");
    assert.equal(call(1_000), 0, "but need not have");
    clock.us += 10_000;
    assert.equal(call(1_000), 10);
  });

  it("takes a stall for no more than that, however little time requests have", async () => {
    const { clock, call } = door();
    for (let turns = 0; turns < 6; turns++) {
      assert.notEqual(call(40), "refused", `after ${turns} turns`);
      clock.us += 20_000;
      await nextTurn();
    }
    assert.equal(call(40), "refused");
  });

  it("lets none wait long when waiting does not end, until the daemon has caught up", async () => {
    const { clock, call } = door();
    for (let turns = 0; turns < 10; turns++) {
      assert.notEqual(call(1_000), "refused", `after ${turns} turns`);
      clock.us += 80_000;
      await nextTurn();
    }
    clock.us += 180_000;
    assert.equal(call(1_000), "refused", "a quarter of its time is too long after 0.8 s");
    assert.notEqual(call(2_000), "refused", "and not for who has more time than that");
    await nextTurn();
    assert.equal(call(1_000), 0, "it reads at once again");
    clock.us += 251_000;
    assert.equal(call(1_000), "refused", "yet has not caught up");
    await nextTurn();
    await nextTurn();
    clock.us += 90_000;
    clock.idleUs += 90_000;
    assert.equal(call(1_000), 0);
    clock.us += 251_000;
    assert.equal(call(1_000), 251);
  });
});

describe("a server that is too busy to read", () => {
  let harness: Harness;
  before(async () => {
    harness = await startServer();
  });
  after(() => harness.stop());
  beforeEach(() => {
    harness.inference.lookUs = 0;
  });

  it("says so, and goes on when it has time", async () => {
    answered(await infer(harness.client, vectorRequest(), 60_000));
    harness.inference.lookUs = 50_000_000;
    const refusal = failed(await infer(harness.client, vectorRequest(), 60_000));
    assert.equal(refusal.code, "RESOURCE_EXHAUSTED");
    assert.match(refusal.message, /receives more requests than it can read/);
    assert.deepEqual(refusal.trailers.get("slackline_cause"), ["overloaded"]);
    assert.deepEqual(harness.refusals, ["- RESOURCE_EXHAUSTED overloaded"]);
    answered(await infer(harness.client, vectorRequest()));
    harness.inference.lookUs = 0;
    answered(await infer(harness.client, vectorRequest(), 60_000));
  });

  it("reads past what it refuses, so that the connection goes on", async () => {
    harness.inference.lookUs = 50_000_000;
    const large = vectorRequest({ raw_input_contents: [Buffer.alloc(3_000_000)] });
    for (let calls = 0; calls < 3; calls++) {
      const { trailers } = failed(await infer(harness.client, large, 60_000));
      assert.deepEqual(trailers.get("slackline_cause"), ["overloaded"]);
    }
    harness.inference.lookUs = 0;
    answered(await infer(harness.client, vectorRequest(), 60_000));
  });

  it("plans with a deadline that began when the request can have come at the latest", async () => {
    harness.inference.lookUs = 2_000_000;
    answered(await infer(harness.client, vectorRequest({ parameters: { deadline_ms: { int64_param: 30_000 } } })));
    const { deadlineUs, arrivedUs } = harness.inference.last();
    assert.ok(deadlineUs! - arrivedUs < 28_000_001, "looking at the clock took 2 s at least");
  });
});
