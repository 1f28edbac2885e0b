/**
 * The file that keeps the events over a restart: one JSON line each, appended and flushed together with all that
 * came meanwhile, and written anew from memory when it has grown to twice what it must hold. A line
 * `{"boot":"…"}` stands before the first event of each start of the machine.
 *
 * Limits: one process writes it. What a crash cut off at its end is dropped when it is read; a disk that is full costs
 * events on the disk, not in memory, and is tried again.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { writeAtomically } from '../identity/store.ts';
import type { LoggedEvent } from './event-log.ts';

export interface EventFileOptions {
  readonly path: string;
  /** Identifies this start of the machine; Linux: /proc/sys/kernel/random/boot_id. */
  readonly bootId: string;
  /** From a write that failed to the next; 5 s unless set. */
  readonly retryMs?: number | undefined;
}

export interface EventFileModules {
  /** Called once until a write has succeeded. */
  readonly onError: (error: Error) => void;
}

/** Read at the start, from the end; what is before is older than anything that would be kept. */
const MAX_READ_BYTES = 32 * 1024 * 1024;
/** The file may grow by so much, or by its own size when it was last written anew, before it is again. */
const SMALLEST_GROWTH_BYTES = 256 * 1024;
/** Not yet written; beyond, the file is written anew from memory, which has dropped the oldest. */
const MAX_PENDING_BYTES = 1024 * 1024;
const RETRY_MS = 5000;

export class EventFile {
  /** What the file held when it was opened, oldest first. */
  readonly stored: readonly LoggedEvent[];
  /** Of these, from here on they are of this start of the machine. */
  readonly storedThisBoot: number;
  readonly #options: EventFileOptions;
  readonly #modules: EventFileModules;
  #all: () => readonly LoggedEvent[] = () => [];
  #handle: FileHandle | null = null;
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  #bytes = 0;
  #limit = 0;
  #events = 0;
  #eventsBefore = 0;
  /** The file does not end as it should: the next write is of all events. */
  #anew = true;
  #writing: Promise<void> | null = null;
  #next: Promise<void> | null = null;
  #retry: NodeJS.Timeout | null = null;
  #failing = false;
  #closed = false;

  /** Use `openEventFile`. */
  constructor(options: EventFileOptions, modules: EventFileModules, content: Content) {
    this.#options = options;
    this.#modules = modules;
    this.stored = content.events;
    this.storedThisBoot = content.bootId === options.bootId ? content.bootAt : content.events.length;
    this.#events = content.events.length;
    this.#eventsBefore = this.storedThisBoot;
  }

  /** @param all what is written when the file is written anew: the events that are still kept, oldest first. */
  follow(all: () => readonly LoggedEvent[]): void {
    this.#all = all;
  }

