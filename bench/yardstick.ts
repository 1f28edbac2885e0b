/**
 * What this machine takes for work that does not change with the project: one ECDSA verification by the libsecp256k1 of
 * npm's package, whichever the node uses, and one keccak-256 of 1 KB. A slow day shows here first, so that figures of two days can be set against it.
 *
 * Time is the clock's, of rounds so short that most of them nobody interrupts: the CPU time of a process has its compilers
 * and collectors in it, and the kernel counts that of a thread in steps of 4 ms.
 */
import { keccak256 } from '../pipeline/keccak.ts';
import { nowUs } from './clock.ts';
import { npmLibrary } from './npm-secp256k1.ts';
import { median } from './statistics.ts';

/** Microseconds by name of the work. */
export type Yardstick = Readonly<Record<string, number>>;

/** The machine that the project's aims were set on: two shared cores, quiet. */
export const REFERENCE: Yardstick = {
  'secp256k1 verify': 36,
  'keccak-256 of 1 KB': 2.2,
};

/** Looks are apart: a machine that others compute on may be slow for a few tenths of a second. */
const LOOKS = 9;
const APART_MS = 100;
/** Enough that another program, which has a core for some milliseconds at a time, is not in all of it. */
const LOOK_US = 12_000;
/** Least length of a round, and the calls between two looks at the clock, which is no part of the work. */
const ROUND_US = 200;
const CALLS = 16;

/** Blocks for a second, most of it asleep; one report takes it once. */
export function measureYardstick(): Yardstick {
  const key = new Uint8Array(32).fill(1);
  const digest = new Uint8Array(32).fill(2);
  const { sign, verify, publicKey } = npmLibrary();
  const { signature } = sign(digest, key);
  const signer = publicKey(key);
  const kilobyte = new Uint8Array(1024).fill(3);
  const verifyUs: number[] = [];
  const keccakUs: number[] = [];
  for (let look = 0; look < LOOKS; look++) {
    if (look > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, APART_MS);
    verifyUs.push(undisturbedUs(() => verify(digest, signature, signer)));
    keccakUs.push(undisturbedUs(() => keccak256(kilobyte)));
  }
  return { 'secp256k1 verify': median(verifyUs), 'keccak-256 of 1 KB': median(keccakUs) };
}

/** @returns how many times as long as on the reference machine work takes here; the mean over both. */
export function slowness(yardstick: Yardstick): number {
  const ratios = Object.entries(REFERENCE).map(([name, us]) => (yardstick[name] ?? us) / us);
  return ratios.reduce((sum, ratio) => sum + ratio, 0) / ratios.length;
}

/**
 * @param clock microseconds
 * @returns microseconds of one call, of the fastest round: what others at work on the machine do only makes it longer
 */
export function undisturbedUs(work: () => unknown, clock: () => number = nowUs): number {
  let fastest = Number.POSITIVE_INFINITY;
  let now = clock();
  const end = now + LOOK_US;
  while (now < end) {
    const start = now;
    let calls = 0;
    do {
      for (let i = 0; i < CALLS; i++) work();
      calls += CALLS;
      now = clock();
    } while (now - start < ROUND_US);
    fastest = Math.min(fastest, (now - start) / calls);
  }
  return fastest;
}
