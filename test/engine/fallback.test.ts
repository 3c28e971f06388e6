import assert from "node:assert/strict";
import { test } from "node:test";
import { Fallbacks, type ReplaceableCall } from "../../daemon/engine/fallback.ts";
import type { AcceptedRequest, Inference, InferenceRequest, Outcome } from "../../daemon/engine/ports.ts";

const DEADLINE_IN_US = 100_000;
const LATE: Outcome = { type: "shed", cause: "late", detail: {} };

test("what is kept of a model's time for a fallback that came too late fades when that is over", () => {
  let nowUs = 0;
  const plannedInUs: number[] = [];
  const inference: Inference = {
    nowUs: () => nowUs,
    cancel: () => {},
    submit(request: InferenceRequest, reply) {
      if (request.fallback === "ahead") plannedInUs.push(request.planByUs! - nowUs);
      reply(LATE, request as unknown as AcceptedRequest);
      return plannedInUs.length;
    },
  };
  const fallbacks = new Fallbacks(inference);
  const ask = (): number => {
    const request = { model: "heavy/1" } as InferenceRequest;
    const call: ReplaceableCall = {
      model: "heavy/1",
      deadlineUs: nowUs + DEADLINE_IN_US,
      explicit: true,
      shedImplicit: false,
      standIn(_refused, submit) {
        submit({ ...request, model: "light/1" });
        return true;
      },
      again: () => false,
      underWay: () => {},
      fellBack: () => {},
      reply: () => {},
      refused: () => {},
    };
    fallbacks.ask(request, call);
    return plannedInUs.at(-1)!;
  };
  assert.equal(ask(), DEADLINE_IN_US);
  for (let i = 0; i < 50; i++) ask();
  assert.equal(ask(), 0.7 * DEADLINE_IN_US);
  nowUs += 60_000_000;
  assert.equal(ask(), 0.85 * DEADLINE_IN_US);
  nowUs += 3_600_000_000;
  assert.equal(ask(), DEADLINE_IN_US);
});
