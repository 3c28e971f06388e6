import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseTextProto, type TextField, TextProtoError } from "../../daemon/repository/text-proto.ts";

/** Fields without their positions, repeated ones one after another. */
function plain(fields: readonly TextField[]): unknown[] {
  return fields.map(({ name, value }) => {
    if (value.kind === "message") return [name, plain(value.fields)];
    return [name, value.kind === "number" ? value.value : value.kind === "word" ? `<${value.text}>` : value.text];
  });
}

test("scalars, messages, lists, comments and separators", () => {
  const text = `
    # a comment
    name: "m"; max_batch_size: 8,   # behind a value
    input [ { name: 'x' dims: [ -1, 0x10, 010 ] }, { name: "y" } ]
    output < name: "z" >
    version_policy: { latest { num_versions: 2 } }
    on: true  rate: -1.5e3  half: .5f  kind: KIND_CPU
    empty: []
    joined: "a" 'b'
       "c"
  `;
  assert.deepEqual(plain(parseTextProto(text)), [
    ["name", "m"],
    ["max_batch_size", 8],
    [
      "input",
      [
        ["name", "x"],
        ["dims", -1],
        ["dims", 16],
        ["dims", 8],
      ],
    ],
    ["input", [["name", "y"]]],
    ["output", [["name", "z"]]],
    ["version_policy", [["latest", [["num_versions", 2]]]]],
    ["on", "<true>"],
    ["rate", -1500],
    ["half", 0.5],
    ["kind", "<KIND_CPU>"],
    ["joined", "abc"],
  ]);
});

test("escapes in strings", () => {
  assert.deepEqual(plain(parseTextProto(String.raw`s: "a\n\t\\\"\x41\101\u00e9\303\251'" t: '"'`)), [
    ["s", "a\n\t\\\"AAéé'"],
    ["t", '"'],
  ]);
});

test("fields know where they stand", () => {
  const [, input] = parseTextProto('name: "m"\n  input { dims: 3 }\n');
  assert.deepEqual([input?.line, input?.column], [2, 3]);
});

const BAD: readonly (readonly [text: string, message: string, line: number, column: number])[] = [
  ["a 1", "expected ':' or '{', found '1'", 1, 3],
  ["a {\n b: 1\n", "expected a field's name or '}', found the end of the file", 3, 1],
  ["a: [1 2]", "expected ',' or ']', found '2'", 1, 7],
  ["a: [1,", "expected a value, found the end of the file", 1, 7],
  ["a: -x", "expected a number, found 'x'", 1, 5],
  ['a: "open', "expected a value, found '\"'", 1, 4],
  ["}", "expected a field's name, found '}'", 1, 1],
  ["a: }", "expected a value, found '}'", 1, 4],
  [`${"a {".repeat(70)}`, "messages are nested more than 64 deep", 1, 196],
];

test("what is not in the format is told with its place", () => {
  for (const [text, message, line, column] of BAD) {
    assert.throws(
      () => parseTextProto(text),
      (error: unknown) => {
        assert.ok(error instanceof TextProtoError);
        assert.deepEqual([error.message, error.line, error.column], [message, line, column], text);
        return true;
      },
    );
  }
});

test("any text is either read or refused with a TextProtoError", () => {
  const piece = fc.constantFrom(
    "a",
    ":",
    "{",
    "}",
    "[",
    "]",
    "<",
    ">",
    '"',
    "'",
    "\\",
    "1",
    "-",
    ",",
    ";",
    "#",
    "\n",
    " ",
    ".",
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
      try {
        parseTextProto(pieces.join(""));
      } catch (error) {
        if (!(error instanceof TextProtoError)) throw error;
      }
    }),
    { numRuns: 500 },
  );
});
