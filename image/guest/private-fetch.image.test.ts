/** The step that fetches private programs, as a process of its own, with a release host that answers as the test says. */

import { hash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { outputOf } from '../testing/world.ts';

type Answer = (response: ServerResponse, right: string) => void;

const right: Answer = (response, text) => void response.end(text);
const another: Answer = (response, text) => void response.end(text.replaceAll('a', 'b'));
const longer: Answer = (response, text) => void response.end(`${text}\n`);
const shorter: Answer = (response, text) => void response.end(text.slice(1));
const missing: Answer = (response) => void response.writeHead(404).end();
const cutOff: Answer = (response, text) => {
  response.writeHead(200, { 'content-length': text.length });
  response.write(text.slice(1), () => response.destroy());
};

test('a program is there when it is the one of the image; another one is thrown away and fetched again', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'image-private-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const target = join(folder, 'private');
  mkdirSync(target);
  // What a run that was ended in the middle has left: it could not be written to by the step's own user.
  writeFileSync(join(target, '.one'), 'half of it', { mode: 0o555 });
  const text = (name: string): string => `a program: ${name}`.repeat(1000);
  const answers: Record<string, Answer[]> = {
    one: [another, another, right],
    two: [longer, right],
    three: [cutOff, right],
    four: [shorter, right],
    five: [missing, right],
  };
  const names = Object.keys(answers);
  const list = names.map((name) => ({ name, size: text(name).length, sha256: hash('sha256', text(name)) }));
  writeFileSync(join(folder, 'list.json'), JSON.stringify(list));
  writeFileSync(join(folder, 'token'), 'a-token\n');
  /** Each request with its credentials and what is in the folder when it comes. */
  const asked: string[] = [];
  const releases = createServer((request, response) => {
    const name = (request.url ?? '').slice(1);
    const there = readdirSync(target).filter((file) => file !== '.one' || asked.length > 0);
    asked.push([name, request.headers.authorization, ...there.sort()].join(' '));
    (answers[name]?.shift() ?? missing)(response, text(name));
  });
  await new Promise<void>((resolve) => releases.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void releases.close());
  const env = {
    LIST: join(folder, 'list.json'),
    RELEASES: `http://127.0.0.1:${(releases.address() as { port: number }).port}`,
    TARGET: target,
    CREDENTIALS_DIRECTORY: folder,
  };
  const fetchAll = () => outputOf('image/guest/private-fetch.ts', [], { env });
  const { status, output } = await fetchAll();
  expect(asked).toEqual([
    'one Bearer a-token',
    'one Bearer a-token',
    'one Bearer a-token',
    'two Bearer a-token one',
    'two Bearer a-token one',
    'three Bearer a-token one two',
    'three Bearer a-token one two',
    'four Bearer a-token one three two',
    'four Bearer a-token one three two',
    'five Bearer a-token four one three two',
    'five Bearer a-token four one three two',
  ]);
  expect(status).toBe(0);
  expect(output).toMatch(
    /^private programs: one: it is \d+ bytes of sha256 [0-9a-f]{64}; next try in 2 s$/mu,
  );
  expect(output).not.toContain('a-token');
  expect(readdirSync(target).sort()).toEqual(names.toSorted());
  for (const name of names) {
    expect(readFileSync(join(target, name), 'utf8'), name).toBe(text(name));
    expect(statSync(join(target, name)).mode.toString(8), name).toBe('100555');
  }
  // The step again: what is there was checked when it came.
  expect((await fetchAll()).status).toBe(0);
  expect(asked).toHaveLength(11);
});
