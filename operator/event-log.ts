/**
 * The operator's event log: what the machine's programs wrote, what the API itself did. The newest are kept, in
 * memory and, where a file is given, on disk; the oldest go first, by count and by bytes.
 */
import type { EventFile } from './event-file.ts';

export interface LoggedEvent {
  /** RFC 3339 in UTC, to the microsecond. */
  readonly receivedAt: string;
  readonly message: string;
}

export type EventSource = 'pipe' | 'http' | 'server';

export interface EventLogOptions {
  readonly maxEntries: number;
}

export interface EventLogModules {
  /** Unix microseconds. */
  readonly now: () => number;
  /** Null keeps the events in memory only. */
  readonly file: EventFile | null;
  readonly onEvent?: ((source: EventSource) => void) | undefined;
}

/** Of all messages together, as UTF-16; the file is bounded by twice as much (event-file.ts). */
export const MAX_EVENTS_CHARACTERS = 8 * 1024 * 1024;
/** One message; longer ones are cut, which their end says. */
export const MAX_MESSAGE_CHARACTERS = 16 * 1024;
const CUT = ' … (cut)';
/** A disk that hangs must not take the operator's actions with it. */
const STORING_MS = 2000;

export class EventLog {
  readonly #options: EventLogOptions;
  readonly #modules: EventLogModules;
  readonly #listeners = new Set<(event: LoggedEvent) => void>();
  /** Those before `#first` are dropped already. */
  #entries: LoggedEvent[] = [];
  #first = 0;
  #characters = 0;

  constructor(options: EventLogOptions, modules: EventLogModules) {
    this.#options = options;
    this.#modules = modules;
    for (const event of modules.file?.stored ?? []) this.#keep(event);
    modules.file?.follow(() => this.list());
  }

  get length(): number {
    return this.#entries.length - this.#first;
  }

  /** Oldest first. */
  list(): readonly LoggedEvent[] {
    return this.#entries.slice(this.#first);
  }

  /** Calls `listener` with each event from now on. */
  onEvent(listener: (event: LoggedEvent) => void): void {
    this.#listeners.add(listener);
  }

  /**
   * @returns a promise of the event being on the disk; one that takes too long is not waited for, and one that refuses
   *   is reported by the file. Never rejects.
   */
  add(message: string, source: EventSource): Promise<void> {
    const event = { receivedAt: formatTime(this.#modules.now()), message: bounded(message) };
    this.#keep(event);
    for (const listener of this.#listeners) listener(event);
    this.#modules.onEvent?.(source);
    const { file } = this.#modules;
    return file === null ? Promise.resolve() : within(STORING_MS, file.append(event));
  }

  #keep(event: LoggedEvent): void {
    this.#entries.push(event);
    this.#characters += event.message.length;
    while (this.length > this.#options.maxEntries || this.#characters > MAX_EVENTS_CHARACTERS) {
      this.#characters -= this.#entries[this.#first]?.message.length ?? 0;
      this.#first += 1;
    }
    if (this.#first > this.length) {
      this.#entries = this.#entries.slice(this.#first);
      this.#first = 0;
    }
  }
}

async function within(ms: number, work: Promise<void>): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await Promise.race([work, late]);
  clearTimeout(timer);
}

function bounded(message: string): string {
  if (message.length <= MAX_MESSAGE_CHARACTERS) return message;
  return message.slice(0, MAX_MESSAGE_CHARACTERS - CUT.length).toWellFormed() + CUT;
}

/** @returns RFC 3339 as Go writes it: no zeros at the end of the fraction, no fraction of zeros. */
function formatTime(unixUs: number): string {
  const us = Math.floor(unixUs);
  const seconds = new Date(Math.floor(us / 1e6) * 1000).toISOString().slice(0, 19);
  const fraction = String(us % 1e6)
    .padStart(6, '0')
    .replace(/0+$/, '');
  return fraction === '' ? `${seconds}Z` : `${seconds}.${fraction}Z`;
}

/** The deployed text form: `TIME SP TAB SP MESSAGE LF`, seconds only; other control characters are made visible. */
export function eventsAsText(events: readonly LoggedEvent[]): string {
  let text = '';
  for (const { receivedAt, message } of events) {
    text += `${receivedAt.replace(/\.\d+/, '')} \t ${visible(message)}\n`;
  }
  return text;
}

/** The deployed JSON form, with its escapes. */
export function eventsAsJson(events: readonly LoggedEvent[]): string {
  return goJson(events.map(({ receivedAt, message }) => ({ received_at: receivedAt, message })));
}

/** @returns JSON as Go's encoder writes it: nothing that a page would take for markup. */
export function goJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[<>&\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/**
 * A terminal would obey escape sequences, and readers be misled by changes of direction; line breaks and tabs stay, as
 * deployed.
 */
export function visible(message: string): string {
  return message.replace(/[[\p{Cc}\p{Bidi_Control}]--[\t\n]]/gv, (character) => {
    const code = character.charCodeAt(0).toString(16);
    return code.length > 2 ? `\\u${code.padStart(4, '0')}` : `\\x${code.padStart(2, '0')}`;
  });
}
