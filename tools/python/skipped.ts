/** Something that is needed can't be had on this machine. The message is a sentence that says what. */
export class Skipped extends Error {
  override readonly name: string = "Skipped";
}
