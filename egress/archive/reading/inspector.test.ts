import { expect, test } from 'vitest';
import { createSigner } from '../../../identity/signature.ts';
import { keccak256Hex } from '../../../pipeline/keccak.ts';
import type { ArchiveRecord } from '../record.ts';
import { Journal, signedOrders } from '../testing/journal.ts';
import { Inspector } from './inspector.ts';

const inspector = new Inspector();

function archived(count: number): ArchiveRecord[] {
  const journal = new Journal();
  return signedOrders(count).map((order) => journal.add(order));
}

test('orders of every method pass', () => {
  const records = archived(120);
  expect(new Set(records.map(({ method }) => method)).size).toBe(4);
  for (const record of records) expect(inspector.orderProblem(record), record.method ?? '').toBeNull();
});

test('an order that is not what its headers say is found', () => {
  const records = archived(60);
  const bundle = records.find(({ method }) => method === 'eth_sendBundle')!;
  const raw = records.find(({ method }) => method === 'eth_sendRawTransaction')!;
  const problem = (record: ArchiveRecord) => inspector.orderProblem(record);
  expect(problem({ ...bundle, signer: `0x${'7'.repeat(40)}` })).toMatch(/another signer/);
  expect(problem({ ...bundle, hash: `0x${'7'.repeat(64)}` })).toMatch(/another hash/);
  expect(problem({ ...raw, method: 'eth_sendBundle' })).toMatch(/another method/);
  expect(problem({ ...bundle, value: Buffer.from(` ${bundle.value.toString()}`) })).toMatch(/canonical form/);
  const sameLength = bundle.value.toString().replace('"id":0', '"id":1');
  expect(problem({ ...bundle, value: Buffer.from(sameLength) })).toMatch(/canonical form/);
  expect(problem({ ...bundle, value: Buffer.from('no JSON') })).toMatch(/no request/);
});

/** The value with its last transaction's s above the group's order: such a signature belongs to no key. */
function withDamagedSignature({ value }: ArchiveRecord): Buffer {
  // The last 32 bytes of a transaction are its signature's s.
  const damaged = value.toString().replace(/[0-9a-f]{64}(?="[\],}])/, 'f'.repeat(64));
  return Buffer.from(damaged);
}

test('a transaction with a damaged signature is found where the hash was made to fit', () => {
  const raw = archived(60).find(({ method }) => method === 'eth_sendRawTransaction')!;
  const value = withDamagedSignature(raw);
  expect(inspector.orderProblem({ ...raw, value })).toMatch(/another hash/);
  const [hex] = JSON.parse(value.toString()).params as [string];
  const hash = `0x${keccak256Hex(Buffer.from(hex.slice(2), 'hex'))}` as const;
  expect(inspector.orderProblem({ ...raw, value, hash })).toMatch(/transaction with a wrong signature/);
});

test('a damaged transaction inside a bundle is found by the bundle’s hash', () => {
  const records = archived(200);
  for (const name of ['eth_sendBundle', 'mev_sendBundle']) {
    const bundle = records.find(({ method, hash }) => method === name && hash !== null)!;
    const value = withDamagedSignature(bundle);
    expect(value.equals(bundle.value)).toBe(false);
    expect(inspector.orderProblem({ ...bundle, value }), name).toMatch(/another hash/);
  }
});

test('checkpoints: signed by the node they name, of their place, with the chain value before them', () => {
  const journal = new Journal();
  journal.orders(1, 3);
  const good = journal.checkpoint();
  expect(inspector.checkpointProblem(good)).toBeNull();
  const stranger = createSigner(Buffer.alloc(32, 9));
  expect(inspector.checkpointProblem(journal.checkpoint((text) => stranger.sign(text)))).toMatch(
    /not signed by node/,
  );
  expect(inspector.checkpointProblem(journal.checkpoint(() => 'nonsense'))).toMatch(/not signed by node/);
  expect(inspector.checkpointProblem({ ...good, sequence: 9 })).toMatch(/another place/);
  expect(inspector.checkpointProblem({ ...good, chain: '0'.repeat(32) })).toMatch(/another chain value/);
  expect(inspector.checkpointProblem({ ...good, value: Buffer.from('{}') })).toMatch(/malformed/);
});
