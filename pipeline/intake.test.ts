import { describe, expect, test } from 'vitest';
import { Intake } from './intake.ts';

function harness(maxBytes: number, sliceLength: number) {
  const log: (number | string)[] = [];
  const turns: (() => void)[] = [];
  const intake = new Intake<number>(
    { maxBytes, sliceLength },
    {
      sliceStart: () => undefined,
      process: (size) => void log.push(size),
      sliceEnd: () => void log.push('end'),
      bytesOf: (size) => size,
      schedule: (turn) => void turns.push(turn),
    },
  );
  return { intake, log, turns, turn: () => turns.shift()?.() };
}

describe('Intake', () => {
  test('works off in order, in slices, with a turn of the event loop between', () => {
    const { intake, log, turns, turn } = harness(1000, 2);
    for (const size of [1, 2, 3, 4, 5]) expect(intake.offer(size)).toBe(true);
    expect([log, turns.length]).toEqual([[], 1]);
    turn();
    expect(log).toEqual([1, 2, 'end']);
    intake.offer(6);
    expect(turns.length).toBe(1);
    turn();
    turn();
    expect(log).toEqual([1, 2, 'end', 3, 4, 'end', 5, 6, 'end']);
    expect([turns.length, intake.length, intake.bytes]).toEqual([0, 0, 0]);
  });

  test('refuses beyond its bytes, takes a lone big one, and takes again once there is room', () => {
    const { intake, turn } = harness(10, 8);
    expect(intake.offer(25)).toBe(true);
    expect(intake.offer(1)).toBe(false);
    turn();
    expect([intake.offer(6), intake.offer(4), intake.offer(1)]).toEqual([true, true, false]);
    expect([intake.bytes, intake.length]).toEqual([10, 2]);
  });

  test('a long backlog does not keep what has been worked off', () => {
    const { intake, log, turns, turn } = harness(1e9, 8);
    for (let i = 1; i <= 5000; i += 1) intake.offer(i);
    while (turns.length > 0) turn();
    expect(log.filter((entry) => entry !== 'end')).toEqual(Array.from({ length: 5000 }, (_, i) => i + 1));
  });
});
