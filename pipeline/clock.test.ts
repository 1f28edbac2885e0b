import { expect, test } from 'vitest';
import { createClock } from './clock.ts';

test('never repeats and never goes back, whatever the system clock does', () => {
  let wall = 1_000_000;
  let monotonic = 0;
  const clock = createClock(
    () => wall,
    () => monotonic,
  );
  const first = clock();
  expect(first).toBe(1_000_000_000);
  expect(clock()).toBe(first + 1);
  wall -= 60_000; // stepped back by a minute
  monotonic += 1;
  expect(clock()).toBe(first + 2);
  monotonic += 0.5;
  expect(clock()).toBe(first + 3);
  wall += 120_000; // and forward again
  monotonic += 0.5;
  expect(clock()).toBeGreaterThan(first + 59_000_000);
});

test('runs between the milliseconds of the system clock', () => {
  const clock = createClock(
    () => 5000,
    () => 0.25,
  );
  const later = createClock(
    () => 5000,
    () => 0.25,
  );
  expect(clock()).toBe(later());
  const times = Array.from({ length: 1000 }, createClock());
  for (let i = 1; i < times.length; i += 1) expect(times[i]! > times[i - 1]!).toBe(true);
  expect(Math.abs(times[0]! / 1000 - Date.now())).toBeLessThan(1000);
});
