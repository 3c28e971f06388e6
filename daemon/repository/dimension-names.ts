/** What ONNX files call the dimensions that vary. */

/** What exporters write for a size of which they know nothing. */
const NO_NAME = /^(?:none|unknown|\?|-1)$/i;

/**
 * Names that they make up, another one in each place: those of tf2onnx, of Paddle2ONNX, and of PyTorch for axes that were given no name
 * and for what it infers.
 */
const MADE_UP_NAME = /^unk__\d+$|^(?:p2o\.)?DynamicDimension\.\d+$|_dynamic_axes_\d+$|_dim_\d+$/;

/** A dimension's name where it says something; else null. */
export function dimensionName(dim: number | string | null | undefined): string | null {
  return typeof dim === "string" && !NO_NAME.test(dim) && !MADE_UP_NAME.test(dim) ? dim : null;
}
