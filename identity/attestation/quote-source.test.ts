/** Quotes from a directory that behaves like configfs-tsm: FIFOs, so that reading waits for the machine. */
import { execFileSync } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { temporaryDirectory } from '../../testing/directory.ts';
import { MockMachine } from './mock/machine.ts';
import { startMockService } from './mock/provisioning.ts';
import { parseQuote } from './quote.ts';
import { boundedQuotes, hasTsm, type QuoteSource, remoteQuotes, tsmQuotes } from './quote-source.ts';

let machine: MockMachine;
beforeAll(async () => {
  machine = await MockMachine.create({ now: Date.now() });
});

interface FakeKernel {
  readonly provider?: string;
  readonly generation?: string;
  readonly answer?: (inblob: Buffer) => Buffer;
}

/** Makes entries as the kernel does, and serves one quote in each. */
async function fakeTsm({ provider = 'tdx_guest\n', generation = '1\n', answer }: FakeKernel = {}) {
  const directory = await temporaryDirectory();
  const entries: string[] = [];
  const work: Promise<void>[] = [];
  const quotes = tsmQuotes(directory, {
    async makeEntry(path) {
      await mkdir(path);
      entries.push(path);
      execFileSync('mkfifo', [join(path, 'inblob'), join(path, 'outblob')]);
      await writeFile(join(path, 'provider'), provider);
      await writeFile(join(path, 'generation'), generation);
      const serve = async (): Promise<void> => {
        const inblob = await readFile(join(path, 'inblob'));
        if (provider !== 'tdx_guest\n') return;
        await writeFile(join(path, 'outblob'), (answer ?? ((data) => machine.quote(data)))(inblob));
      };
      work.push(serve());
    },
    async removeEntry(path) {
      await Promise.all(work);
      await rm(path, { recursive: true });
      entries.splice(entries.indexOf(path), 1);
    },
  });
  return { quotes, entries };
}

test('a quote from the kernel, in an entry of its own that is gone afterwards', async () => {
  const { quotes, entries } = await fakeTsm();
  const [one, two] = [Buffer.alloc(64, 1), Buffer.alloc(64, 2)];
  const made = await Promise.all([quotes.quote(one), quotes.quote(two)]);
  for (const [i, quote] of made.entries()) {
    const parsed = parseQuote(quote);
    expect(typeof parsed === 'object' && parsed.report.reportData).toEqual([one, two][i]);
  }
  expect(entries).toEqual([]);
});

test.each([
  [{ provider: 'sev_guest\n' }, "the machine's provider is sev_guest, not tdx_guest"],
  [{ generation: '2\n' }, 'the entry was written 2 times'],
  [{ answer: () => Buffer.alloc(0) }, 'a quote of 0 bytes'],
  [{ answer: () => Buffer.alloc(20_000) }, 'a quote of 16385 bytes'],
  [{ answer: () => machine.quote(Buffer.alloc(64, 9)) }, 'the quote is about other report data'],
])('%j is no quote', async (kernel, reason) => {
  const { quotes, entries } = await fakeTsm(kernel);
  await expect(quotes.quote(Buffer.alloc(64, 1))).rejects.toThrow(reason);
  expect(entries).toEqual([]);
});

test('no directory, no TD', async () => {
  expect(await hasTsm('/nowhere/tsm/report')).toBe(false);
  await expect(tsmQuotes('/nowhere/tsm/report').quote(Buffer.alloc(64))).rejects.toThrow('ENOENT');
});

test('from a program: 64 digits where the second half is zero, else 128', async () => {
  const service = await startMockService(machine, 0);
  onTestFinished(() => service.close());
  const quotes = remoteQuotes(`${service.url}/`);
  const short = Buffer.concat([Buffer.alloc(32, 0xab), Buffer.alloc(32)]);
  const long = Buffer.alloc(64, 0xcd);
  for (const reportData of [short, long]) {
    const parsed = parseQuote(await quotes.quote(reportData));
    expect(typeof parsed === 'object' && parsed.report.reportData).toEqual(reportData);
  }
  expect(service.asked).toEqual([`/attest/${'ab'.repeat(32)}`, `/attest/${'cd'.repeat(64)}`]);
  await expect(remoteQuotes(`${service.url}/x`).quote(long)).rejects.toThrow(
    'the quote provider answers 404',
  );
});

test('so many at a time, so many waiting, so long', async () => {
  const open: (() => void)[] = [];
  const slow: QuoteSource = {
    quote: (reportData) => new Promise((resolve) => open.push(() => resolve(reportData))),
  };
  const quotes = boundedQuotes(slow, { concurrent: 2, waiting: 1, timeoutMs: 200 });
  const data = Buffer.alloc(64);
  const first = [1, 2, 3].map(() => quotes.quote(data));
  await expect(quotes.quote(data)).rejects.toThrow('too many quotes are being made');
  expect(open).toHaveLength(2);
  const late = await Promise.allSettled(first);
  expect(late.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
  // The third has left the queue; the places of the first two are free once their work ends.
  for (const end of open.splice(0)) end();
  await new Promise(setImmediate);
  const again = quotes.quote(data);
  await new Promise(setImmediate);
  expect(open).toHaveLength(1);
  open[0]!();
  expect(await again).toBe(data);
});
