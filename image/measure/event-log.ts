/** The TCG event log of a boot in the crypto-agile format (TCG PC Client Platform Firmware Profile, 10.4). */
import { createHash } from 'node:crypto';
import type { Bank } from './pe.ts';

export interface LoggedEvent {
  readonly register: number;
  readonly type: number;
  /** By bank. */
  readonly digests: Readonly<Partial<Record<Bank, Buffer>>>;
  readonly data: Buffer;
}

const NO_ACTION = 3;
const ALGORITHMS: Readonly<Record<number, { bank: Bank | null; size: number }>> = {
  4: { bank: null, size: 20 },
  11: { bank: 'sha256', size: 32 },
  12: { bank: 'sha384', size: 48 },
  13: { bank: null, size: 64 },
};

/** Every event in order. @throws Error for a log that is cut off or has an unknown algorithm */
export function readEventLog(log: Buffer): LoggedEvent[] {
  // The first event has the old form and describes the log.
  let at = 28 + 4 + log.readUInt32LE(28);
  const events: LoggedEvent[] = [];
  while (at + 12 <= log.length) {
    const register = log.readUInt32LE(at);
    const type = log.readUInt32LE(at + 4);
    const count = log.readUInt32LE(at + 8);
    at += 12;
    const digests: Partial<Record<Bank, Buffer>> = {};
    for (let index = 0; index < count; index++) {
      const algorithm = ALGORITHMS[log.readUInt16LE(at)];
      if (algorithm === undefined) throw new Error(`unknown algorithm at byte ${at} of the event log`);
      const value = log.subarray(at + 2, at + 2 + algorithm.size);
      if (algorithm.bank !== null) digests[algorithm.bank] = value;
      at += 2 + algorithm.size;
    }
    const size = log.readUInt32LE(at);
    const data = log.subarray(at + 4, at + 4 + size);
    if (data.length !== size) throw new Error('the event log is cut off');
    at += 4 + size;
    events.push({ register, type, digests, data });
  }
  return events;
}

/** What the registers hold after these events, as hex. */
export function replay(events: readonly LoggedEvent[], bank: Bank): Record<number, string> {
  const values = new Map<number, Buffer>();
  for (const { register, type, digests } of events) {
    const value = digests[bank];
    if (type === NO_ACTION || value === undefined) continue;
    const before = values.get(register) ?? Buffer.alloc(value.length);
    values.set(register, createHash(bank).update(before).update(value).digest());
  }
  return Object.fromEntries([...values].map(([register, value]) => [register, value.toString('hex')]));
}

const SEPARATOR = 4;

/** 96 hex digits each. */
export interface RuntimeRegisters {
  readonly rtmr1: string;
  readonly rtmr2: string;
}

/**
 * RTMR1 and RTMR2 as TDX's firmware folds these events: those of PCR 2 to 6 and of PCR 8 to 15, in the order of the
 * log, with one separator for each register.
 */
export function runtimeRegisters(events: readonly LoggedEvent[]): RuntimeRegisters {
  const fold = (first: number, last: number): string => {
    let separated = false;
    const taken = events.filter(({ register, type }) => {
      if (register < first || register > last) return false;
      if (type !== SEPARATOR) return true;
      const again = separated;
      separated = true;
      return !again;
    });
    const one = taken.map((event) => ({ ...event, register: 0 }));
    return replay(one, 'sha384')[0] ?? '0'.repeat(96);
  };
  return { rtmr1: fold(2, 6), rtmr2: fold(8, 15) };
}
