import { appendFile, chmod, mkdir, readFile, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { temporaryDirectory } from '../testing/directory.ts';
import { type EventFile, openEventFile } from './event-file.ts';
import { EventLog } from './event-log.ts';

const now = () => Date.now() * 1000;

async function openLog(path: string, { maxEntries = 1000, bootId = 'boot 1', retryMs = 60_000 } = {}) {
  const errors: string[] = [];
  const file = await openEventFile(
    { path, bootId, retryMs },
    { onError: (error) => errors.push(error.message) },
  );
  onTestFinished(() => file.close());
  return { file, errors, log: new EventLog({ maxEntries }, { now, file }) };
}

const messages = (of: EventLog | EventFile) =>
  ('list' in of ? of.list() : of.stored).map(({ message }) => message);

test('events survive a restart, with their times', async () => {
  const path = join(await temporaryDirectory(), 'events');
  const first = await openLog(path);
  expect(first.file.stored).toEqual([]);
  await first.log.add('one', 'http');
  await first.log.add('two\nlines "quoted" €', 'pipe');
  const before = first.log.list();
  await first.file.close();

  const second = await openLog(path);
  expect(second.log.list()).toEqual(before);
  await second.log.add('three', 'http');
  await second.file.close();
  expect(messages((await openLog(path)).log)).toEqual(['one', 'two\nlines "quoted" €', 'three']);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect([...first.errors, ...second.errors]).toEqual([]);
});

test('one that was answered is in the file, without a close', async () => {
  const path = join(await temporaryDirectory(), 'events');
  const { log } = await openLog(path);
  await log.add('one', 'http');
  await log.add('two', 'http');
  expect(messages((await openLog(path)).file)).toEqual(['one', 'two']);
});

test('nothing happened, nothing is written', async () => {
  const path = join(await temporaryDirectory(), 'events');
  await (await openLog(path)).file.close();
  await expect(stat(path)).rejects.toThrow('ENOENT');
});

test('the file is bounded, and holds what memory holds', async () => {
  const path = join(await temporaryDirectory(), 'events');
  const { log, file } = await openLog(path, { maxEntries: 20 });
  let largest = 0;
  for (let i = 0; i < 400; i++) {
    await log.add(`${i} ${'x'.repeat(4000)}`, 'http');
    if (i % 20 === 0) largest = Math.max(largest, (await stat(path)).size);
  }
  await file.close();
  expect(largest).toBeLessThan(500_000);
  const again = await openLog(path, { maxEntries: 20 });
  expect(messages(again.log)).toEqual(messages(log));
});

test('thousands at once are written together', async () => {
  const path = join(await temporaryDirectory(), 'events');
  const { log, file } = await openLog(path, { maxEntries: 50_000 });
  await Promise.all(Array.from({ length: 20_000 }, (_, i) => log.add(`${i} ${'x'.repeat(100)}`, 'pipe')));
  await file.close();
  expect(messages((await openLog(path, { maxEntries: 50_000 })).log).join()).toBe(messages(log).join());
});

describe('after a crash', () => {
  test('wherever the file was cut, what is whole is there and the rest goes on', async () => {
    const directory = await temporaryDirectory();
    const path = join(directory, 'events');
    const { log, file } = await openLog(path);
    for (const message of ['one', 'two', 'three']) await log.add(message, 'http');
    await file.close();
    const content = await readFile(path);
    for (let length = content.length - 1; length >= 0; length -= 7) {
      await writeFile(path, content);
      await truncate(path, length);
      const cut = await openLog(path);
      const left = messages(cut.log);
      expect(['one', 'two', 'three'].slice(0, left.length)).toEqual(left);
      await cut.log.add('next', 'http');
      await cut.file.close();
      expect(messages((await openLog(path)).log)).toEqual([...left, 'next']);
    }
  });

  test('what is no event in the file is left out', async () => {
    const path = join(await temporaryDirectory(), 'events');
    const { log, file } = await openLog(path);
    await log.add('one', 'http');
    await file.close();
    await appendFile(
      path,
      [
        '\0\0\0\0',
        '[]',
        'null',
        '{"message":1}',
        '{"receivedAt":"now","message":"x"}',
        '{"receivedAt":"2026-01-01T00:00:00Z","message":"two"}',
        '',
      ].join('\n'),
    );
    expect(messages((await openLog(path)).log)).toEqual(['one', 'two']);
  });
});

describe('starts of the machine', () => {
  test('events of this one are told from those before', async () => {
    const path = join(await temporaryDirectory(), 'events');
    const first = await openLog(path);
    await first.log.add('one', 'pipe');
    await first.file.close();
    const same = await openLog(path);
    expect(same.file.storedThisBoot).toBe(0);
    await same.log.add('two', 'pipe');
    await same.file.close();
    const next = await openLog(path, { bootId: 'boot 2' });
    expect(next.file.storedThisBoot).toBe(2);
    await next.log.add('three', 'pipe');
    await next.log.add('four', 'pipe');
    await next.file.close();
    const again = await openLog(path, { bootId: 'boot 2' });
    expect(messages(again.file).slice(again.file.storedThisBoot)).toEqual(['three', 'four']);
  });

  test('also when the oldest have been dropped', async () => {
    const path = join(await temporaryDirectory(), 'events');
    const first = await openLog(path, { maxEntries: 5 });
    for (let i = 0; i < 5; i++) await first.log.add(`old ${i}`, 'pipe');
    await first.file.close();
    const next = await openLog(path, { bootId: 'boot 2', maxEntries: 5 });
    for (let i = 0; i < 3; i++) await next.log.add(`new ${i} ${'x'.repeat(9000)}`, 'pipe');
    await next.file.close();
    const again = await openLog(path, { bootId: 'boot 2', maxEntries: 5 });
    expect(
      messages(again.file)
        .slice(again.file.storedThisBoot)
        .map((text) => text.slice(0, 5)),
    ).toEqual(['new 0', 'new 1', 'new 2']);
  });
});

describe('a disk that refuses', () => {
  test('costs no event in memory, is reported, and has all of them once it takes writes again', async () => {
    const directory = await temporaryDirectory();
    const path = join(directory, 'sub', 'events');
    const { log, file, errors } = await openLog(path);
    await log.add('one', 'http');
    await log.add('two', 'http');
    expect(errors).toHaveLength(1);
    expect(errors[0]).toContain('ENOENT');
    expect(messages(log)).toEqual(['one', 'two']);
    await mkdir(join(directory, 'sub'));
    await file.close();
    expect(messages((await openLog(path)).file)).toEqual(['one', 'two']);
  });

  test('is tried again by itself', async () => {
    const directory = await temporaryDirectory();
    const path = join(directory, 'sub', 'events');
    const { log } = await openLog(path, { retryMs: 50 });
    await log.add('one', 'http');
    await mkdir(join(directory, 'sub'));
    await vi.waitFor(async () => expect(messages((await openLog(path)).file)).toEqual(['one']), 15_000);
  });

  test('what is no file stops the start', async () => {
    const directory = await temporaryDirectory();
    await expect(openLog(directory)).rejects.toThrow(`${directory} is no file`);
    const target = join(directory, 'target');
    await writeFile(target, '');
    await chmod(target, 0o600);
    await symlink(target, join(directory, 'link'));
    await expect(openLog(join(directory, 'link'))).rejects.toThrow('ELOOP');
  });
});
