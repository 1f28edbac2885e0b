/**
 * Puts two reports side by side and says which differences are outside the noise.
 *
 * A difference counts when the exact rank test over the repeated runs gives p ≤ 0.01; its size is the ratio of the
 * medians with a bootstrap interval. Five runs on each side are the least that can show anything at that level.
 * Noise between the two runs of the bench (another tenant, another kernel) is not in the samples: run both on the
 * same machine, one right after the other, or interleaved with `load --against`.
 */
import type { Report } from './report.ts';
import { type Figure, formatNumber, type Table } from './section.ts';
import { leastP, median, rankTest, ratioInterval } from './statistics.ts';

/** Least p at which a difference is called one. */
const SIGNIFICANCE = 0.01;
/** Yardsticks further apart than this are not one machine in one state. */
const SAME_MACHINE = 0.1;

export type Verdict = 'better' | 'worse' | 'within the noise' | 'too few runs';

export interface Comparison {
  readonly name: string;
  readonly unit: string;
  readonly medianA: number;
  readonly medianB: number;
  /** B over A; null where A is 0. */
  readonly ratio: number | null;
  readonly interval: readonly [number, number];
  readonly p: number;
  readonly verdict: Verdict;
}

/** @returns one row per figure that both have samples of, in A's order. */
export function compareFigures(a: readonly Figure[], b: readonly Figure[]): Comparison[] {
  const others = new Map(b.filter(hasSamples).map((figure) => [figure.name, figure]));
  const rows: Comparison[] = [];
  for (const figure of a.filter(hasSamples)) {
    const other = others.get(figure.name);
    if (other !== undefined && other.unit === figure.unit) rows.push(compareOne(figure, other));
  }
  return rows;
}

function hasSamples({ samples }: Figure): boolean {
  return samples.length > 0;
}

function compareOne(a: Figure, b: Figure): Comparison {
  const [medianA, medianB] = [median(a.samples), median(b.samples)];
  const p = rankTest(a.samples, b.samples);
  return {
    name: a.name,
    unit: a.unit,
    medianA,
    medianB,
    ratio: medianA === 0 ? null : medianB / medianA,
    interval: ratioInterval(a.samples, b.samples),
    p,
    verdict: verdictOf(a, b, p, medianB - medianA),
  };
}

function verdictOf(a: Figure, b: Figure, p: number, change: number): Verdict {
  if (leastP(a.samples.length, b.samples.length) > SIGNIFICANCE) return 'too few runs';
  if (p > SIGNIFICANCE || change === 0) return 'within the noise';
  return change < 0 === (a.better === 'lower') ? 'better' : 'worse';
}

/** In words: what is outside the noise, and what stands in the way of taking it at its word. */
export function comparisonText(a: Report, b: Report, rows: readonly Comparison[]): string[] {
  const lines = surroundingsText(a, b);
  if (rows.length === 0) return [...lines, 'The two reports have no figure in common.'];
  const changed = rows.filter(({ verdict }) => verdict === 'better' || verdict === 'worse');
  const few = rows.filter(({ verdict }) => verdict === 'too few runs').length;
  for (const row of changed) lines.push(sentence(row));
  if (few > 0) {
    lines.push(
      `${few} of ${rows.length} figures have too few runs to tell: at least five on each side (--repeats 5).`,
    );
  }
  const quiet = rows.length - changed.length - few;
  if (quiet > 0) lines.push(`${quiet} of ${rows.length} figures are within the noise.`);
  const byChance = (rows.length - few) * SIGNIFICANCE;
  if (changed.length > 0) {
    lines.push(
      `Of as many figures, ${byChance < 1 ? 'fewer than one' : `about ${byChance.toFixed(0)}`} would look changed by chance.`,
    );
  }
  return lines;
}

function sentence({ name, unit, medianA, medianB, ratio, interval, p, verdict }: Comparison): string {
  const by =
    ratio === null
      ? ''
      : ` (${ratio >= 1 ? '+' : '−'}${Math.abs((ratio - 1) * 100).toFixed(0)} %, 95 % of resamples ${percent(interval[0])} to ${percent(interval[1])})`;
  return `${verdict.toUpperCase()}: ${name}: ${formatNumber(medianA)} → ${formatNumber(medianB)} ${unit}${by}, p = ${p.toPrecision(2)}`;
}

function percent(ratio: number): string {
  return Number.isFinite(ratio)
    ? `${ratio >= 1 ? '+' : '−'}${Math.abs((ratio - 1) * 100).toFixed(0)} %`
    : '–';
}

/** Differences of where and with what the two were made. */
function surroundingsText(a: Report, b: Report): string[] {
  const lines: string[] = [];
  const differ = (what: string, one: string, other: string) => {
    if (one !== other) lines.push(`CAREFUL: different ${what}: ${one} and ${other}`);
  };
  differ('machine', a.machine.cpu, b.machine.cpu);
  differ('number of cores', String(a.machine.cores), String(b.machine.cores));
  differ('Node', a.nodeVersion, b.nodeVersion);
  differ('seed', a.seed, b.seed);
  differ('command', withoutOut(a.command), withoutOut(b.command));
  for (const [name, one] of Object.entries(a.yardstick)) {
    const other = b.yardstick[name];
    if (other === undefined || Math.abs(other / one - 1) <= SAME_MACHINE) continue;
    lines.push(
      `CAREFUL: the machine was not equally fast: ${name} ${one.toFixed(2)} and ${other.toFixed(2)} µs`,
    );
  }
  return lines;
}

/** Where a report was written to changes nothing in it. */
function withoutOut(command: string): string {
  return command.replace(/ --out[= ]\S+/, '');
}

/** All of it as a table. */
export function comparisonTable(rows: readonly Comparison[]): Table {
  return {
    title: 'figure by figure',
    headings: ['figure', 'unit', 'A', 'B', 'B / A', '95 %', 'p', 'verdict'],
    rows: rows.map(({ name, unit, medianA, medianB, ratio, interval, p, verdict }) => [
      name,
      unit,
      medianA,
      medianB,
      ratio === null ? null : ratio.toFixed(2),
      ratio === null ? null : `${interval[0].toFixed(2)}–${interval[1].toFixed(2)}`,
      p.toFixed(3),
      verdict,
    ]),
  };
}
