import type { Profiler } from 'node:inspector';
import { expect, test } from 'vitest';
import { COLLECTOR, OUTSIDE, SOCKETS, stagesOf } from './stages.ts';

type Frame = readonly [functionName: string, file: string, children?: readonly Frame[], us?: number];

/** A profile from nested frames: each frame's own time is one sample. */
function profileOf(frames: readonly Frame[]): Profiler.Profile {
  const nodes: Profiler.ProfileNode[] = [];
  const samples: number[] = [];
  const timeDeltas: number[] = [];
  function add([functionName, file, children = [], us = 0]: Frame): number {
    const id = nodes.length + 1;
    const url = file === '' || file.startsWith('node:') ? file : `file:///project/${file}`;
    const node: Profiler.ProfileNode = {
      id,
      callFrame: { functionName, scriptId: '1', url, lineNumber: 0, columnNumber: 0 },
    };
    nodes.push(node);
    if (us > 0) {
      samples.push(id);
      timeDeltas.push(us);
    }
    node.children = children.map(add);
    return id;
  }
  add(['(root)', '', frames]);
  return { nodes, startTime: 0, endTime: 1, samples, timeDeltas };
}

test('a sample counts for the innermost function of the project, whatever it called', () => {
  const hash: Frame = ['hash', 'node:internal/crypto/hash', [], 7];
  const profile = profileOf([
    [
      'onStreamRead',
      'node:internal/stream_base_commons',
      [
        [
          'onRequest',
          'ingress/http-server.ts',
          [
            [
              'verify',
              'identity/signature.ts',
              [
                ['ecdsaVerify', '', [], 35],
                ['keccak256Hex', 'pipeline/keccak.ts', [hash]],
              ],
            ],
            [
              'decodeOrder',
              'pipeline/decode.ts',
              [['decodeTransaction', 'pipeline/transaction.ts', [], 3]],
              11,
            ],
            [
              'next',
              'node_modules/rxjs/dist/subject.js',
              [['send', 'egress/builder.ts', [['writev', '', [], 20]]]],
              2,
            ],
          ],
          4,
        ],
      ],
      5,
    ],
    ['signHash', 'identity/signature.ts', [['ecdsaSign', '', [], 32]]],
    ['verify', 'node_modules/secp256k1/bindings.js', [], 1],
    ['(garbage collector)', '', [], 6],
    ['(program)', '', [], 8],
    ['(idle)', '', [], 1000],
  ]);
  expect(Object.fromEntries(stagesOf(profile, '/project'))).toEqual({
    'signature check': 35,
    keccak: 7,
    'JSON and canonical form': 11,
    transactions: 3,
    pipeline: 2,
    'to builder and peers': 20,
    'HTTP in': 4,
    [SOCKETS]: 5 + 1,
    'signing for peers': 32,
    [COLLECTOR]: 6,
    [OUTSIDE]: 8,
  });
});

test("another checkout's files are recognised by its own root, and the bench's hook is nobody's stage", () => {
  const profile = profileOf([
    ['run', 'pipeline/dedupe.ts', [], 3],
    ['answer', 'bench/hook.ts', [], 2],
  ]);
  expect(Object.fromEntries(stagesOf(profile, '/project'))).toEqual({ dedupe: 3, [SOCKETS]: 2 });
  expect(Object.fromEntries(stagesOf(profile, '/elsewhere'))).toEqual({ [SOCKETS]: 5 });
});
