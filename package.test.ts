import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { NODE_FLAGS } from './devnet/node-process.ts';

const manifest = JSON.parse(readFileSync(new URL('package.json', import.meta.url), 'utf8')) as Record<
  'dependencies' | 'devDependencies' | 'optionalDependencies' | 'scripts',
  Record<string, string>
>;

test.each(['dependencies', 'devDependencies', 'optionalDependencies'] as const)(
  'every one of %s is pinned exactly',
  (kind) => {
    const loose = Object.entries(manifest[kind]).filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version));
    expect(loose).toEqual([]);
  },
);

test('what tests and benches start is started as in production', () => {
  expect(manifest.scripts['node']).toBe(`node ${NODE_FLAGS.join(' ')} main.ts`);
  const service = readFileSync(new URL('image/services/orderflow.ts', import.meta.url), 'utf8');
  expect(service).toContain(`\${NODE} ${NODE_FLAGS.join(' ')} \${APP}/main.js`);
});
