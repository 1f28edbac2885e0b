/** Broken quotes, seeded: real and mock ones with bytes changed, cut, repeated and lengths set to extremes. */

/** What one run saw. */
export interface FuzzResult {
  readonly parsed: number;
  readonly refused: number;
  readonly reasons: ReadonlyMap<string, number>;
}

/** mulberry32: small, seeded, good enough to choose bytes. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  };
}

/**
 * @param parse must return, never throw, for every input
 * @param check must throw when a parsed result is not what its input says
 */
export function fuzzQuotes<T extends object>(
  seeds: readonly Buffer[],
  runs: number,
  seed: number,
  parse: (bytes: Buffer) => T | string,
  check: (parsed: T, bytes: Buffer) => void,
): FuzzResult {
  const next = generator(seed);
  const below = (bound: number): number => next() % Math.max(1, bound);
  const reasons = new Map<string, number>();
  let parsed = 0;
  for (let run = 0; run < runs; run++) {
    const base = seeds[below(seeds.length)] ?? Buffer.alloc(0);
    const bytes = mutate(base, below);
    const result = parse(bytes);
    if (typeof result === 'string') {
      const kind = result.replaceAll(/\d+/gu, 'N');
      reasons.set(kind, (reasons.get(kind) ?? 0) + 1);
    } else {
      check(result, bytes);
      parsed++;
    }
  }
  return { parsed, refused: runs - parsed, reasons };
}

/** Offsets where lengths and types stand, version 4 and 5; most changes elsewhere only change values. */
const STRUCTURE = [0, 2, 4, 48, 50, 632, 702, 764, 766, 834, 836, 1218, 1220, 1252, 1254, 1288, 1290];

function mutate(base: Buffer, below: (bound: number) => number): Buffer {
  switch (below(6)) {
    case 0:
      return base.subarray(0, below(base.length + 1));
    case 1:
      return Buffer.concat([base, Buffer.alloc(below(20_000), below(256))]);
    case 2: {
      const from = below(base.length);
      return Buffer.concat([base.subarray(0, from), base.subarray(below(base.length))]);
    }
    case 3: {
      const bytes = Buffer.from(base);
      for (let i = below(4); i >= 0; i--) bytes[below(bytes.length)] = below(256);
      return bytes;
    }
    default: {
      const bytes = Buffer.from(base);
      const offset = (STRUCTURE[below(STRUCTURE.length)] ?? 0) + below(3);
      const extremes = [0, 1, 0x7f, 0x80, 0xff, below(256)];
      for (let i = 0; i < 4 && offset + i < bytes.length; i++) {
        bytes[offset + i] = extremes[below(extremes.length)] ?? 0;
      }
      return bytes;
    }
  }
}
