/** Where values stand on an axis, and which of them get a label. */
import type { Axis } from './section.ts';

export interface Scale {
  /** @returns 0 at the axis' start to 1 at its end; beyond, what lies outside. */
  at(value: number): number;
  readonly ticks: readonly { readonly value: number; readonly label: string }[];
}

/** Shares closer to 1 than this are drawn at the end of a `nines` axis. */
const LAST_NINE = 0.9999;

/**
 * @param values all that will be drawn; linear axes of positive values begin at 0
 */
export function scaleOf(axis: Axis, values: readonly number[]): Scale {
  const finite = values.filter(Number.isFinite);
  if (axis.scale === 'nines') return nines();
  if (axis.scale === 'log') return logarithmic(finite.filter((value) => value > 0));
  return linear(finite);
}

function linear(values: readonly number[]): Scale {
  const low = Math.min(0, ...values);
  const high = Math.max(low + Number.EPSILON, ...values);
  // Counts (of peers, of shards) get no halves.
  const least = values.length > 0 && values.every(Number.isInteger) ? 1 : 0;
  const step = Math.max(least, niceStep((high - low) / 5));
  const first = Math.floor(low / step) * step;
  const last = Math.ceil(high / step - 1e-9) * step;
  const count = Math.max(1, Math.round((last - first) / step));
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  const ticks = Array.from({ length: count + 1 }, (_, index) => {
    const value = first + index * step;
    return { value, label: grouped(value, digits) };
  });
  return { at: (value) => (value - first) / (last - first), ticks };
}

/** 1, 2 or 5 times a power of ten, not below the step asked for. */
function niceStep(step: number): number {
  const power = 10 ** Math.floor(Math.log10(step));
  const factor = [1, 2, 5, 10].find((candidate) => candidate * power >= step * (1 - 1e-9)) ?? 10;
  return factor * power;
}

function logarithmic(values: readonly number[]): Scale {
  const low = Math.log10(values.length === 0 ? 1 : Math.min(...values));
  const high = Math.log10(values.length === 0 ? 10 : Math.max(...values));
  // Narrow ranges get labels at 1, 2, 5; wide ones at the powers of ten alone.
  const factors = high - low > 3 ? [1] : [1, 2, 5];
  const marks: number[] = [];
  for (let power = Math.floor(low) - 1; power <= Math.ceil(high) + 1; power++) {
    for (const factor of factors) marks.push(factor * 10 ** power);
  }
  const first = marks.findLast((mark) => Math.log10(mark) <= low + 1e-9) ?? 1;
  const last = marks.find((mark) => Math.log10(mark) >= high - 1e-9 && mark > first) ?? 10;
  const [start, end] = [Math.log10(first), Math.log10(last)];
  const ticks = marks
    .filter((mark) => mark >= first && mark <= last)
    .map((value) => ({ value, label: grouped(value, Math.max(0, -Math.floor(Math.log10(value)))) }));
  return { at: (value) => (Math.log10(Math.max(value, first)) - start) / (end - start), ticks };
}

function nines(): Scale {
  const end = -Math.log10(1 - LAST_NINE);
  return {
    at: (share) => Math.min(1, -Math.log10(Math.max(1 - share, 1e-12)) / end),
    ticks: [0, 0.5, 0.9, 0.99, 0.999, 0.9999].map((value) => ({
      value,
      label: `${Number((value * 100).toFixed(2))} %`,
    })),
  };
}

function grouped(value: number, digits: number): string {
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
