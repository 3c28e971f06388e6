import type { SampleModel } from "../sample-model.ts";

export const DIGITS: SampleModel = {
  name: "digits",
  task: "recognises handwritten digits (convolutional net)",
  license: "Apache-2.0; trained on data under CC BY 4.0, see models/data/README.md",
  provenance:
    "trained by models/digits/train.ts on 1,437 images of the UCI handwritten digits; the 360 test images were held out",
  weights: "trained",
  testAccuracy: 359 / 360,
  notes: "Pixels are 0 (paper) to 16 (ink); the model scales them itself. digit is the most probable class.",
  build: null,
  externalWeights: false,
};
