import { PassThrough } from 'node:stream';
import { stripVTControlCharacters } from 'node:util';
import { describe, expect, test } from 'vitest';
import type { NodeFigures } from './metrics.ts';
import { type NetworkState, renderNetwork, renderPlain, Screen, wantsColour } from './view.ts';

const figures: NodeFigures = {
  fromUsers: 1_234,
  fromPeers: 2_460,
  duplicates: 3,
  toBuilder: 3_694,
  archived: 1_230,
  archiveAccepting: true,
  peers: [
    { name: 'node-2', connections: 2, p50Ms: 1.23, p99Ms: 4.5 },
    { name: 'node-3', connections: 0, p50Ms: 1, p99Ms: 2 },
  ],
};
const state: NetworkState = {
  rate: 20,
  elapsedSec: 3_725,
  accepted: 3_700,
  failed: 0,
  lastFailure: null,
  nodes: [
    { name: 'node-1', status: 'up', figures },
    { name: 'node-2', status: 'starting', figures: null },
    { name: 'node-3', status: 'down', figures },
  ],
};

describe('the table', () => {
  test('has one aligned line per node', () => {
    expect(renderNetwork(state, { colour: false, width: 120 })).toEqual([
      'orderflow devnet  3 nodes, 20 orders/s, 01:02:05',
      '',
      'node    users  peers  dup  builder  archive  sent to, p50/p99 ms',
      'node-1  1,234  2,460    3    3,694    1,230  node-2 1.2/4.5  node-3 away',
      'node-2      -      -    -        -        -  starting',
      'node-3      -      -    -        -        -  down',
      '',
      'generator  3,700 accepted, 0 failed',
    ]);
  });

  test('holds no escape codes without colour, and the same text with it', () => {
    const plain = renderNetwork(state, { colour: false, width: 120 });
    const coloured = renderNetwork(state, { colour: true, width: 120 });
    expect(plain.join('')).not.toContain('\u001b');
    expect(coloured.join('')).toContain('\u001b[');
    expect(coloured.map((line) => stripVTControlCharacters(line).trimEnd())).toEqual(plain);
  });

  test('is cut to the width of the terminal, colours closed', () => {
    const lines = renderNetwork(state, { colour: true, width: 30 });
    for (const line of lines) expect(stripVTControlCharacters(line).length).toBeLessThanOrEqual(30);
    const opened = lines.join('').match(/\[(3[1-6]|1|2)m/g)?.length;
    const closed = lines.join('').match(/\[(39|22)m/g)?.length;
    expect(opened).toBe(closed);
  });

  test('shows failures', () => {
    expect(renderNetwork({ ...state, failed: 1_000 }, { colour: false, width: 80 }).at(-1)).toContain(
      '1,000 failed',
    );
  });
});

test('the plain line says the same for logs', () => {
  expect(renderPlain(state)).toBe(
    '01:02:05 accepted=3700 failed=0 | node-1 users=1234 peers=2460 dup=3 builder=3694 archive=1230 ' +
      'sent: node-2 1.2/4.5 node-3 away | node-2 starting | node-3 down',
  );
});

test('the screen goes back over exactly the lines it drew', async () => {
  const out = new PassThrough();
  const screen = new Screen(out);
  screen.draw(['a', 'b', 'c']);
  screen.draw(['d']);
  screen.end();
  out.end();
  const written = (await out.toArray()).join('');
  expect(written).toBe(
    '\u001b[?25l\ra\u001b[K\nb\u001b[K\nc\u001b[K\n\u001b[J' +
      '\u001b[?25l\u001b[3A\rd\u001b[K\n\u001b[J' +
      '\u001b[?25h',
  );
});

test('colour is for terminals alone and gives way to NO_COLOR', () => {
  expect(wantsColour({ isTTY: true }, {})).toBe(true);
  expect(wantsColour({ isTTY: true }, { NO_COLOR: '1' })).toBe(false);
  expect(wantsColour({ isTTY: true }, { TERM: 'dumb' })).toBe(false);
  expect(wantsColour({}, {})).toBe(false);
});
