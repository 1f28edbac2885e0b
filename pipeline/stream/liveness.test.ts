import { describe, expect, test } from 'vitest';
import { ClockOffset, LIVENESS, Liveness } from './liveness.ts';

/** Ticks as a timer does, until something but a ping is due. */
function silentAfterMs(liveness: Liveness, fromMs: number): number {
  for (let now = fromMs; ; now += LIVENESS.tickMs) if (liveness.tick(now) === 'silent') return now - fromMs;
}

describe('liveness', () => {
  test('pings every second, whatever comes', () => {
    const liveness = new Liveness(0);
    const due: (string | null)[] = [];
    for (let now = 500; now <= 3_000; now += 500) {
      liveness.heard(now);
      due.push(liveness.tick(now));
    }
    expect(due).toEqual([null, 'ping', null, 'ping', null, 'ping']);
  });

  test('a connection on which nothing comes is given up within five seconds', () => {
    expect(silentAfterMs(new Liveness(0), 0)).toBeLessThanOrEqual(4_500);
    const heard = new Liveness(0);
    heard.heard(499);
    expect(silentAfterMs(heard, 500)).toBeLessThanOrEqual(5_000 - LIVENESS.tickMs);
  });

  test('a blackout of a second, and the second until TCP sends again, are outlived', () => {
    const liveness = new Liveness(0);
    for (let now = 500; now <= 3_500; now += 500) expect(liveness.tick(now)).not.toBe('silent');
  });

  test('a process that stood still does not take itself for deaf', () => {
    const liveness = new Liveness(0);
    liveness.tick(500);
    expect(liveness.tick(60_000)).not.toBe('silent');
    expect(silentAfterMs(liveness, 60_500)).toBeGreaterThan(1_000);
  });
});

describe('the other clock', () => {
  test('its lead, by the shortest way there and back of the last eight', () => {
    const clock = new ClockOffset();
    expect(clock.known).toBe(false);
    // 1,000 µs ahead; 40 there and 40 back, then 500 there and 40 back.
    clock.sample(10_000, 10_080, 11_040);
    clock.sample(20_000, 20_540, 21_500);
    expect([clock.known, clock.offsetUs, clock.roundTripUs]).toEqual([true, 1_000, 80]);
    for (let i = 0; i < 8; i++) clock.sample(30_000, 30_200, 30_100 - 5_000);
    expect(clock.offsetUs).toBe(-5_000);
  });

  test('an answer from before the question tells nothing', () => {
    const clock = new ClockOffset();
    clock.sample(10_000, 9_000, 1);
    expect(clock.known).toBe(false);
  });
});
