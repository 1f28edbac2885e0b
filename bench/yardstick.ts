/**
 * What this machine takes for work that does not change with the project: one ECDSA verification by libsecp256k1 and
 * one keccak-256 of 1 KB. A slow day shows here first, so that figures of two days can be set against it.
 */
import { publicKey, sign, verify } from '../identity/secp256k1.ts';
import { keccak256 } from '../pipeline/keccak.ts';

/** Microseconds on the machine that the project's aims were set on: two shared cores, quiet. */
export const REFERENCE: Readonly<Record<string, number>> = {
  'secp256k1 verify': 36,
  'keccak-256 of 1 KB': 2.2,
};

const ROUNDS = 21;
const ROUND_US = 5_000;

/** @returns microseconds by name, of the fastest of some short rounds; blocks for about 0.2 s. */
export function measureYardstick(): Record<string, number> {
  const key = new Uint8Array(32).fill(1);
  const digest = new Uint8Array(32).fill(2);
  const { signature } = sign(digest, key);
  const signer = publicKey(key);
  const kilobyte = new Uint8Array(1024).fill(3);
  return {
    'secp256k1 verify': fastestUs(() => verify(digest, signature, signer)),
    'keccak-256 of 1 KB': fastestUs(() => keccak256(kilobyte)),
  };
}

/** @returns how many times as long as on the reference machine work takes here; the mean over both. */
export function slowness(yardstick: Readonly<Record<string, number>>): number {
  const ratios = Object.entries(REFERENCE).map(([name, us]) => (yardstick[name] ?? us) / us);
  return ratios.reduce((sum, ratio) => sum + ratio, 0) / ratios.length;
}

/** CPU time, not time on the clock; what others at work on the machine do to it only makes it longer. */
function fastestUs(work: () => unknown): number {
  let fastest = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    const start = process.cpuUsage();
    let calls = 0;
    let usedUs = 0;
    while (usedUs < ROUND_US) {
      for (let i = 0; i < 64; i++) work();
      calls += 64;
      const { user, system } = process.cpuUsage(start);
      usedUs = user + system;
    }
    fastest = Math.min(fastest, usedUs / calls);
  }
  return fastest;
}
