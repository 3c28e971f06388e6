/** Callers that keep asking a model while something is done to it. */
import { type SlacklineError, tensor } from "slackline-client";
import { type LiveDaemon, until } from "./live-daemon.ts";

export interface Traffic {
  /** Answers by version. */
  readonly answers: ReadonlyMap<string, number>;
  readonly errors: readonly SlacklineError[];
  /** Waits until this version answers. */
  answeredBy(version: string): Promise<void>;
  /** Waits until so many more were answered. */
  more(count: number): Promise<void>;
  stop(): Promise<void>;
}

const CALLERS = 8;

/** Asks a model of one FP32 input `x` of four elements. */
export function startTraffic({ client }: LiveDaemon, model: string): Traffic {
  const answers = new Map<string, number>();
  const errors: SlacklineError[] = [];
  let goesOn = true;
  const total = () => [...answers.values()].reduce((sum, count) => sum + count, 0);
  const callers = Array.from({ length: CALLERS }, async () => {
    while (goesOn) {
      try {
        const { version } = await client.infer(
          model,
          { x: tensor.float32([1, 4], Float32Array.of(1, 2, 3, 4)) },
          { retry: false },
        );
        answers.set(version, (answers.get(version) ?? 0) + 1);
      } catch (error) {
        errors.push(error as SlacklineError);
      }
    }
  });
  return {
    answers,
    errors,
    answeredBy: async (version) => {
      await until(`version ${version} of ${model} answers`, () => answers.has(version));
    },
    more: async (count) => {
      const enough = total() + count;
      await until(`${model} answers ${count} more`, () => total() >= enough);
    },
    async stop() {
      goesOn = false;
      await Promise.all(callers);
    },
  };
}
