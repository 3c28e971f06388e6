import { readFileSync } from "node:fs";
import path from "node:path";
import { gunzipSync } from "node:zlib";
import { PACKAGE_ROOT } from "../../daemon/package-root.ts";
import { Random } from "../random.ts";

/** Width and height of an image. */
export const IMAGE_SIDE = 8;
export const IMAGE_PIXELS: number = IMAGE_SIDE * IMAGE_SIDE;
const TEST_COUNT = 360;
const SPLIT_SEED = 1998;

export interface LabelledImage {
  /** [8, 8] float32, row by row, 0 (paper) to 16 (ink). */
  readonly image: Float32Array<ArrayBuffer>;
  /** The digit shown, 0 to 9. */
  readonly label: number;
}

export interface DigitsDataset {
  /** 1,437 images that training and the choice of its settings may see. */
  readonly train: readonly LabelledImage[];
  /** 360 images that only measure the finished model. */
  readonly test: readonly LabelledImage[];
}

/** Reads the handwritten digits, in a split that is always the same. */
export function loadDigits(): DigitsDataset {
  const text = gunzipSync(readFileSync(path.join(PACKAGE_ROOT, "models/data/digits.csv.gz"))).toString("latin1");
  const images = text
    .trim()
    .split("\n")
    .map((line): LabelledImage => {
      const values = line.split(",").map(Number);
      return { image: Float32Array.from(values.slice(0, IMAGE_PIXELS)), label: values[IMAGE_PIXELS]! };
    });
  const shuffled = new Random(SPLIT_SEED).shuffle(images);
  return { train: shuffled.slice(TEST_COUNT), test: shuffled.slice(0, TEST_COUNT) };
}
