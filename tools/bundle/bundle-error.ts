import { ToolError } from "../command-line/run-tool.ts";

/** The bundle could not be made; the message says why. */
export class BundleError extends ToolError {}
