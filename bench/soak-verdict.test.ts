import { expect, test } from 'vitest';
import { type HeldSample, type ProcessSample, soakVerdict } from './soak-verdict.ts';

const MIB = 2 ** 20;

function samples(
  seconds: number,
  rssMiB: (at: number) => number,
  fds: (at: number) => number,
): ProcessSample[] {
  return Array.from({ length: seconds }, (_, at) => ({
    seconds: at,
    rssBytes: rssMiB(at) * MIB,
    fds: fds(at),
    threads: 11,
  }));
}

function held(
  seconds: number,
  liveMiB: (at: number) => number,
  timers: (at: number) => number,
): HeldSample[] {
  return Array.from({ length: 12 }, (_, index) => {
    const at = (index / 12) * seconds;
    return { seconds: at, liveBytes: liveMiB(at) * MIB, resources: { Timeout: timers(at) } };
  });
}

const flat = () => 100;

test('a node that warms up and then stays is flat', () => {
  const warming = (at: number) => 100 + 200 * (1 - Math.exp(-at / 60)) + (at % 7);
  const { findings, notJudged, rssSlopeMiBPerHour } = soakVerdict(
    900,
    samples(900, warming, flat),
    held(900, flat, flat),
  );
  expect(findings.map(({ what, flat: verdict }) => [what, verdict])).toEqual([
    ['RSS, MiB', true],
    ['file descriptors', true],
    ['threads', true],
    ['live heap and buffers, MiB', true],
    ['open: Timeout', true],
  ]);
  expect(notJudged).toEqual([]);
  expect(Math.abs(rssSlopeMiBPerHour)).toBeLessThan(20);
});

test.each([
  ['RSS, MiB', samples(900, (at) => 100 + at / 5, flat), held(900, flat, flat)],
  ['file descriptors', samples(900, flat, (at) => 20 + Math.floor(at / 20)), held(900, flat, flat)],
  ['live heap and buffers, MiB', samples(900, flat, flat), held(900, (at) => 50 + at / 20, flat)],
  ['open: Timeout', samples(900, flat, flat), held(900, flat, (at) => 4 + Math.floor(at / 30))],
])('%s that grows is found, alone', (what, process, node) => {
  const { findings } = soakVerdict(900, process, node);
  expect(findings.filter((finding) => !finding.flat).map((finding) => finding.what)).toEqual([what]);
});

test('the slope is what a leak costs in an hour', () => {
  const { rssSlopeMiBPerHour } = soakVerdict(
    900,
    samples(900, (at) => 100 + at / 5, flat),
    [],
  );
  expect(rssSlopeMiBPerHour).toBeCloseTo(720, 6);
});

test('a short run does not judge RSS, and says so; without samples nothing is flat', () => {
  const { findings, notJudged } = soakVerdict(
    20,
    samples(20, (at) => 100 + 10 * at, flat),
    held(20, flat, flat),
  );
  expect(findings.map(({ what }) => what)).not.toContain('RSS, MiB');
  expect(notJudged).toEqual(['RSS: less than 180 s']);
  expect(soakVerdict(900, [], []).notJudged).toEqual([
    'no process samples in the last third',
    'no checkpoints in the last third',
  ]);
});
