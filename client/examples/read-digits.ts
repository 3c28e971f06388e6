/**
 * Reads two drawn digits through typed functions, which `slackline-client generate` made from a daemon with the sample models:
 *
 *     npm start                                            # in one terminal
 *     node dist/client/examples/read-digits.js             # in another; HOST:PORT where the daemon is elsewhere
 */
import { SlacklineClient, SlacklineError, tensor } from "slackline-client";
import { digits } from "./generated/sample-models.ts";

const DRAWN = [
  `..####..
   .##..##.
   .#....#.
   .#....#.
   .#....#.
   .#....#.
   .##..##.
   ..####..`,
  `...##...
   ..###...
   .####...
   ...##...
   ...##...
   ...##...
   ...##...
   ...##...`,
];
const INK = 16;

/** [images, 1, 8, 8] float32, 0 (paper) to 16 (ink). */
function imagesOf(drawn: readonly string[]): Float32Array {
  const pixels = drawn.flatMap((image) => [...image.replace(/\s/g, "")].map((mark) => (mark === "#" ? INK : 0)));
  return Float32Array.from(pixels);
}

const client = new SlacklineClient({ target: process.argv[2] ?? "localhost:8001" });
try {
  await client.waitForReady({ models: ["digits"], timeoutMs: 5_000 });
  const image = tensor.float32([DRAWN.length, 1, 8, 8], imagesOf(DRAWN));
  // A misspelt tensor, a Float64Array or an output that digits does not have would not compile.
  const { outputs } = await digits(client, { image }, { deadlineMs: 100 });
  const classes = outputs.probabilities.data.length / DRAWN.length;
  outputs.digit.data.forEach((digit, item) => {
    const probability = outputs.probabilities.data[item * classes + Number(digit)]!;
    process.stdout.write(`${digit} (${(100 * probability).toFixed(0)} %)\n`);
  });
} catch (error) {
  if (!(error instanceof SlacklineError)) throw error;
  process.stderr.write(`${error.code}: ${error.message}\n`);
  process.exitCode = 1;
} finally {
  client.close();
}
