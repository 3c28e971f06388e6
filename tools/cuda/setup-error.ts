import { ToolError } from "../command-line/run-tool.ts";

/** The provider libraries could not be set up; the message says why and what to do. */
export class SetupError extends ToolError {}
