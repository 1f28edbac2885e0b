import { expect, test, vi } from 'vitest';
import { Departures } from './departures.ts';

const OPTIONS = { intervalMs: 60_000, busyGapMs: Number.POSITIVE_INFINITY, maxOrders: 3, maxBytes: 1_000 };

test('the first leaves at once, the next with those that come meanwhile', () => {
  vi.useFakeTimers();
  try {
    const depart = vi.fn();
    const departures = new Departures(OPTIONS, depart);
    departures.sliceEnd();
    expect(depart, 'nothing waits').toHaveBeenCalledTimes(0);
    departures.add(10);
    departures.sliceEnd();
    expect(depart).toHaveBeenCalledTimes(1);
    departures.add(10);
    departures.sliceEnd();
    vi.advanceTimersByTime(59_000);
    departures.add(10);
    departures.sliceEnd();
    expect(depart).toHaveBeenCalledTimes(1);
    vi.advanceTimersByTime(1_001);
    expect(depart).toHaveBeenCalledTimes(2);
    vi.advanceTimersByTime(60_001);
    expect(depart, 'nothing waits').toHaveBeenCalledTimes(2);
    departures.add(10);
    departures.sliceEnd();
    expect(depart, 'none has left for a while').toHaveBeenCalledTimes(3);
  } finally {
    vi.useRealTimers();
  }
});

test('orders that come seldom leave at once, each by itself', () => {
  vi.useFakeTimers();
  try {
    const depart = vi.fn();
    const departures = new Departures({ ...OPTIONS, busyGapMs: 1, maxOrders: 100 }, depart);
    const orders = (count: number, everyMs: number) => {
      depart.mockClear();
      for (let i = 0; i < count; i++) {
        vi.advanceTimersByTime(everyMs);
        departures.add(1);
        departures.sliceEnd();
      }
    };
    orders(10, 3);
    orders(20, 3);
    expect(depart).toHaveBeenCalledTimes(20);
    orders(20, 0.25);
    expect(depart.mock.calls.length, 'many: they wait').toBeLessThan(15);
    orders(1, 10);
    departures.now();
    orders(20, 3);
    expect(depart, 'few again').toHaveBeenCalledTimes(20);
  } finally {
    vi.useRealTimers();
  }
});

test.each([
  ['number', [1, 1, 1]],
  ['bytes', [500, 500]],
])('what waits is bounded in %s', (_, sizes) => {
  const depart = vi.fn();
  const departures = new Departures(OPTIONS, depart);
  departures.add(1);
  departures.sliceEnd();
  depart.mockClear();
  for (const bytes of sizes) {
    expect(depart).toHaveBeenCalledTimes(0);
    departures.add(bytes);
    departures.sliceEnd();
  }
  expect(depart).toHaveBeenCalledTimes(1);
  departures.now();
  expect(depart).toHaveBeenCalledTimes(1);
});

test('leaves when told to, and not again by the clock', () => {
  vi.useFakeTimers();
  try {
    const depart = vi.fn();
    const departures = new Departures(OPTIONS, depart);
    for (let i = 0; i < 2; i++) {
      departures.add(1);
      departures.sliceEnd();
    }
    departures.now();
    expect(depart).toHaveBeenCalledTimes(2);
    expect(vi.getTimerCount()).toBe(0);
  } finally {
    vi.useRealTimers();
  }
});
