import { ToolError } from "../command-line/run-tool.ts";

/** Something that is needed can't be had on this machine. The message is a sentence that says what. */
export class Skipped extends ToolError {
  override readonly name: string = "Skipped";
}
