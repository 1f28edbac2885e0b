import { expect, test } from 'vitest';
import { compareFigures, comparisonTable, comparisonText } from './compare.ts';
import type { Report } from './report.ts';
import type { Figure } from './section.ts';

function figure(name: string, samples: readonly number[], better: Figure['better'] = 'lower'): Figure {
  return { name, unit: 'ms', better, samples };
}

function report(changes: Partial<Report> = {}): Report {
  return {
    schema: 1,
    startedAt: '2026-01-01T00:00:00.000Z',
    machine: { cpu: 'a', cores: 2, memoryBytes: 1 },
    nodeVersion: 'v26',
    platform: 'linux x64',
    commit: 'abc',
    command: 'npm run bench',
    seed: 'bench',
    yardstick: { verify: 36 },
    sections: [],
    ...changes,
  };
}

const LOW = [1, 1.1, 1.2, 1.3, 1.4];
const HIGH = [2, 2.1, 2.2, 2.3, 2.4];

test('what does not overlap in five runs is outside the noise, in the direction the figure has', () => {
  const rows = compareFigures(
    [figure('latency', LOW), figure('rate', LOW, 'higher'), figure('slower', LOW), figure('same', LOW)],
    [
      figure('latency', HIGH),
      figure('rate', HIGH, 'higher'),
      figure('slower', [0.5, 0.6, 0.4, 0.3, 0.2]),
      figure('same', LOW),
    ],
  );
  expect(rows.map(({ verdict }) => verdict)).toEqual(['worse', 'better', 'better', 'within the noise']);
  expect(rows[0]).toMatchObject({ medianA: 1.2, medianB: 2.2, p: 2 / 252 });
});

test('one overlap in five runs, and three runs, are not enough', () => {
  const rows = compareFigures(
    [figure('overlaps', LOW), figure('three', LOW.slice(0, 3)), figure('gone', LOW), figure('empty', [])],
    [
      figure('overlaps', [1.35, 2, 2, 2, 2]),
      figure('three', HIGH.slice(0, 3)),
      figure('new', HIGH),
      figure('empty', LOW),
    ],
  );
  expect(rows.map(({ name, verdict }) => [name, verdict])).toEqual([
    ['overlaps', 'within the noise'],
    ['three', 'too few runs'],
  ]);
});

test('says in words what changed, by how much, and what is in the way', () => {
  const rows = compareFigures(
    [figure('p99', LOW), figure('p50', LOW), figure('few', [1])],
    [figure('p99', HIGH), figure('p50', LOW), figure('few', [9])],
  );
  const lines = comparisonText(
    report(),
    report({ nodeVersion: 'v27', yardstick: { verify: 50 }, command: 'npm run bench --quick --out /tmp/b' }),
    rows,
  );
  expect(lines).toEqual([
    'CAREFUL: different Node: v26 and v27',
    'CAREFUL: different command: npm run bench and npm run bench --quick',
    'CAREFUL: the machine was not equally fast: verify 36.00 and 50.00 µs',
    expect.stringMatching(
      /^WORSE: p99: 1\.20 → 2\.20 ms \(\+83 %, 95 % of resamples \+\d+ % to \+\d+ %\), p = 0\.0079$/,
    ),
    '1 of 3 figures have too few runs to tell: at least five on each side (--repeats 5).',
    '1 of 3 figures are within the noise.',
    'Of as many figures, fewer than one would look changed by chance.',
  ]);
  expect(comparisonTable(rows).rows).toHaveLength(3);
  const elsewhere = report({ command: 'npm run bench --out=/tmp/c' });
  expect(comparisonText(report(), elsewhere, [])).toEqual(['The two reports have no figure in common.']);
});

test('a figure that was 0 has no ratio', () => {
  const [row] = compareFigures([figure('lost', [0, 0, 0, 0, 0])], [figure('lost', [1, 1, 1, 1, 1])]);
  expect(row).toMatchObject({ ratio: null, verdict: 'worse' });
});
