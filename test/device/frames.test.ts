import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { decodeStrings, encodeHeader, encodeStrings, FrameReader } from "../../daemon/device/frames.ts";

describe("frames", () => {
  it("come out whole and in order however the stream is cut", () => {
    const frame = fc.record({ message: fc.jsonValue(), payload: fc.uint8Array({ maxLength: 50 }) });
    const cuts = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 });
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 8 }), cuts, (frames, sizes) => {
        const stream = Buffer.concat(
          frames.flatMap(({ message, payload }) => [encodeHeader(message, payload.byteLength), payload]),
        );
        const received: { message: unknown; payload: number[] }[] = [];
        const reader = new FrameReader<unknown>(({ message, payload }) => {
          received.push({ message, payload: [...payload] });
        });
        let position = 0;
        for (let i = 0; position < stream.length; i++) {
          const end = position + sizes[i % sizes.length]!;
          reader.push(stream.subarray(position, end));
          position = end;
        }
        const sent = frames.map(({ message, payload }) => ({
          message: JSON.parse(JSON.stringify(message)),
          payload: [...payload],
        }));
        assert.deepEqual(received, sent);
      }),
    );
  });

  it("carry strings of any bytes", () => {
    const elements = [Buffer.from(""), Buffer.from([0, 255, 10]), Buffer.from("grüß")];
    const bytes = Buffer.concat([Buffer.from("xx"), encodeStrings(elements)]);
    const decoded = decodeStrings(bytes, 2, 3);
    assert.equal(decoded.end, bytes.length);
    assert.deepEqual(
      decoded.elements.map((element) => [...element]),
      elements.map((element) => [...element]),
    );
  });
});