  /** @returns a promise of the write that covers the event, good or bad; it never rejects. */
  append(event: LoggedEvent): Promise<void> {
    this.#events += 1;
    if (!this.#anew) {
      const line = Buffer.from(`${JSON.stringify(event)}\n`);
      this.#pending.push(line);
      this.#pendingBytes += line.length;
      if (this.#pendingBytes > MAX_PENDING_BYTES) this.#startAnew();
    }
    return this.#flush();
  }

  /** Writes what is pending. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#retry = null;
    while (this.#writing !== null) await (this.#next ?? this.#writing);
    if (this.#pendingBytes > 0 || (this.#anew && this.#events > 0)) await this.#write();
    await this.#handle?.close();
    this.#handle = null;
  }

  /** One write at a time; what comes meanwhile shares the next. After a failure there is a pause. */
  #flush(): Promise<void> {
    if (this.#retry !== null) return Promise.resolve();
    if (this.#writing === null) {
      this.#writing = this.#write().finally(() => {
        this.#writing = null;
      });
      return this.#writing;
    }
    this.#next ??= this.#writing.then(() => {
      this.#next = null;
      return this.#flush();
    });
    return this.#next;
  }

  async #write(): Promise<void> {
    try {
      if (this.#anew || this.#bytes + this.#pendingBytes > this.#limit) await this.#writeAll();
      else await this.#writePending();
      this.#failing = false;
    } catch (error) {
      this.#startAnew();
      if (!this.#failing) this.#modules.onError(error instanceof Error ? error : new Error(String(error)));
      this.#failing = true;
      this.#retryLater();
    }
  }

  async #writePending(): Promise<void> {
    const content = Buffer.concat(this.#pending);
    this.#forgetPending();
    if (content.length === 0) return;
    this.#handle ??= await open(this.#options.path, constants.O_WRONLY | constants.O_APPEND);
    await this.#handle.appendFile(content);
    await this.#handle.datasync();
    this.#bytes += content.length;
  }

  async #writeAll(): Promise<void> {
    const events = this.#all();
    this.#forgetPending();
    // Events that come while this is written belong behind it.
    this.#anew = false;
    // Of the events of earlier starts some are dropped by now.
    this.#eventsBefore = Math.max(0, this.#eventsBefore - (this.#events - events.length));
    this.#events = events.length;
    const lines = events.map((event) => `${JSON.stringify(event)}\n`);
    lines.splice(this.#eventsBefore, 0, `${JSON.stringify({ boot: this.#options.bootId })}\n`);
    const content = lines.join('');
    await this.#handle?.close();
    this.#handle = null;
    await writeAtomically(this.#options.path, content);
    this.#bytes = Buffer.byteLength(content);
    this.#limit = this.#bytes + Math.max(SMALLEST_GROWTH_BYTES, this.#bytes);
  }

  #startAnew(): void {
    this.#anew = true;
    this.#forgetPending();
  }

  #forgetPending(): void {
    this.#pending = [];
    this.#pendingBytes = 0;
  }

  #retryLater(): void {
    if (this.#closed || this.#retry !== null) return;
    this.#retry = setTimeout(() => {
      this.#retry = null;
      void this.#flush();
    }, this.#options.retryMs ?? RETRY_MS).unref();
  }
}

interface Content {
  readonly events: LoggedEvent[];
  readonly bootId: string | null;
  /** Index of the first event after the last boot line. */
  readonly bootAt: number;
}

/** @throws when there is a file that cannot be read; what is damaged in it is left out. */
export async function openEventFile(
  options: EventFileOptions,
  modules: EventFileModules,
): Promise<EventFile> {
  return new EventFile(options, modules, readContent(await readEnd(options.path)));
}

async function readEnd(path: string): Promise<string> {
  let file: FileHandle;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
  try {
    const stats = await file.stat();
    if (!stats.isFile()) throw new Error(`${path} is no file`);
    const start = Math.max(0, stats.size - MAX_READ_BYTES);
    const buffer = Buffer.alloc(stats.size - start);
    const { bytesRead } = await file.read(buffer, 0, buffer.length, start);
    return buffer.toString('utf8', 0, bytesRead);
  } finally {
    await file.close();
  }
}

function readContent(text: string): Content {
  const events: LoggedEvent[] = [];
  let bootId: string | null = null;
  let bootAt = 0;
  for (const line of text.split('\n')) {
    const record = readRecord(line);
    if (record === undefined) continue;
    if ('boot' in record) {
      bootId = record.boot;
      bootAt = events.length;
    } else {
      events.push(record);
    }
  }
  return { events, bootId, bootAt };
}

function readRecord(line: string): LoggedEvent | { boot: string } | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { boot, receivedAt, message } = value as Record<string, unknown>;
  if (typeof boot === 'string') return { boot };
  const isTime = typeof receivedAt === 'string' && /^\d{4}-\d\d-\d\dT[\d:.]{8,15}Z$/.test(receivedAt);
  return isTime && typeof message === 'string' ? { receivedAt, message } : undefined;
}
