import { type Logger, pino } from "pino";
import pretty from "pino-pretty";
import type { LogFormat, LogLevel } from "./config/daemon-settings.ts";

/** Logs to standard error: lines for people on a terminal, JSON otherwise. Standard output is for what was asked for. */
export function createLogger(level: LogLevel, format: LogFormat): Logger {
  const forPeople = format === "pretty" || (format === "auto" && process.stderr.isTTY === true);
  if (!forPeople) {
    const options = { level, base: null, timestamp: pino.stdTimeFunctions.isoTime };
    return pino(options, pino.destination({ dest: 2, sync: true }));
  }
  return pino({ level, base: null }, pretty({ destination: 2, sync: true, translateTime: "HH:MM:ss.l" }));
}
