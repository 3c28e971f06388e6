/** What each setting of a model's `config.yaml` means: the README's reference is made from it. */
import type { WrittenModelConfig } from "./written-config.ts";

interface Described {
  readonly value: string;
  readonly byDefault: string;
  readonly what: string;
}

export const MODEL_CONFIG_REFERENCE: { readonly [K in keyof WrittenModelConfig]-?: Described } = {
  max_batch_size: {
    value: "1 to 65536",
    byDefault: "the last bucket, else the daemon's `max_batch_size_default`; 1 without a batch dimension",
    what: "largest batch in items",
  },
  batched: {
    value: "true, false",
    byDefault:
      "true when the first dimension of every input and output varies under one name, and items of a batch are answered as alone in trial runs",
    what: "asserts or denies that the first dimension is the batch's",
  },
  shapes: {
    value: "item shapes by tensor name",
    byDefault: "the ONNX file's",
    what: "closes dimensions that the ONNX file leaves open; -1 where one varies",
  },
  slo_ms: {
    value: "above 0",
    byDefault: "the daemon's `slo_ms_default`, else max(100, 4 × l(1))",
    what: "time from arrival to answer for requests that state no deadline",
  },
  device: {
    value: "gpu, cpu, auto",
    byDefault: "auto",
    what: "where it executes: device lanes, CPU replicas, or lanes with spill-over to replicas",
  },
  buckets: {
    value: "ascending batch sizes",
    byDefault: "chosen by measuring",
    what: "batch sizes that are warmed and profiled; batches are padded to them",
  },
  replicas: { value: "auto, 0 to 256", byDefault: "auto", what: "copies in the CPU pool" },
  threads: {
    value: "1 to 1024",
    byDefault: "the placement's share of the cores",
    what: "threads of each session",
  },
  queue_items_max: {
    value: "at least 1",
    byDefault: "the daemon's",
    what: "items that may wait; best-effort work gives its place in a full queue to work with a deadline, the last to come first",
  },
  queue_bytes_max: { value: "at least 1", byDefault: "the daemon's", what: "bytes that may wait" },
  weight: { value: "above 0", byDefault: "1", what: "importance where not all deadlines can be met" },
  min_share: { value: "0 to 1", byDefault: "0", what: "share of device time its queued work gets even in overload" },
  shed: {
    value: "true, false",
    byDefault: "false",
    what: "whether requests without a deadline of their own are shed when they would miss the SLO, instead of answered late",
  },
  best_effort: {
    value: "true, false",
    byDefault: "false",
    what: "whether requests that say nothing are best-effort work",
  },
  fallback: {
    value: "MODEL or MODEL/VERSION",
    byDefault: "none",
    what: "a cheaper model with the same inputs that answers requests with deadlines which this one can't answer in time",
  },
  cache: {
    value: "true, false",
    byDefault: "false",
    what: "whether a request equal to an earlier one is given the same answer again, from memory; not for models whose answers depend on more than their inputs",
  },
  versions: {
    value: "all, {latest: N}, [1, 3]",
    byDefault: "those of `traffic`, else {latest: 1}",
    what: "which versions are served; latest counts those that can be",
  },
  traffic: {
    value: "shares by version: {2: 0.9, 3: 0.1}",
    byDefault: "all to the highest version",
    what: "how requests that name no version are shared out; what changes here changes at once, and a version that can't serve leaves its share to the others",
  },
  warm_shapes: {
    value: "a list of item shapes by input name",
    byDefault: "one that works, found by trying",
    what: "shapes to warm and profile where dimensions other than the batch's vary",
  },
  warm_values: {
    value: "values by input name: {sample_rate: 16000}",
    byDefault: "fractions from 0 to 1, ones for whole numbers, the text 0 for strings",
    what: "what trial runs fill an input with, where it can't be just anything",
  },
  sequence: {
    value: "{mask: auto, none or an input; lengths: ascending, or length_max; pad: values by input name}",
    byDefault:
      "absent: only requests of equal shape share a batch. Within it: mask auto (found by its name), lengths chosen by measuring up to length_max 256, pad 0",
    what: "pads requests to common lengths, so that different lengths share a batch; tried out at load, and not done where an answer would differ",
  },
};
