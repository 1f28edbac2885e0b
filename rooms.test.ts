import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, sep } from 'node:path';
import { expect, test } from 'vitest';

/** What the sources of a room may import beside themselves. Tests may use more: they need the far side. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  pipeline: [],
  identity: ['pipeline'],
  ingress: ['pipeline', 'identity'],
  egress: ['pipeline', 'identity'],
  operator: ['pipeline', 'identity', 'ingress'],
  metrics: ['pipeline', 'egress', 'operator'],
  // Programs of their own; of the project's root they take the logger alone.
  attested: ['identity', 'log.ts'],
};

/** The heart has no sockets, files or loggers. */
const FORBIDDEN_IN_PIPELINE =
  /^(?:node:(?:fs|net|http|https|http2|tls|dgram|child_process|worker_threads).*|pino|prom-client)$/;

const ROOT = import.meta.dirname;

function importsOf(file: string): string[] {
  const text = readFileSync(join(ROOT, file), 'utf8');
  return [...text.matchAll(/^(?:import|export)\b[^;]*?from '([^']+)'|^import '([^']+)'/gms)].map(
    (match) => match[1] ?? match[2] ?? '',
  );
}

test.each(Object.entries(MAY_IMPORT))('%s imports only from %j', (room, allowed) => {
  const files = globSync(`${room}/**/*.ts`, { cwd: ROOT }).filter(
    (file) => !file.endsWith('.test.ts') && !file.includes(`${sep}testing${sep}`),
  );
  expect(files.length).toBeGreaterThan(0);
  for (const file of files) {
    for (const source of importsOf(file)) {
      if (!source.startsWith('.')) {
        if (room === 'pipeline') expect(source, file).not.toMatch(FORBIDDEN_IN_PIPELINE);
        continue;
      }
      const [target = ''] = normalize(join(dirname(file), source)).split(sep);
      expect([room, ...allowed], `${file} imports ${source}`).toContain(target);
    }
  }
});
