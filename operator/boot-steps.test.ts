import { expect, test } from 'vitest';
import { BootSteps } from './boot-steps.ts';

const at = (receivedAt: string, message: string) => ({ receivedAt, message });

test('steps are shown in the expected order, each in its last state', () => {
  const steps = new BootSteps(['network', 'disk']);
  steps.observe(at('1', 'boot disk running'));
  steps.observe(at('2', 'boot other done'));
  steps.observe(at('3', 'boot disk failed no LUKS header: 0 bytes'));
  expect(steps.list()).toEqual([
    { name: 'network', state: 'pending', since: '', detail: '' },
    { name: 'disk', state: 'failed', since: '3', detail: 'no LUKS header: 0 bytes' },
    { name: 'other', state: 'done', since: '2', detail: '' },
  ]);
});

test.each([
  'boot',
  'boot disk',
  'boot disk gone',
  'Boot disk done',
  ' boot disk done',
  'boot a/b done',
  'boot disk doneness',
])('%j is no step', (message) => {
  const steps = new BootSteps([]);
  steps.observe(at('1', message));
  expect(steps.list()).toEqual([]);
});

test('names are bounded in number, known ones go on', () => {
  const steps = new BootSteps(['disk']);
  for (let i = 0; i < 1000; i++) steps.observe(at('1', `boot s${i} done`));
  steps.observe(at('2', 'boot disk done'));
  expect(steps.list()).toHaveLength(64);
  expect(steps.list()[0]).toMatchObject({ name: 'disk', state: 'done' });
});
