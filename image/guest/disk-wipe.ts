/**
 * The operator's action disk_wipe: takes from the data disk everything by which it could be opened, so that the next
 * try of persistent-setup formats it. Only the disk with the serial, only when the operator has named that serial, and
 * never one that is open. Whatever was on it is gone for good: the volume's key was in what is wiped.
 *
 * Standard input: the serial. What is written to standard error is the refusal, nothing is success.
 * Environment: SERIAL, DEVICES (`/sys/class/block`).
 */
import { closeSync, constants, fsyncSync, openSync, writeSync } from 'node:fs';
import { diskOf } from './disks.ts';
import { HEADER_BYTES } from './luks-header.ts';
import { reportEvent } from './step.ts';

const NAME_CHARACTERS = 64;
const CHUNK = Buffer.alloc(1024 * 1024);

const { SERIAL = '', DEVICES = '' } = process.env;

/** What the operator named; '' when that was nothing. */
async function named(): Promise<string> {
  let text = '';
  for await (const chunk of process.stdin.setEncoding('utf8')) {
    text += chunk;
    if (text.length > NAME_CHARACTERS) break;
  }
  return text.trim();
}

/** @throws Error EBUSY while something holds the disk, the volume on it for one */
function wipe(path: string): void {
  const disk = openSync(path, constants.O_RDWR | constants.O_EXCL);
  try {
    for (let at = 0; at < HEADER_BYTES; ) {
      at += writeSync(disk, CHUNK, 0, Math.min(CHUNK.length, HEADER_BYTES - at), at);
    }
    fsyncSync(disk);
  } finally {
    closeSync(disk);
  }
}

function refusalOf(serial: string): string | null {
  if (serial === '') return 'upload the serial of the disk as disk_wipe first';
  if (serial !== SERIAL) return 'that is not the serial of the data disk';
  try {
    wipe(`/dev/${diskOf(SERIAL, DEVICES)}`);
    return null;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EBUSY') return 'the data disk is open';
    return error instanceof Error ? error.message : String(error);
  }
}

const refusal = refusalOf(await named());
if (refusal === null) reportEvent(`disk ${SERIAL} was wiped`);
else {
  process.stderr.write(`disk_wipe: refused: ${refusal}\n`);
  process.exitCode = 1;
}
