import path from "node:path";
import { PACKAGE_ROOT } from "../daemon/package-root.ts";
import { DIGITS } from "./digits/model.ts";
import type { SampleModel } from "./sample-model.ts";
import { ENCODER } from "./seeded/encoder.ts";
import { RANKER } from "./seeded/ranker.ts";
import { RESNET18 } from "./seeded/resnet18.ts";

export const SAMPLE_MODELS: readonly SampleModel[] = [DIGITS, RANKER, ENCODER, RESNET18];

/** The model repository that the samples are served from. */
export const SAMPLE_REPOSITORY: string = path.join(PACKAGE_ROOT, "models/repository");
