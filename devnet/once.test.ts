import { describe, expect, test } from 'vitest';
import { answerProblem, compare, renderVerdict } from './once.ts';
import { createOrderSource } from './orders.ts';

const source = createOrderSource({ seed: 'once test' });
const orders = Array.from({ length: 60 }, () => source.next());

function orderOf(method: string) {
  return orders.find((order) => order.method === method)!;
}

test('compares what came with what should have come', () => {
  expect(compare(['a', 'b', 'c'], ['a', 'b', 'c'])).toEqual({
    expected: 3,
    right: 3,
    missing: 0,
    twice: 0,
    foreign: 0,
  });
  expect(compare(['a', 'b', 'c'], ['a', 'a', 'a', 'b', 'x'])).toEqual({
    expected: 3,
    right: 1,
    missing: 1,
    twice: 2,
    foreign: 1,
  });
});

describe('an answer', () => {
  test('is right with the hash and the receive time', () => {
    const bundle = orderOf('eth_sendBundle');
    const result = { bundleHash: bundle.hash, receivedTimestampMs: 1_718_030_000_123.456 };
    expect(answerProblem(bundle, { status: 200, result })).toBeNull();
    const raw = orderOf('eth_sendRawTransaction');
    expect(answerProblem(raw, { status: 200, result: raw.hash })).toBeNull();
    expect(answerProblem(orderOf('eth_cancelBundle'), { status: 200, result: null })).toBeNull();
  });

  test('is wrong with anything else', () => {
    const bundle = orderOf('eth_sendBundle');
    const error = { code: -32000, message: 'no' };
    expect(answerProblem(bundle, { status: 200, result: null })).toContain('bundle hash');
    expect(answerProblem(bundle, { status: 200, result: { bundleHash: bundle.hash } })).toContain(
      'receive time',
    );
    expect(answerProblem(bundle, { status: 200, error })).toBe('refused: no');
    expect(answerProblem(bundle, 'no answer')).toBe('no answer');
    expect(answerProblem(orderOf('eth_sendRawTransaction'), { status: 200, result: '0x' })).toContain('hash');
    expect(answerProblem(orderOf('eth_cancelBundle'), { status: 200, result: true })).toContain('null');
    expect(answerProblem(orderOf('eth_cancelBundle'), { status: 503 })).toBe('status 503');
  });
});

test('the verdict is a table with one last word', () => {
  const all = { expected: 100, right: 100, missing: 0, twice: 0, foreign: 0 };
  const own = { ...all, expected: 50, right: 50 };
  const node = { name: 'node-1', sent: 50, answered: 50, builder: all, archive: own };
  expect(renderVerdict({ nodes: [node, { ...node, name: 'node-2' }], faults: [] }, false)).toEqual([
    'node    sent  answered  at builder  in archive',
    'node-1    50        50     100/100       50/50',
    'node-2    50        50     100/100       50/50',
    '',
    'all 100 orders reached every builder exactly once, byte for byte, and their archive',
  ]);
  expect(renderVerdict({ nodes: [node], faults: ['a', 'b'] }, false).slice(-3)).toEqual([
    'a',
    'b',
    '2 faults',
  ]);
});
