/** Requests that must be refused, each with its status and sentence word for word. */
import type { ModelInferRequest } from "../../proto/generated/inference/ModelInferRequest.ts";
import { floats, vectorRequest } from "./harness.ts";

export interface BadRequest {
  readonly what: string;
  readonly request: ModelInferRequest;
  readonly code: string;
  readonly message: string;
}

function bad(what: string, request: ModelInferRequest, message: string, code = "INVALID_ARGUMENT"): BadRequest {
  return { what, request, code, message };
}

function x(shape: readonly (number | string)[], datatype = "FP32"): NonNullable<ModelInferRequest["inputs"]> {
  return [{ name: "x", datatype, shape: [...shape] }];
}

const a = { name: "a", datatype: "FP32", shape: [1, 2] };
const b = { name: "b", datatype: "INT64", shape: [1, 1] };
const aBytes = floats(1, 2);
const bBytes = Buffer.alloc(8);

function words(...parts: (string | number | Buffer)[]): ModelInferRequest {
  const bytes = parts.map((part) => {
    if (typeof part !== "number") return Buffer.from(part as string);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(part);
    return length;
  });
  return {
    model_name: "words",
    inputs: [{ name: "text", datatype: "BYTES", shape: [1, 2] }],
    raw_input_contents: [Buffer.concat(bytes)],
  };
}

function typed(model: string, datatype: string, contents: object): ModelInferRequest {
  return { model_name: model, inputs: [{ name: "x", datatype, shape: [1, 2], contents }] };
}

function parameter(name: string, value: object): ModelInferRequest {
  return vectorRequest({ parameters: { [name]: value } });
}

