import { expect, test } from 'vitest';
import { renderPage } from './page.ts';
import type { Report } from './report.ts';
import { scaleOf } from './scale.ts';
import { type Chart, formatNumber, type Section, tableOf } from './section.ts';
import { renderSections } from './text.ts';

const linear = { label: 'x', scale: 'linear' } as const;
const lines: Chart = {
  kind: 'lines',
  title: 'lines',
  x: linear,
  y: { label: 'ms', scale: 'log' },
  series: [
    {
      name: 'a',
      points: [
        [1, 10],
        [2, null],
        [3, 1000],
      ],
    },
    {
      name: 'b',
      points: [
        [1, 20],
        [3, 30],
      ],
    },
  ],
  mark: { y: 50, label: 'bound' },
};
const stacked: Chart = {
  kind: 'stacked',
  title: 'stacked',
  unit: 'µs',
  bars: [
    {
      name: 'one',
      parts: [
        { name: 'p', value: 3 },
        { name: 'q', value: 1 },
      ],
    },
    { name: 'two', parts: [{ name: 'q', value: 2 }] },
  ],
};
const bars: Chart = {
  kind: 'bars',
  title: 'bars',
  unit: 'ns',
  groups: [
    {
      name: 'stage',
      bars: [
        { name: 'chosen', value: 1 },
        { name: 'other', value: 5000 },
      ],
    },
  ],
};
const section: Section = {
  id: 'part',
  title: 'A <part>',
  text: ['of "text" & more'],
  charts: [lines, stacked, bars],
  tables: [
    {
      title: 'table',
      headings: ['who', 'n'],
      rows: [
        ['x', 12_345.6],
        ['<y>', null],
      ],
    },
  ],
  figures: [],
  faults: [],
};

function report(changes: Partial<Section> = {}): Report {
  return {
    schema: 1,
    startedAt: '2026-01-01T00:00:00.000Z',
    machine: { cpu: 'cpu', cores: 2, memoryBytes: 2 ** 30 },
    nodeVersion: 'v26',
    platform: 'linux x64',
    commit: null,
    command: 'npm run bench -- <&>',
    seed: 'bench',
    yardstick: { 'secp256k1 verify': 40 },
    sections: [{ ...section, ...changes }],
  };
}

test('the page holds all, loads nothing and lets no text become markup', () => {
  const page = renderPage(report());
  expect(page).not.toMatch(/<script|<link|<img|src=|href="(?!#)|@import|url\(/);
  expect(page).toContain('A &lt;part&gt;');
  expect(page).toContain('&lt;y&gt;');
  expect(page).toContain('npm run bench -- &lt;&amp;&gt;');
  expect(page.match(/<svg/g)).toHaveLength(3);
  expect(page.match(/the same as a table/g)).toHaveLength(3);
  expect(page).toContain('prefers-color-scheme: dark');
  expect(page).not.toMatch(/NaN|undefined|Infinity/);
  expect(page).toContain('Nothing acknowledged was lost');
});

test('faults stand at the top of the page and behind the tables on the terminal', () => {
  const faulty = report({ faults: ['3 orders <lost>'] });
  const page = renderPage(faulty);
  expect(page.indexOf('3 orders &lt;lost&gt;')).toBeLessThan(page.indexOf('<nav>'));
  expect(page).not.toContain('Nothing acknowledged was lost');
  expect(renderSections(faulty.sections).at(-1)).toBe('  FAULT: 3 orders <lost>');
});

test('a chart without values is drawn all the same', () => {
  const empty: Chart[] = [
    { ...lines, series: [] },
    { ...stacked, bars: [] },
    { ...bars, groups: [] },
  ];
  expect(renderPage(report({ charts: empty }))).not.toMatch(/NaN|undefined|Infinity/);
});

test('a chart has its numbers as a table too', () => {
  expect(tableOf(lines)).toMatchObject({
    headings: ['x', 'a', 'b'],
    rows: [
      [1, 10, 20],
      [2, null, null],
      [3, 1000, 30],
    ],
  });
  expect(tableOf(stacked)).toMatchObject({
    headings: ['', 'one', 'two'],
    rows: [
      ['p', 3, null],
      ['q', 1, 2],
      ['together', 4, 2],
    ],
  });
  expect(tableOf(bars).rows).toEqual([
    ['stage', 'chosen', 1],
    ['stage', 'other', 5000],
  ]);
  const apart: Chart = {
    ...lines,
    series: [
      { name: 'a', points: [[1, 5]] },
      { name: 'b', points: [[2, 6]] },
    ],
  };
  expect(tableOf(apart)).toMatchObject({ headings: ['a: x', 'ms', 'b: x', 'ms'], rows: [[1, 5, 2, 6]] });
});

test('tables on the terminal line up', () => {
  const text = renderSections([section]);
  expect(text).toContain('    who       n');
  expect(text).toContain('    x    12,346');
  expect(text).toContain('    <y>       –');
});

test('numbers have as many digits as they deserve', () => {
  expect([0, 0.001234, 0.1234, 1.234, 12.34, 123.4, 1234.5].map(formatNumber)).toEqual([
    '0',
    '0.001',
    '0.12',
    '1.23',
    '12.3',
    '123',
    '1,235',
  ]);
});

test('axes begin and end at round values and hold all', () => {
  const straight = scaleOf(linear, [3, 97]);
  expect(straight.ticks.map(({ label }) => label)).toEqual(['0', '20', '40', '60', '80', '100']);
  expect([straight.at(0), straight.at(50), straight.at(100)]).toEqual([0, 0.5, 1]);
  expect(scaleOf(linear, [0, 1, 2]).ticks.map(({ label }) => label)).toEqual(['0', '1', '2']);

  const log = scaleOf({ label: '', scale: 'log' }, [0.3, 40]);
  expect(log.ticks.map(({ label }) => label)).toEqual(['0.2', '0.5', '1', '2', '5', '10', '20', '50']);
  expect(log.at(0.2)).toBeCloseTo(0, 12);
  expect(log.at(50)).toBeCloseTo(1, 12);
  expect(scaleOf({ label: '', scale: 'log' }, [7]).ticks.length).toBeGreaterThan(1);

  const nines = scaleOf({ label: '', scale: 'nines' }, []);
  expect(nines.at(0.99) - nines.at(0.9)).toBeCloseTo(nines.at(0.999) - nines.at(0.99), 9);
  expect(nines.at(1)).toBe(1);
});
