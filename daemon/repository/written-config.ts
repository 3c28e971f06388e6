import { z } from "zod";
import { boolean, integer, number, oneOf, positive, text } from "../config/allowed.ts";
import type { DevicePlacement } from "./model.ts";

/** Which versions of a model are served: all, the n highest that can be, or just these. */
export type VersionPolicy = "all" | { readonly latest: number } | readonly number[];

/** A model's settings as written in its `config.yaml`, before defaults. */
export interface WrittenModelConfig {
  /** Largest batch in items. */
  readonly max_batch_size?: number;
  /** Asserts (or denies) that the first dimension of every input and output is the batch's. */
  readonly batched?: boolean;
  /** Shapes of single items by tensor name, −1 where a dimension varies: for dimensions that the ONNX file leaves open. */
  readonly shapes?: Readonly<Record<string, readonly number[]>>;
  readonly slo_ms?: number;
  readonly device?: DevicePlacement;
  readonly buckets?: readonly number[];
  readonly replicas?: number | "auto";
  readonly threads?: number;
  readonly queue_items_max?: number;
  readonly queue_bytes_max?: number;
  readonly weight?: number;
  readonly min_share?: number;
  readonly shed?: boolean;
  readonly best_effort?: boolean;
  /** `MODEL` or `MODEL/VERSION`. */
  readonly fallback?: string;
  /** Whether the answer to an equal, earlier request is given again. */
  readonly cache?: boolean;
  readonly versions?: VersionPolicy;
  /** By version: its share of the requests that name no version. */
  readonly traffic?: Readonly<Record<string, number>>;
  /** Item shapes to warm and profile, by input name; inputs whose items have one shape may be left out. */
  readonly warm_shapes?: readonly Readonly<Record<string, readonly number[]>>[];
  /** What trial runs fill an input with, by input name. */
  readonly warm_values?: Readonly<Record<string, number | string>>;
  readonly sequence?: WrittenSequence;
}

/** How requests of different sequence lengths may share a batch. */
export interface WrittenSequence {
  /** The input that is 1 for tokens and 0 for padding; `auto`: found by its name; `none`: the model needs none. */
  readonly mask?: string;
  /** What requests are padded to. */
  readonly lengths?: readonly number[];
  /** The largest of the lengths that are chosen by measuring. */
  readonly length_max?: number;
  /** What the padding of an input holds, by name. */
  readonly pad?: Readonly<Record<string, number>>;
}

export const BATCH_SIZE_MAX = 65_536;

const SEQUENCE_LENGTH_MAX = 1_048_576;
const SEQUENCE_LENGTHS_MAX = 32;

const versionsError = "all, {latest: N} or a list of version numbers";
const fallbackError = "the name of a model, or MODEL/VERSION";
const trafficError = "shares by version, such as {2: 0.9, 3: 0.1}";
const dims = z.array(integer(1), { error: "a list of dimensions" });
const openDims = z.array(
  z.union([z.literal(-1), integer(1)], { error: "a size of at least 1, or -1 where it varies" }),
  {
    error: "a list of dimensions",
  },
);

/** A list of integers from 1, each larger than the one before. */
function ascending(max: number, what: string): z.ZodArray<z.ZodType<number>> {
  return z
    .array(integer(1, max), { error: `a list of ${what}s` })
    .min(1, { error: `at least one ${what}` })
    .superRefine((values, context) => {
      const unordered = values.findIndex((value, index) => index > 0 && value <= values[index - 1]!);
      if (unordered > 0) {
        context.addIssue({ code: "custom", message: `${what}s must ascend, each once`, path: [unordered] });
      }
    });
}

export const MODEL_CONFIG_SCHEMA: z.ZodType<WrittenModelConfig> = z.strictObject({
  max_batch_size: integer(1, BATCH_SIZE_MAX).optional(),
  batched: boolean().optional(),
  shapes: z.record(z.string(), openDims, { error: "item shapes by tensor name" }).optional(),
  slo_ms: positive(86_400_000).optional(),
  device: oneOf(["gpu", "cpu", "auto"]).optional(),
  buckets: ascending(BATCH_SIZE_MAX, "batch size").optional(),
  replicas: z.union([z.literal("auto"), integer(0, 256)], { error: "auto, or an integer from 0 to 256" }).optional(),
  threads: integer(1, 1024).optional(),
  queue_items_max: integer(1).optional(),
  queue_bytes_max: integer(1).optional(),
  weight: positive(1_000_000).optional(),
  min_share: number(0, 1).optional(),
  shed: boolean().optional(),
  best_effort: boolean().optional(),
  fallback: z
    .string({ error: fallbackError })
    .regex(/^[^/]+(\/[1-9]\d{0,15})?$/, { error: fallbackError })
    .optional(),
  cache: boolean().optional(),
  versions: z
    .union(
      [
        z.literal("all"),
        z.strictObject({ latest: integer(1, 1_000_000) }),
        z.array(integer(1), { error: versionsError }).min(1),
      ],
      { error: versionsError },
    )
    .optional(),
  traffic: z
    .record(z.string().regex(/^[1-9]\d{0,15}$/, { error: "a version is a number from 1" }), number(0, 1_000_000), {
      error: trafficError,
    })
    .refine((shares) => Object.values(shares).some((share) => share > 0), { error: "needs at least one share above 0" })
    .optional(),
  warm_shapes: z
    .array(z.record(z.string(), dims, { error: "item shapes by input name" }), {
      error: "a list of item shapes by input name",
    })
    .max(64, { error: "at most 64 shapes" })
    .optional(),
  warm_values: z
    .record(
      z.string(),
      z.union([number(-Number.MAX_VALUE), z.string()], { error: "a number, or a text for an input of strings" }),
      {
        error: "values by input name",
      },
    )
    .optional(),
  sequence: z
    .strictObject(
      {
        mask: text("auto, none or the name of an input").optional(),
        lengths: ascending(SEQUENCE_LENGTH_MAX, "length")
          .max(SEQUENCE_LENGTHS_MAX, { error: `at most ${SEQUENCE_LENGTHS_MAX} lengths` })
          .optional(),
        length_max: integer(1, SEQUENCE_LENGTH_MAX).optional(),
        pad: z.record(z.string(), number(-Number.MAX_VALUE), { error: "values by input name" }).optional(),
      },
      { error: "{ mask, lengths or length_max, pad }" },
    )
    .optional(),
}) as z.ZodType<WrittenModelConfig>;
