/**
 * Where this machine's own quotes come from: the kernel (configfs-tsm), or for development a program that is asked
 * over HTTP. Both behind one bound: so many at a time, so many waiting, so long.
 */
import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, rmdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { MAX_QUOTE_BYTES } from './quote.ts';

export interface QuoteSource {
  /**
   * @param reportData 64 bytes to be signed
   * @returns the quote
   * @throws Error saying why there is none
   */
  quote(reportData: Buffer): Promise<Buffer>;
}

/** The kernel's directory, Documentation/ABI/testing/configfs-tsm-report. */
const TSM_DIRECTORY = '/sys/kernel/config/tsm/report';

/** @returns whether this machine is a TD that can be asked for quotes */
export async function hasTsm(directory: string = TSM_DIRECTORY): Promise<boolean> {
  return stat(directory).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

export interface TsmModules {
  /** Makes an entry; the kernel puts its files there by itself. `mkdir` unless set. */
  readonly makeEntry?: ((path: string) => Promise<unknown>) | undefined;
  readonly removeEntry?: ((path: string) => Promise<unknown>) | undefined;
}

/** Quotes from configfs-tsm: an entry of its own for each, so that no other process can change what is being signed. */
export function tsmQuotes(directory: string = TSM_DIRECTORY, modules: TsmModules = {}): QuoteSource {
  const makeEntry = modules.makeEntry ?? mkdir;
  const removeEntry = modules.removeEntry ?? rmdir;
  return {
    async quote(reportData) {
      const entry = join(directory, `attested-${randomUUID()}`);
      await makeEntry(entry);
      try {
        await writeOnce(join(entry, 'inblob'), reportData);
        const provider = (await readAll(join(entry, 'provider'), 4_096)).toString('latin1').trim();
        if (provider !== 'tdx_guest') throw new Error(`the machine's provider is ${provider}, not tdx_guest`);
        const quote = await readAll(join(entry, 'outblob'), MAX_QUOTE_BYTES);
        const generation = (await readAll(join(entry, 'generation'), 4_096)).toString('latin1').trim();
        // One write makes 1; more mean that somebody else wrote the entry too.
        if (generation !== '1') throw new Error(`the entry was written ${generation} times`);
        return checked(quote, reportData);
      } finally {
        await removeEntry(entry);
      }
    },
  };
}

/**
 * Quotes from a program: `GET URL/attest/HEX`, HEX being 64 digits for a REPORTDATA whose second half is zero, else
 * 128 (the deployed proxies' --dev-dummy-dcap).
 */
export function remoteQuotes(url: string, timeoutMs = 10_000): QuoteSource {
  const base = url.replace(/\/+$/u, '');
  return {
    async quote(reportData) {
      const short = reportData.subarray(32).every((byte) => byte === 0);
      const hex = (short ? reportData.subarray(0, 32) : reportData).toString('hex');
      const response = await fetch(`${base}/attest/${hex}`, {
        signal: AbortSignal.timeout(timeoutMs),
        redirect: 'error',
      });
      if (response.status !== 200) throw new Error(`the quote provider answers ${response.status}`);
      const chunks: Uint8Array[] = [];
      let length = 0;
      for await (const chunk of response.body ?? []) {
        length += chunk.length;
        if (length > MAX_QUOTE_BYTES) throw new Error('the quote provider answers too much');
        chunks.push(chunk);
      }
      return checked(Buffer.concat(chunks), reportData);
    },
  };
}

export interface QuoteBounds {
  /** At the same time. */
  readonly concurrent: number;
  /** Waiting for their turn; one more is refused. */
  readonly waiting: number;
  /** From the call to the quote, in milliseconds. */
  readonly timeoutMs: number;
}

export const QUOTE_BOUNDS: QuoteBounds = { concurrent: 4, waiting: 64, timeoutMs: 10_000 };

/** Puts a bound around a source: connections ask for quotes, and connections come from anybody. */
export function boundedQuotes(source: QuoteSource, bounds: QuoteBounds): QuoteSource {
  let running = 0;
  const queue: (() => void)[] = [];
  const release = (): void => {
    const next = queue.shift();
    if (next === undefined) running--;
    else next();
  };
  /** @returns when it is this caller's turn; who no longer waits gives no turn away */
  const turn = (expired: Promise<never>): Promise<void> => {
    if (running < bounds.concurrent) {
      running++;
      return Promise.resolve();
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    queue.push(resolve);
    expired.catch(() => {
      const position = queue.indexOf(resolve);
      if (position >= 0) queue.splice(position, 1);
    });
    return Promise.race([expired, promise]);
  };
  return {
    async quote(reportData) {
      if (running >= bounds.concurrent && queue.length >= bounds.waiting) {
        throw new Error('too many quotes are being made');
      }
      const { promise: expired, reject } = Promise.withResolvers<never>();
      const timer = setTimeout(() => reject(new Error('the quote took too long')), bounds.timeoutMs);
      // Handled even when nobody races it any more.
      expired.catch(() => undefined);
      try {
        await turn(expired);
        // The place is given back when the work ends, not when its caller stops waiting.
        return await Promise.race([expired, source.quote(reportData).finally(release)]);
      } finally {
        clearTimeout(timer);
      }
    },
  };
}

/** One write and the close that commits it. Never creates: a directory that is not configfs must not get the file. */
async function writeOnce(path: string, bytes: Buffer): Promise<void> {
  const file = await open(path, constants.O_WRONLY);
  try {
    const { bytesWritten } = await file.write(bytes, 0, bytes.length, null);
    if (bytesWritten !== bytes.length) throw new Error('the kernel took only a part of the report data');
  } finally {
    await file.close();
  }
}

/** Until the end: the size that configfs gives is no file's size. */
async function readAll(path: string, maxBytes: number): Promise<Buffer> {
  const file = await open(path, constants.O_RDONLY);
  try {
    const buffer = Buffer.alloc(maxBytes + 1);
    let length = 0;
    for (;;) {
      const { bytesRead } = await file.read(buffer, length, buffer.length - length, null);
      length += bytesRead;
      if (bytesRead === 0 || length === buffer.length) return buffer.subarray(0, length);
    }
  } finally {
    await file.close();
  }
}

/** A quote about something else than asked must not be shown to anybody: some layouts make that easy to see. */
function checked(quote: Buffer, reportData: Buffer): Buffer {
  if (quote.length === 0 || quote.length > MAX_QUOTE_BYTES)
    throw new Error(`a quote of ${quote.length} bytes`);
  const offset = quote.readUInt16LE(0) === 5 ? 54 : 48;
  if (!quote.subarray(offset + 520, offset + 584).equals(reportData)) {
    throw new Error('the quote is about other report data');
  }
  return quote;
}
