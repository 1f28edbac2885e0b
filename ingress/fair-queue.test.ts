import { describe, expect, test } from 'vitest';
import { BIG_BODY_BYTES, FairQueue } from './fair-queue.ts';

function harness(maxBytes = 1e9) {
  const out: string[] = [];
  const turns: (() => void)[] = [];
  const clock = { now: 1 };
  const queue = new FairQueue<string>(
    { maxBytes },
    {
      submit: (item) => void out.push(item),
      schedule: (turn) => void turns.push(turn),
      now: () => clock.now,
    },
  );
  return { queue, out, clock, turns, turn: () => turns.shift()?.() };
}

const A = { name: 'a' };
const B = { name: 'b' };

describe('FairQueue', () => {
  test('hands over at once while a turn has room', () => {
    const { queue, out } = harness();
    for (let i = 0; i < 8; i += 1) queue.offer(A, `a${i}`, 100);
    expect([out.length, queue.length]).toEqual([8, 0]);
    queue.offer(A, 'a8', 100);
    expect([out.length, queue.length, queue.bytes]).toEqual([8, 1, 100]);
  });

  test('a connection with a thousand waiting delays its own, not another', () => {
    const { queue, out, turn } = harness();
    for (let i = 0; i < 1000; i += 1) queue.offer(A, `a${i}`, 100);
    queue.offer(B, 'b', 100);
    turn();
    expect(out).toHaveLength(16);
    expect(out).toContain('b');
    while (queue.length > 0) turn();
    expect(out.filter((item) => item !== 'b')).toEqual(Array.from({ length: 1000 }, (_, i) => `a${i}`));
    expect(queue.bytes).toBe(0);
  });

  test('after a big body the small ones get as much time as it took', () => {
    const { queue, out, clock, turn } = harness();
    queue.offer(A, 'big 1', BIG_BODY_BYTES + 1);
    queue.offer(A, 'big 2', BIG_BODY_BYTES + 1);
    turn();
    expect(out).toEqual(['big 1']);
    clock.now += 50;
    for (let i = 0; i < 9; i += 1) queue.offer(B, `b${i}`, 10);
    turn();
    expect(out).toHaveLength(9);
    turn();
    expect(out.at(-1)).toBe('b8');
    clock.now += 50;
    turn();
    expect(out.at(-1)).toBe('big 2');
  });

  test('refuses beyond its bytes, takes a lone big one', () => {
    const { queue } = harness(1000);
    expect(queue.offer(A, 'x', BIG_BODY_BYTES + 1)).toBe(true);
    expect(queue.offer(A, 'y', BIG_BODY_BYTES + 1)).toBe(false);
  });

  test('draining hands over all that waits, and at once what still comes', async () => {
    const { queue, out, turn } = harness();
    for (let i = 0; i < 20; i += 1) queue.offer(A, `a${i}`, 100);
    const drained = queue.drain();
    queue.offer(B, 'late', 100);
    expect(out.at(-1)).toBe('late');
    while (queue.length > 0) turn();
    await drained;
    expect(out).toHaveLength(21);
  });
});
