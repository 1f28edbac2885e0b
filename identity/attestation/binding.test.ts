import type { TLSSocket } from 'node:tls';
import { expect, test } from 'vitest';
import { Binding, connectionReportData } from './binding.ts';
import { mockAppraiser, mockSide } from './testing/mock-world.ts';

/** All that a binding asks a connection for. */
function connection(exporter: number): TLSSocket {
  return { exportKeyingMaterial: () => Buffer.alloc(32, exporter) } as Partial<TLSSocket> as TLSSocket;
}

const certificate = Buffer.from('a certificate');

test('a quote about this connection and this certificate, and no other', async () => {
  const { machine } = await mockSide('a');
  const appraiser = await mockAppraiser(machine, 'a');
  const right = machine.quote(connectionReportData(connection(1), certificate));
  const binding = new Binding(connection(1), certificate, appraiser);
  expect(binding.held).toBe(false);
  expect(await binding.prove(right)).toBeUndefined();
  expect(binding.held).toBe(true);
  for (const other of [
    new Binding(connection(2), certificate, appraiser),
    new Binding(connection(1), Buffer.from('another'), appraiser),
  ]) {
    expect(await other.prove(right)).toEqual({
      refused: 'binding',
      reason: 'the quote is about another connection',
    });
    expect(other.held).toBe(false);
  }
});

test('one try', async () => {
  const { machine } = await mockSide('a');
  const binding = new Binding(connection(1), certificate, await mockAppraiser(machine, 'a'));
  const wrong = await binding.prove(machine.quote(Buffer.alloc(64)));
  expect(wrong).toMatchObject({ refused: 'binding' });
  expect(await binding.prove(machine.quote(connectionReportData(connection(1), certificate)))).toEqual(wrong);
  expect(binding.held).toBe(false);
});
