import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { expect, onTestFinished, test } from 'vitest';
import { startGuard } from './guard.ts';

const GUARD = JSON.stringify(new URL('./guard.ts', import.meta.url).href);

/** Starts a long-lived child that holds the write end of our fd 3, guards it, and lives on. */
const PARENT = `
  import { spawn } from 'node:child_process';
  import { startGuard } from ${GUARD};
  const guard = startGuard();
  const child = spawn('/bin/sleep', ['600'], { stdio: ['ignore', 'ignore', 'ignore', 3], detached: true });
  guard.add(child.pid);
  console.log('guarded');
  setInterval(() => {}, 1000);
`;

test('a child does not outlive its parent, even when that is killed with -9', async () => {
  const parent = spawn(process.execPath, ['--input-type=module', '-e', PARENT], {
    stdio: ['ignore', 'pipe', 'inherit', 'pipe'],
  });
  onTestFinished(() => void parent.kill('SIGKILL'));
  const held = parent.stdio[3] as Readable;
  held.resume();
  const [said] = (await once(parent.stdout!, 'data')) as [Buffer];
  expect(said.toString()).toBe('guarded\n');
  parent.kill('SIGKILL');
  // The pipe ends when its last holder, the child, has ended.
  await once(held, 'end');
});

test('children that have left the list are let alone, the others are stopped', async () => {
  const guard = startGuard();
  const children = [0, 1].map(() => spawn('/bin/sleep', ['600'], { stdio: 'ignore' }));
  onTestFinished(() => children.forEach((child) => void child.kill('SIGKILL')));
  const [kept, removed] = children;
  const ended = once(kept!, 'exit');
  guard.add(kept!.pid!);
  guard.add(removed!.pid!);
  guard.remove(removed!.pid!);
  await guard.close();
  expect(await ended).toEqual([null, 'SIGTERM']);
  expect(removed!.exitCode ?? removed!.signalCode).toBeNull();
});
