import { expect, test } from 'vitest';
import { Gate } from './gate.ts';
import { recordedEvents } from './testing/spool.ts';

test('it is open when no reason is left, and the gravest reason is told', () => {
  const events = recordedEvents();
  const gate = new Gate(events);
  expect(gate.refusal).toBe(null);
  gate.close('pending');
  const { refusal } = gate;
  expect(refusal).toMatchObject({
    reason: 'pending',
    message: 'the archive is behind, try again in a second',
  });
  gate.close('disk_full', new Error('ENOSPC'));
  gate.close('disk_full', new Error('ENOSPC'));
  expect([gate.reason, gate.refusal]).toMatchObject(['disk_full', { reason: 'disk_full' }]);
  gate.open('disk_full');
  expect(gate.refusal).toMatchObject({ reason: 'pending' });
  gate.open('pending');
  gate.open('pending');
  expect([gate.reason, gate.refusal]).toEqual([null, null]);
  expect(events.seen).toEqual(['gateClosed pending', 'gateClosed disk_full ENOSPC', 'gateOpened']);
});

test('a failure outweighs everything', () => {
  const gate = new Gate(recordedEvents());
  for (const reason of ['pending', 'bytes', 'failed', 'disk_full'] as const) gate.close(reason);
  expect(gate.refusal).toMatchObject({ reason: 'failed' });
});
