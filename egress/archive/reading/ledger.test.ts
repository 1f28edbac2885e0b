import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ArchiveRecord } from '../record.ts';
import { Journal } from '../testing/journal.ts';
import { Ledger } from './ledger.ts';
import { decodePosition, encodePosition, MAX_POSITION_BYTES } from './position.ts';

/** Gives the records to a ledger. @returns the sequences delivered, and `code sequence` of each finding. */
function read(records: readonly ArchiveRecord[], from?: Ledger) {
  const found: string[] = [];
  const ledger = from ?? new Ledger((_kind, code, { sequence }) => found.push(`${code} ${sequence}`));
  const delivered = records
    .filter((record) => ledger.take(record) === 'deliver')
    .map(({ sequence }) => sequence);
  return { ledger, found, delivered };
}

/** Opening record, then orders up to sequence `last`. */
function journal(last: number): ArchiveRecord[] {
  const written = new Journal();
  return [written.opening(), ...written.orders(2, last)];
}

/** A record with another value, under the old headers. */
const forged = (record: ArchiveRecord): ArchiveRecord => ({ ...record, value: Buffer.from('{"forged":1}') });

describe('the reader’s rule', () => {
  test('a whole epoch is delivered', () => {
    const { found, delivered } = read(journal(5));
    expect(delivered).toEqual([1, 2, 3, 4, 5]);
    expect(found).toEqual(['epoch 1']);
  });

  test('repeated records are dropped', () => {
    const all = journal(6);
    const { ledger, found, delivered } = read([...all.slice(0, 4), ...all.slice(1)]);
    expect(delivered).toEqual([1, 2, 3, 4, 5, 6]);
    expect(found).toEqual(['epoch 1']);
    expect(ledger.duplicates).toBe(3);
  });

  test('a missing record is a gap; what comes late is delivered once', () => {
    const all = journal(8);
    const { found, delivered } = read([
      ...all.slice(0, 3),
      ...all.slice(6),
      all[4]!,
      all[4]!,
      all[3]!,
      all[5]!,
    ]);
    expect(delivered).toEqual([1, 2, 3, 7, 8, 5, 4, 6]);
    expect(found).toEqual(['epoch 1', 'gap 7', 'late 5', 'late 4', 'late 6']);
  });

  test('an altered record is left out', () => {
    const all = journal(5);
    const { found, delivered } = read(all.with(2, forged(all[2]!)));
    expect(delivered).toEqual([1, 2, 4, 5]);
    expect(found).toEqual(['epoch 1', 'altered 3']);
  });

  test('an altered chain value is one problem, not two', () => {
    const all = journal(5);
    const { found, delivered } = read(all.with(2, { ...all[2]!, chain: 'f'.repeat(32) }));
    expect(delivered).toEqual([1, 2, 4, 5]);
    expect(found).toEqual(['epoch 1', 'altered 3']);
  });

  test('a forgery that comes before its record does not keep it out', () => {
    const all = journal(5);
    const forgery = { ...forged(all[2]!), chain: 'f'.repeat(32) };
    for (const first of [forgery, forged(all[2]!)]) {
      const { found, delivered } = read([...all.slice(0, 2), first, ...all.slice(2)]);
      expect(delivered).toEqual([1, 2, 3, 4, 5]);
      expect(found).toEqual(['epoch 1', 'altered 3', 'late 3']);
    }
    const { found, delivered } = read([...all.slice(0, 2), ...all.slice(3), forgery, all[2]!]);
    expect(delivered).toEqual([1, 2, 4, 5, 3]);
    expect(found).toEqual(['epoch 1', 'gap 4', 'altered 3', 'late 3']);
  });

  test('a second record for a place is a conflict', () => {
    const all = journal(5);
    const other = { ...forged(all[2]!), chain: 'f'.repeat(32) };
    const { found, delivered } = read([...all, other]);
    expect(delivered).toEqual([1, 2, 3, 4, 5]);
    expect(found).toEqual(['epoch 1', 'conflict 3']);
  });

  test('reading may begin in the middle', () => {
    const { found, delivered } = read(journal(9).slice(5));
    expect(delivered).toEqual([6, 7, 8, 9]);
    expect(found).toEqual(['begins 6']);
  });

  test('an epoch says how the one before ended', () => {
    const first = new Journal(1, 1000);
    const records = [first.opening(), ...first.orders(2, 5)];
    const previous = { n: first.nodeId, e: first.epoch, end: first.end };
    const opening = (changes: object) => new Journal(2, 2000).opening({ ...previous, ...changes });
    expect(read([...records, opening({})]).found).toEqual(['epoch 1', 'epoch 1']);
    expect(read([...records.slice(0, 4), opening({})]).found).toEqual(['epoch 1', 'epoch 1', 'gap 1']);
    expect(read([...records, opening({ end: { s: 5, h: '1'.repeat(32) } })]).found).toContain('opening 1');
    expect(read([...records, opening({ end: null })]).found).toContain('opening 1');
    expect(read([forged(records[0]!)]).found).toEqual(['opening 1', 'altered 1']);
  });

  test('a record that stops reading counts as not read', () => {
    const all = journal(6);
    const stopping = new Ledger((kind) => {
      if (kind === 'problem') throw new Error('stop');
    });
    const { delivered } = read(all.slice(0, 3), stopping);
    expect(delivered).toEqual([1, 2, 3]);
    expect(() => stopping.take(all[5]!)).toThrow('stop');
    expect(() => stopping.take(forged(all[3]!))).toThrow('stop');
    expect(stopping.take(all[3]!)).toBe('deliver');
  });

  test('whatever is repeated, left out or moved: each record at most once, and what is missing is told', () => {
    const all = journal(30);
    fc.assert(
      fc.property(fc.array(fc.nat(29), { maxLength: 80 }), (picks) => {
        const { found, delivered } = read(picks.map((index) => all[index]!));
        expect(new Set(delivered).size).toBe(delivered.length);
        const begin = picks.length === 0 ? 31 : picks[0]! + 1;
        const newest = Math.max(0, ...delivered);
        const missing = newest - begin + 1 - delivered.length;
        expect(delivered.every((sequence) => sequence >= begin)).toBe(true);
        if (missing > 0) expect(found.some((text) => text.startsWith('gap'))).toBe(true);
        // What was picked and is not before the beginning has been delivered.
        expect(new Set(picks.map((index) => index + 1).filter((s) => s >= begin))).toEqual(
          new Set(delivered),
        );
      }),
      { seed: 4, numRuns: 300 },
    );
  });
});

