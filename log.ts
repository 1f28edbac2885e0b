/**
 * Log lines: JSON by pino, or the same fields for human eyes. Nothing here ever sees an order, a key or a
 * signature: services report events with names, counts and reasons (see node.ts).
 */
import { type DestinationStream, type Logger, pino } from 'pino';

export interface LogOptions {
  readonly json: boolean;
  readonly debug: boolean;
  readonly service: string;
}

const LEVELS: Record<number, string> = { 20: 'DEBUG', 30: 'INFO ', 40: 'WARN ', 50: 'ERROR', 60: 'FATAL' };

/** @returns a logger that writes to standard output, synchronously, so that the last lines before an end are there. */
export function createLogger(options: LogOptions): Logger {
  const settings = {
    level: options.debug ? 'debug' : 'info',
    base: { service: options.service },
    timestamp: pino.stdTimeFunctions.isoTime,
  };
  const stdout = pino.destination({ fd: 1, sync: true });
  return options.json ? pino(settings, stdout) : pino(settings, humanReadable(stdout));
}

function humanReadable(out: DestinationStream): DestinationStream {
  return {
    write(line) {
      const { time, level, msg, service: _, ...fields } = JSON.parse(line) as Record<string, unknown>;
      const rest = Object.entries(fields).map(([name, value]) => ` ${name}=${valueText(value)}`);
      out.write(`${String(time)} ${LEVELS[Number(level)] ?? ''} ${String(msg)}${rest.join('')}\n`);
    },
  };
}

function valueText(value: unknown): string {
  return typeof value === 'string' && !/[\s"=]/.test(value) ? value : JSON.stringify(value);
}