export const BAD_REQUESTS: readonly BadRequest[] = [
  bad("an empty request", {}, "Request for unknown model: '' is not found", "NOT_FOUND"),
  bad("an unknown model", { model_name: "nope" }, "Request for unknown model: 'nope' is not found", "NOT_FOUND"),
  bad(
    "an unknown version",
    vectorRequest({ model_version: "3" }),
    "Request for unknown model: 'vector' version 3 is not found",
    "NOT_FOUND",
  ),
  bad("a model that isn't ready", { model_name: "loading" }, "model 'loading' is not ready: warming up", "UNAVAILABLE"),
  bad("a broken model", { model_name: "broken" }, "model 'broken' is not ready: its file can't be read", "UNAVAILABLE"),
  bad("no inputs", { model_name: "pair" }, "expected 2 inputs but got 0 inputs for model 'pair'. Missing: a, b"),
  bad(
    "a missing input",
    { model_name: "pair", inputs: [a], raw_input_contents: [aBytes] },
    "expected 2 inputs but got 1 inputs for model 'pair'. Missing: b",
  ),
  bad(
    "an unexpected input",
    vectorRequest({ inputs: [{ name: "y", datatype: "FP32", shape: [1, 4] }] }),
    "unexpected inference input 'y' for model 'vector'; its inputs are x",
  ),
  bad(
    "a duplicate input",
    { model_name: "pair", inputs: [a, a], raw_input_contents: [aBytes, aBytes] },
    "inference input 'a' is given more than once for model 'pair'",
  ),
  bad(
    "an unexpected output",
    vectorRequest({ outputs: [{ name: "out_y" }] }),
    "unexpected inference output 'out_y' for model 'vector'; its outputs are out_x",
  ),
  bad(
    "a wrong datatype",
    vectorRequest({ inputs: x([1, 4], "FP64") }),
    "inference input 'x' data-type is 'FP64', but model 'vector' expects 'FP32'",
  ),
  bad(
    "a datatype that doesn't exist",
    vectorRequest({ inputs: x([1, 4], "FLOAT") }),
    "inference input 'x' data-type is 'FLOAT', but model 'vector' expects 'FP32'",
  ),
  bad(
    "wrong dimensions",
    {
      model_name: "image",
      inputs: [{ name: "image", datatype: "FP32", shape: [1, 3, 10, 10] }],
      raw_input_contents: [Buffer.alloc(1200)],
    },
    "unexpected shape for input 'image' for model 'image'. Expected [-1,3,224,224], got [1,3,10,10]",
  ),
  bad(
    "a missing dimension",
    vectorRequest({ inputs: x([4]) }),
    "unexpected shape for input 'x' for model 'vector'. Expected [-1,4], got [4]",
  ),
  bad(
    "no shape",
    vectorRequest({ inputs: x([]) }),
    "unexpected shape for input 'x' for model 'vector'. Expected [-1,4], got []",
  ),
  bad(
    "a negative batch dimension",
    vectorRequest({ inputs: x([-1, 4]) }),
    "unexpected shape for input 'x' for model 'vector'. Expected [-1,4], got [-1,4]: the batch must be at least 1",
  ),
  bad(
    "a batch of nothing",
    vectorRequest({ inputs: x([0, 4]) }),
    "unexpected shape for input 'x' for model 'vector'. Expected [-1,4], got [0,4]: the batch must be at least 1",
  ),
  bad(
    "a negative dimension",
    vectorRequest({ inputs: x([1, -4]) }),
    "unexpected shape for input 'x' for model 'vector'. Expected [-1,4], got [1,-4]",
  ),
  bad(
    "a zero dimension where it varies",
    { model_name: "flat", inputs: x([2, 0]), raw_input_contents: [Buffer.alloc(0)] },
    "unexpected shape for input 'x' for model 'flat'. Expected [2,-1], got [2,0]: dimension 1 must be at least 1",
  ),
  bad(
    "a dimension at the limit of 64 bits",
    { model_name: "flat", inputs: x([2, "9223372036854775807"]), raw_input_contents: [Buffer.alloc(8)] },
    "input byte size mismatch for input 'x' for model 'flat'. Expected 73786976294838206456, got 8",
  ),
  bad(
    "dimensions whose product overflows 64 bits",
    {
      model_name: "tokens",
      inputs: [
        { name: "ids", datatype: "INT64", shape: [4, "4611686018427387904"] },
        { name: "mask", datatype: "INT64", shape: [4, "4611686018427387904"] },
      ],
      raw_input_contents: [Buffer.alloc(8), Buffer.alloc(8)],
    },
    "input byte size mismatch for input 'ids' for model 'tokens'. Expected 147573952589676412928, got 8",
  ),
  bad(
    "a huge dimension without contents",
    { model_name: "flat", inputs: x([2, 1_000_000_000]) },
    "input byte size mismatch for input 'x' for model 'flat'. Expected 8000000000, got 0",
  ),
  bad(
    "a batch larger than the model takes",
    vectorRequest({ inputs: x([9, 4]), raw_input_contents: [Buffer.alloc(144)] }),
    "inference request batch-size must be <= 8 for 'vector'",
  ),
  bad(
    "a huge batch",
    vectorRequest({ inputs: x(["9007199254740993", 4]) }),
    "inference request batch-size must be <= 8 for 'vector'",
  ),
  bad(
    "inputs of unequal batch size",
    {
      model_name: "pair",
      inputs: [
        { ...a, shape: [2, 2] },
        { ...b, shape: [3, 1] },
      ],
      raw_input_contents: [Buffer.alloc(16), Buffer.alloc(24)],
    },
    "input 'b' has batch size 3, but input 'a' has 2 for model 'pair': all inputs of a request have one batch size",
  ),
  bad(
    "inputs that differ in a dimension which has one name in both",
    {
      model_name: "tokens",
      inputs: [
        { name: "ids", datatype: "INT64", shape: [1, 4] },
        { name: "mask", datatype: "INT64", shape: [1, 3] },
      ],
      raw_input_contents: [Buffer.alloc(32), Buffer.alloc(24)],
    },
    "inputs of model 'tokens' must agree in dimension 'length', but 'ids' is [1,4], 'mask' is [1,3]",
  ),
  bad(
    "too few bytes",
    vectorRequest({ raw_input_contents: [Buffer.alloc(15)] }),
    "input byte size mismatch for input 'x' for model 'vector'. Expected 16, got 15",
  ),
  bad(
    "too many bytes",
    vectorRequest({ raw_input_contents: [Buffer.alloc(17)] }),
    "input byte size mismatch for input 'x' for model 'vector'. Expected 16, got 17",
  ),
  bad(
    "no contents",
    vectorRequest({ raw_input_contents: [] }),
    "input byte size mismatch for input 'x' for model 'vector'. Expected 16, got 0",
  ),
  bad(
    "too few typed elements",
    vectorRequest({
      inputs: [{ name: "x", datatype: "FP32", shape: [1, 4], contents: { fp32_contents: [1, 2, 3] } }],
      raw_input_contents: [],
    }),
    "input byte size mismatch for input 'x' for model 'vector'. Expected 16, got 12",
  ),
  bad(
    "raw and typed contents",
    vectorRequest({
      inputs: [{ name: "x", datatype: "FP32", shape: [1, 4], contents: { fp32_contents: [1, 2, 3, 4] } }],
    }),
    "contents field must not be specified when using raw_input_contents for 'x' for model 'vector'",
  ),
  bad(
    "fewer raw entries than inputs",
    { model_name: "pair", inputs: [a, b], raw_input_contents: [aBytes] },
    "expected 2 entries in raw_input_contents but got 1 for model 'pair': one for each input that is not in shared memory, in order",
  ),
  bad(
    "more raw entries than inputs",
    { model_name: "pair", inputs: [a, b], raw_input_contents: [aBytes, bBytes, bBytes] },
    "expected 2 entries in raw_input_contents but got 3 for model 'pair': one for each input that is not in shared memory, in order",
  ),
  bad(
    "typed contents in another type's field",
    typed("t_FP32", "FP32", { int_contents: [1, 2] }),
    "input 'x' for model 't_FP32' has data-type 'FP32' and is sent in fp32_contents, but got int_contents",
  ),
  bad(
    "typed FP16",
    typed("t_FP16", "FP16", { fp32_contents: [1, 2] }),
    "input 'x' for model 't_FP16' has data-type 'FP16', which must be sent in raw_input_contents",
  ),
  bad(
    "a typed value beyond its type",
    typed("t_INT8", "INT8", { int_contents: [1, 128] }),
    "value 128 of input 'x' for model 't_INT8' does not fit data-type 'INT8'",
  ),
  bad(
    "a bool that is neither 0 nor 1",
    {
      model_name: "t_BOOL",
      inputs: [{ name: "x", datatype: "BOOL", shape: [1, 2] }],
      raw_input_contents: [Buffer.from([1, 2])],
    },
    "byte 2 of input 'x' for model 't_BOOL' is no BOOL: elements are 0 or 1",
  ),
  bad("too few strings", words(2, "ab"), "expected 2 string elements for input 'text' for model 'words', got 1"),
  bad(
    "too many strings",
    words(1, "a", 1, "b", 1, "c"),
    "expected 2 string elements for input 'text' for model 'words', got 3",
  ),
  bad(
    "a string that is no text",
    words(1, "a", 2, Buffer.of(0xff, 0xfe)),
    "string element 1 of input 'text' for model 'words' is not UTF-8, which strings of ONNX can't hold: send bytes as UINT8, or encode them",
  ),
  bad(
    "a string with a NUL",
    {
      model_name: "words",
      inputs: [
        {
          name: "text",
          datatype: "BYTES",
          shape: [1, 2],
          contents: { bytes_contents: [Buffer.from("a\0b"), Buffer.from("c")] },
        },
      ],
    },
    "string element 0 of input 'text' for model 'words' holds a NUL, which strings of ONNX can't hold: send bytes as UINT8, or encode them",
  ),
  bad(
    "a string longer than its tensor",
    words(1, "a", 400, "bc"),
    "string element 1 of input 'text' for model 'words' has a length of 400 bytes, but 2 bytes are left",
  ),
  bad(
    "half a string length",
    words(1, "a", "bc"),
    "string element 1 of input 'text' for model 'words' needs a length of 4 bytes, but 2 bytes are left",
  ),
  bad(
    "a sequence",
    parameter("sequence_id", { uint64_param: 7 }),
    "sequence_id: sequences are not offered, every request stands alone; keep state in the caller, or pass it as inputs and outputs",
  ),
  bad(
    "classification",
    vectorRequest({ outputs: [{ name: "out_x", parameters: { classification: { int64_param: 3 } } }] }),
    "classification of output 'out_x' is not offered; ask for the output itself and pick the largest values in the caller",
  ),
  bad(
    "a deadline of nothing",
    parameter("deadline_ms", { int64_param: 0 }),
    "request parameter 'deadline_ms' must be a number of milliseconds greater than 0, got 0",
  ),
  bad(
    "a deadline that is no number",
    parameter("deadline_ms", { string_param: "soon" }),
    "request parameter 'deadline_ms' must be a number of milliseconds greater than 0, got 'soon'",
  ),
  bad(
    "a negative timeout",
    parameter("timeout", { int64_param: -1 }),
    "request parameter 'timeout' must be an integer number of microseconds (int64 or uint64), not negative, got -1",
  ),
  bad(
    "a best-effort flag that is none",
    parameter("best_effort", { int64_param: 1 }),
    "request parameter 'best_effort' must be true or false, got 1",
  ),
  bad(
    "a parameter that is nearly one of ours",
    parameter("slackline_timing", { bool_param: true }),
    "there is no request parameter 'slackline_timing'; slackline's own are slackline_timings, slackline_all_outputs, slackline_traffic_key, slackline_cancel",
  ),
  bad(
    "a traffic key that is empty",
    parameter("slackline_traffic_key", { string_param: "" }),
    "request parameter 'slackline_traffic_key' must be a string of 1 to 256 characters, got ''",
  ),
  bad(
    "an unknown shared memory region",
    vectorRequest({
      inputs: [
        {
          name: "x",
          datatype: "FP32",
          shape: [1, 4],
          parameters: { shared_memory_region: { string_param: "r" }, shared_memory_byte_size: { int64_param: 16 } },
        },
      ],
      raw_input_contents: [],
    }),
    "shared memory region 'r' is not registered",
    "NOT_FOUND",
  ),
];
