import { describe, expect, test } from 'vitest';
import { BIG_BODY_BYTES, FairQueue } from './fair-queue.ts';

function harness(maxBytes = 1e9, maxBurstWaitMs = 1e6, maxWaitMs = 1e6) {
  const out: string[] = [];
  const turns: (() => void)[] = [];
  const clock = { now: 1 };
  const queue = new FairQueue<string>(
    { maxBytes, maxWaitMs, maxBurstWaitMs },
    {
      submit: (item) => void out.push(item),
      schedule: (turn) => void turns.push(turn),
      now: () => clock.now,
    },
  );
  return { queue, out, clock, turns, turn: () => turns.shift()?.() };
}

const A = { name: 'a', unanswered: 1 };
const B = { name: 'b', unanswered: 1 };

describe('FairQueue', () => {
  test('hands over at once while a turn has room', () => {
    const { queue, out } = harness();
    for (let i = 0; i < 8; i += 1) queue.offer(A, 'users', `a${i}`, 100);
    expect([out.length, queue.length]).toEqual([8, 0]);
    queue.offer(A, 'users', 'a8', 100);
    expect([out.length, queue.length, queue.bytes]).toEqual([8, 1, 100]);
  });

  test('a connection with a thousand waiting delays its own, not another', () => {
    const { queue, out, turn } = harness();
    for (let i = 0; i < 1000; i += 1) queue.offer(A, 'users', `a${i}`, 100);
    queue.offer(B, 'users', 'b', 100);
    turn();
    expect(out).toHaveLength(16);
    expect(out).toContain('b');
    while (queue.length > 0) turn();
    expect(out.filter((item) => item !== 'b')).toEqual(Array.from({ length: 1000 }, (_, i) => `a${i}`));
    expect(queue.bytes).toBe(0);
  });

  test('after a big body the small ones get as much time as it took', () => {
    const { queue, out, clock, turn } = harness();
    queue.offer(A, 'users', 'big 1', BIG_BODY_BYTES + 1);
    queue.offer(A, 'users', 'big 2', BIG_BODY_BYTES + 1);
    turn();
    expect(out).toEqual(['big 1']);
    clock.now += 50;
    for (let i = 0; i < 9; i += 1) queue.offer(B, 'users', `b${i}`, 10);
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
    expect(queue.offer(A, 'users', 'x', BIG_BODY_BYTES + 1)).toBeNull();
    expect(queue.offer(A, 'users', 'y', BIG_BODY_BYTES + 1)?.kind).toBe('overloaded');
  });

  test('peers, known connections, and newcomers take turns', () => {
    const { queue, out, clock, turn } = harness();
    const [peer, newcomer] = [{ unanswered: 1 }, { unanswered: 1 }];
    for (let i = 0; i < 8; i += 1) queue.offer(A, 'users', `a${i}`, 100);
    clock.now += 1000;
    for (let i = 8; i < 16; i += 1) queue.offer(A, 'users', `a${i}`, 100);
    for (let i = 0; i < 8; i += 1) queue.offer(peer, 'peers', `p${i}`, 100);
    for (let i = 0; i < 8; i += 1) queue.offer(newcomer, 'users', `n${i}`, 100);
    out.length = 0;
    turn();
    expect(out).toEqual(['p0', 'a8', 'n0', 'p1', 'a9', 'n1', 'p2', 'a10']);
  });

  test('the second orders of a crowd of newcomers stand behind the first ones, and not before who is known', () => {
    const { queue, out, clock, turn } = harness();
    const crowd = Array.from({ length: 100 }, () => ({ unanswered: 1 }));
    for (let i = 0; i < 8; i += 1) queue.offer(A, 'users', `a${i}`, 100);
    clock.now += 1000;
    for (const [i, one] of crowd.entries()) queue.offer(one, 'users', `first ${i}`, 100);
    turn();
    for (const [i, one] of crowd.slice(0, 8).entries()) queue.offer(one, 'users', `second ${i}`, 100);
    queue.offer(A, 'users', 'known', 100);
    out.length = 0;
    turn();
    expect(out.slice(0, 2)).toContain('known');
    while (queue.length > 0) turn();
    expect(out.indexOf('second 0')).toBeGreaterThan(out.indexOf('first 99'));
  });

  test('a newcomer that always has something waiting is known after a second', () => {
    const { queue, out, clock, turn } = harness();
    for (let i = 0; i < 100; i += 1) queue.offer(A, 'users', `a${i}`, 100);
    clock.now += 1000;
    turn();
    for (let i = 0; i < 100; i += 1) queue.offer({ unanswered: 1 }, 'users', 'first', 100);
    out.length = 0;
    turn();
    expect(out.filter((item) => item === 'first')).toHaveLength(4);
  });

  test('to become known does not end the burst of what a connection has waiting', () => {
    const { queue, clock, turn } = harness(1e9, 1000, 10);
    for (let i = 0; i < 200; i += 1) queue.offer(A, 'users', `a${i}`, 100);
    clock.now = 990;
    turn();
    // A second after its first turn it takes what waits to the lane of known connections, which was empty until then.
    clock.now = 1002;
    turn();
    expect(queue.waitMs).toBeGreaterThan(10);
    expect(queue.refusal(A, 'users', 100)).toBeNull();
  });

  test('where every turn takes long, who waits for answers is taken behind few connections, who sends on is not', () => {
    const { queue, clock, turn } = harness(1e9, 1000, 10);
    const patient = { unanswered: 1 };
    const hasty = { unanswered: 2 };
    const crowd = Array.from({ length: 50 }, () => ({ unanswered: 1 }));
    const everybody = [patient, hasty, ...crowd];
    for (let i = 0; i < 100; i += 1) {
      for (const sender of everybody) {
        if (queue.refusal(sender, 'users', 100) === null) queue.offer(sender, 'users', 'x', 100);
      }
      for (let turns = 0; turns < 6; turns += 1) turn();
      clock.now += 300;
    }
    for (const sender of crowd) queue.offer(sender, 'users', 'x', 100);
    expect(queue.waitMs).toBeGreaterThan(100);
    expect(queue.refusal(patient, 'users', 100)).toBeNull();
    expect(queue.refusal(hasty, 'users', 100)?.kind).toBe('overloaded');
  });

  test('a quarter of the bytes is for peers alone', () => {
    const { queue } = harness(1000);
    for (let i = 0; i < 8; i += 1) queue.offer(A, 'users', 'x', 10);
    queue.offer(A, 'users', 'waits', 700);
    expect(queue.offer(B, 'users', 'y', 100)?.message).toContain('bytes');
    expect(queue.offer({ unanswered: 1 }, 'peers', 'z', 100)).toBeNull();
  });

  test('big bodies wait no longer than a burst', () => {
    const { queue } = harness(1e9, 100);
    const bytes = 1 << 20;
    // 1 MiB is 14 ms, and what is small may come between.
    let taken = 0;
    while (queue.offer({ unanswered: 1 }, 'users', 'big', bytes) === null) taken += 1;
    expect(taken).toBe(Math.floor(100 / 14.5) + 1);
    expect(queue.refusal(A, 'users', bytes)?.kind).toBe('overloaded');
    expect(queue.refusal(A, 'users', 100)).toBeNull();
    expect(queue.refusal(A, 'peers', bytes)).toBeNull();
  });

  test('draining hands over all that waits, and at once what still comes', async () => {
    const { queue, out, turn } = harness();
    for (let i = 0; i < 20; i += 1) queue.offer(A, 'users', `a${i}`, 100);
    const drained = queue.drain();
    queue.offer(B, 'users', 'late', 100);
    expect(out.at(-1)).toBe('late');
    while (queue.length > 0) turn();
    await drained;
    expect(out).toHaveLength(21);
    expect(queue.refusal(A, 'users', 100)).toBeNull();
  });
});
