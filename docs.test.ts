import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { PAGES, withTables } from './docs.ts';
import { OPERATOR_BOUNDS } from './operator/bounds.ts';
import { configRows } from './operator/config-settings.ts';
import { BOUNDS } from './pipeline/bounds.ts';
import { settingRows } from './settings.ts';

const readme = readFileSync(join(import.meta.dirname, 'README.md'), 'utf8');

test.each(Object.entries(PAGES))('%s has the tables of the code (npm run docs)', (page, sections) => {
  const text = readFileSync(join(import.meta.dirname, page), 'utf8');
  expect(withTables(text, sections)).toBe(text);
});

test('every path that the README names is there', () => {
  const paths = [...readme.matchAll(/\]\(([^)#:]+)\)/g)].map((match) => match[1] ?? '');
  expect(paths.length).toBeGreaterThan(0);
  for (const path of paths) expect(existsSync(join(import.meta.dirname, path)), path).toBe(true);
});

test('every npm script that the README names is there', () => {
  const { scripts } = JSON.parse(readFileSync(join(import.meta.dirname, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>;
  };
  const named = [...readme.matchAll(/npm run ([a-z][a-z:-]*)/g)].map((match) => match[1] ?? '');
  expect(named.length).toBeGreaterThan(0);
  for (const name of named) expect(scripts).toHaveProperty([name]);
});

test('every setting that a bound names exists', () => {
  const names = new Set(settingRows().flatMap((row) => row.env.split(', ')));
  for (const { setting } of BOUNDS) if (setting !== null) expect(names).toContain(setting);
});

test('every key that a bound of the operator API names exists', () => {
  const keys = new Set(configRows().map(({ key }) => key));
  for (const { setting } of OPERATOR_BOUNDS) if (setting !== null) expect(keys).toContain(setting);
});
