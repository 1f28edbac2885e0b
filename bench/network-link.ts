/**
 * A link between two network namespaces that loses, delays and reorders real packets, as `tc netem` does where the
 * kernel has it: the two ends are TUN devices, and every IP packet passes through this process. Linux and root only.
 */

import ffi from 'node:ffi';
import { closeSync, openSync, read, writeSync } from 'node:fs';
import { serveParent } from './child.ts';

/** What happens to a packet, in each direction alike. */
export interface Conditions {
  readonly delayMs: number;
  /** Added or taken, evenly spread: packets overtake one another. */
  readonly jitterMs: number;
  /** Part of the packets that is lost, and part that does not wait. */
  readonly loss: number;
  readonly reorder: number;
}

const MAX_PACKET_BYTES = 65_536;
/** linux/if_tun.h: TUNSETIFF, with IFF_TUN and IFF_NO_PI. */
const TUNSETIFF = 0x400454can;
const TUN_WITHOUT_HEADER = 0x1001;
const IFREQ_BYTES = 40;
const FLAGS_AT = 16;

const {
  functions: { ioctl },
} = ffi.dlopen('libc.so.6', {
  ioctl: { arguments: ['int32', 'uint64', 'buffer'], return: 'int32' },
});

let conditions: Conditions = { delayMs: 0, jitterMs: 0, loss: 0, reorder: 0 };
let darkUntilMs = 0;
const counts = { passed: 0, lost: 0 };

/** @returns the device's file. */
function openTun(name: string): number {
  const file = openSync('/dev/net/tun', 'r+');
  const request = Buffer.alloc(IFREQ_BYTES);
  request.write(name, 'latin1');
  request.writeUInt16LE(TUN_WITHOUT_HEADER, FLAGS_AT);
  if (ioctl?.(file, TUNSETIFF, request) !== 0) {
    closeSync(file);
    throw new Error(`no TUN device ${name}: root and /dev/net/tun are needed`);
  }
  return file;
}

function carry(from: number, to: number): void {
  const buffer = Buffer.allocUnsafe(MAX_PACKET_BYTES);
  const next = (): void =>
    read(from, buffer, 0, buffer.length, null, (error, length) => {
      // The device goes with its namespace.
      if (error !== null) return;
      pass(to, Buffer.from(buffer.subarray(0, length)));
      next();
    });
  next();
}

function pass(to: number, packet: Buffer): void {
  const { delayMs, jitterMs, loss, reorder } = conditions;
  if (performance.now() < darkUntilMs || Math.random() < loss) {
    counts.lost++;
    return;
  }
  counts.passed++;
  const waitMs = Math.random() < reorder ? 0 : delayMs + jitterMs * (2 * Math.random() - 1);
  if (waitMs <= 0) put(to, packet);
  else setTimeout(() => put(to, packet), waitMs);
}

function put(to: number, packet: Buffer): void {
  try {
    writeSync(to, packet);
  } catch {
    // As on any link: a device that is down or full loses it.
    counts.lost++;
  }
}

const calls = {
  /** Makes both ends; they are to be moved into their namespaces. */
  open(one: string, other: string): void {
    const [a, b] = [openTun(one), openTun(other)];
    carry(a, b);
    carry(b, a);
  },
  set(next: Conditions): void {
    conditions = next;
  },
  /** Loses everything for so long. */
  blackout(ms: number): void {
    darkUntilMs = performance.now() + ms;
  },
  counts: () => ({ ...counts }),
};
export type LinkCalls = typeof calls;

// A read of a device that nothing comes from does not end for an exit.
process.once('disconnect', () => process.kill(process.pid, 'SIGKILL'));
serveParent(calls);
