/** The command line of the package. */
import { type Command, UsageError } from "./commands/command.ts";
import { generate } from "./commands/generate.ts";
import { predict } from "./commands/predict.ts";
import { SlacklineError } from "./errors.ts";

const COMMANDS: ReadonlyMap<string, Command> = new Map([
  ["generate", generate],
  ["predict", predict],
]);
const USAGE = [...COMMANDS.values()].map(({ usage }) => usage).join("\n");
const HELP = new Set(["--help", "-h"]);

/** Runs the command line; resolves with the exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  const [name = "", ...rest] = argv;
  const command = COMMANDS.get(name);
  try {
    if (argv.some((argument) => HELP.has(argument)) || name === "help") {
      process.stdout.write(command?.usage ?? USAGE);
      return 0;
    }
    if (command === undefined) {
      const names = [...COMMANDS.keys()].join(" and ");
      throw new UsageError(
        name === "" ? `which command? There are ${names}` : `unknown command '${name}'; there are ${names}`,
      );
    }
    return await command.run(rest);
  } catch (error) {
    if (error instanceof UsageError) {
      process.stderr.write(`slackline-client: ${error.message}\n\n${command?.usage ?? USAGE}`);
      return 2;
    }
    const known = error instanceof SlacklineError || (error as NodeJS.ErrnoException).code !== undefined;
    if (!known) throw error;
    process.stderr.write(`slackline-client: ${(error as Error).message}\n`);
    return 1;
  }
}
