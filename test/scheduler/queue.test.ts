import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ExpiryHeap } from "../../daemon/scheduler/expiry.ts";
import { Group, ModelState } from "../../daemon/scheduler/group.ts";
import { RequestQueue } from "../../daemon/scheduler/queue.ts";
import { QueuedRequest } from "../../daemon/scheduler/request.ts";
import { Tenant } from "../../daemon/scheduler/tenants.ts";

const spec = {
  model: "m",
  maxBatch: 8,
  sloUs: 1000,
  weight: 1,
  minShare: 0,
  shedImplicit: true,
  queueItemsMax: 1e6,
  queueBytesMax: 1e12,
};
const group = new Group(new ModelState(spec), "", "");
const tenant = new Tenant(1, 0);

function request(id: number, deadlineUs: number, items = 1, expiresUs: number | null = null): QueuedRequest {
  const meta = { id, model: "m", items, bytes: 0, shape: "", deadlineUs, explicit: true, expiresUs, tenant: "" };
  return new QueuedRequest(meta, group, tenant, 0);
}

const operation = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      type: fc.constant("push" as const),
      deadline: fc.nat(50),
      items: fc.integer({ min: 1, max: 4 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ type: fc.constant("remove" as const), which: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("range" as const), from: fc.nat(), count: fc.nat(20) }) },
);

test("a queue is always what sorting by deadline and arrival gives", () => {
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 200 }), (operations) => {
      const queue = new RequestQueue();
      const model: QueuedRequest[] = [];
      let id = 0;
      for (const step of operations) {
        if (step.type === "push") {
          const pushed = request(++id, step.deadline, step.items);
          queue.push(pushed);
          model.push(pushed);
          model.sort((a, b) => a.key - b.key || a.id - b.id);
        } else if (model.length > 0 && step.type === "remove") {
          const at = step.which % model.length;
          assert.equal(queue.remove(model[at]!), true);
          assert.equal(queue.remove(model[at]!), false, "only once");
          model.splice(at, 1);
        } else if (model.length > 0 && step.type === "range") {
          const from = step.from % model.length;
          const count = Math.min(step.count, model.length - from);
          queue.removeRange(from, count);
          model.splice(from, count);
        }
        const listed = Array.from({ length: queue.length }, (_, i) => queue.at(i));
        assert.deepEqual(
          listed.map((entry) => entry.id),
          model.map((entry) => entry.id),
        );
        assert.equal(
          queue.items,
          model.reduce((sum, { items }) => sum + items, 0),
        );
        assert.equal(queue.unusual, model.filter(({ items }) => items > 1).length);
        assert.equal(queue.headKey(), model[0]?.key ?? Number.POSITIVE_INFINITY);
      }
    }),
  );
});

test("the expiry heap gives what expires first, and nothing that has left the queues", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(100), fc.boolean()), { maxLength: 100 }), (entries) => {
      const heap = new ExpiryHeap();
      const waiting: number[] = [];
      entries.forEach(([expiresUs, leaves], i) => {
        const entry = request(i, 0, 1, expiresUs);
        heap.push(entry);
        if (leaves) entry.queued = false;
        else waiting.push(expiresUs);
      });
      waiting.sort((a, b) => a - b);
      for (const expiresUs of waiting) {
        assert.equal(heap.nextUs(), expiresUs);
        assert.equal(heap.takeExpired(expiresUs - 1), null);
        assert.equal(heap.takeExpired(expiresUs)?.expiresUs, expiresUs);
      }
      assert.equal(heap.nextUs(), Number.POSITIVE_INFINITY);
    }),
  );
});