describe('a position', () => {
  test('resumes where another ledger stood, gaps included', () => {
    const all = journal(12);
    fc.assert(
      fc.property(fc.array(fc.nat(11), { maxLength: 40 }), fc.nat(40), (picks, cut) => {
        const records = picks.map((index) => all[index]!);
        const whole = read(records);
        const before = read(records.slice(0, cut));
        const text = encodePosition({ offset: 7, epochs: before.ledger.save() });
        const { epochs = [] } = decodePosition(text) ?? {};
        const after = read(
          records.slice(cut),
          Ledger.resume(epochs, () => {}),
        );
        expect([...before.delivered, ...after.delivered]).toEqual(whole.delivered);
      }),
      { seed: 4, numRuns: 200 },
    );
  });

  test('stays below what a broker takes; the epochs read last stay', () => {
    const ledger = new Ledger(() => {});
    for (let node = 1; node <= 200; node += 1) ledger.take(new Journal(node).opening());
    const text = encodePosition({ offset: 123_456, epochs: ledger.save() });
    expect(text.length).toBeLessThanOrEqual(MAX_POSITION_BYTES);
    const { offset, epochs } = decodePosition(text)!;
    expect(offset).toBe(123_456);
    expect(epochs.length).toBeGreaterThan(40);
    expect(epochs.at(-1)!.nodeId).toBe(new Journal(200).nodeId);
  });

  test('text that is none of ours is none', () => {
    for (const text of [
      '',
      'hello',
      '2;5',
      '1;',
      '1;zz;',
      '1;5;a b,1,2,',
      '1;5;n,1,2,short',
      '1;5;n,1,2,,9-3',
    ]) {
      expect(decodePosition(text), text).toBeNull();
    }
  });
});
