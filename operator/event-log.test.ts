import { expect, test } from 'vitest';
import {
  EventLog,
  eventsAsJson,
  eventsAsText,
  MAX_EVENTS_CHARACTERS,
  MAX_MESSAGE_CHARACTERS,
} from './event-log.ts';

/** 2023-11-14T22:13:20Z in µs. */
const START_US = 1_700_000_000_000_000;

function logOf(maxEntries: number, times: readonly number[] = []) {
  let next = 0;
  const now = () => times[next++] ?? START_US;
  return new EventLog({ maxEntries }, { now, file: null });
}

const messages = (log: EventLog) => log.list().map(({ message }) => message);

test('the newest are kept, in order', async () => {
  const log = logOf(3);
  for (let i = 0; i < 10; i++) await log.add(String(i), 'http');
  expect(messages(log)).toEqual(['7', '8', '9']);
  expect(log.length).toBe(3);
});

test('all messages together are bounded too', () => {
  const log = logOf(100_000);
  const message = 'x'.repeat(MAX_MESSAGE_CHARACTERS);
  const fitting = MAX_EVENTS_CHARACTERS / MAX_MESSAGE_CHARACTERS;
  for (let i = 0; i < fitting + 100; i++) void log.add(message, 'pipe');
  expect(log.length).toBe(fitting);
});

test('a message that is too long is cut, says so, and stays Unicode', () => {
  const log = logOf(10);
  void log.add('x'.repeat(MAX_MESSAGE_CHARACTERS), 'http');
  void log.add(`${'x'.repeat(MAX_MESSAGE_CHARACTERS - 9)}${'😀'.repeat(9)}`, 'http');
  const [whole = '', cut = ''] = messages(log);
  expect(whole).toBe('x'.repeat(MAX_MESSAGE_CHARACTERS));
  expect(cut).toHaveLength(MAX_MESSAGE_CHARACTERS);
  expect(cut).toMatch(/ … \(cut\)$/);
  expect(cut.isWellFormed()).toBe(true);
});

test('times are RFC 3339 as Go writes them', () => {
  const log = logOf(10, [START_US, START_US + 120_000, START_US + 1, START_US + 999_999.5]);
  for (let i = 0; i < 4; i++) void log.add('', 'http');
  expect(log.list().map(({ receivedAt }) => receivedAt)).toEqual([
    '2023-11-14T22:13:20Z',
    '2023-11-14T22:13:20.12Z',
    '2023-11-14T22:13:20.000001Z',
    '2023-11-14T22:13:20.999999Z',
  ]);
  expect(eventsAsText(log.list())).toBe('2023-11-14T22:13:20Z \t \n'.repeat(4));
});

test('JSON has no markup, text no control characters but line breaks and tabs', () => {
  const event = {
    receivedAt: '2023-11-14T22:13:20Z',
    message: '<a&b>\u2028\u001b[31m\r\n\tx\u009b\u007f\u202e"',
  };
  const json = eventsAsJson([event]);
  expect(json).not.toMatch(/[<>&\u2028]/);
  expect(JSON.parse(json)).toEqual([{ received_at: event.receivedAt, message: event.message }]);
  expect(eventsAsText([event])).toBe(
    '2023-11-14T22:13:20Z \t <a&b>\u2028\\x1b[31m\\x0d\n\tx\\x9b\\x7f\\u202e"\n',
  );
});
