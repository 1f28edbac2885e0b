/**
 * Boot step: opens the data disk as /dev/mapper/persistent, formatting it first when it is empty. The disk is the one
 * with the serial, never the largest or the only one.
 *
 * A format writes the header last and block 0 last of all, so it can be cut off at any point and starts anew. The
 * header that is checked is the one that is used: it is copied to RAM, opened detached, and its keyed hash must be the
 * one inside the volume.
 *
 * Limits: neither LUKS nor this finds a whole disk that was put back to an earlier day.
 *
 * Environment: SERIAL, KEY_FILE (hex). The key is read from where the configuration step left it and removed there: a
 * credential of systemd would stay for as long as the unit is up.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHmac, hkdfSync, randomUUID, timingSafeEqual } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { diskOf } from './disks.ts';
import { CIPHER, diskState, FORMATTING, HEADER_BYTES, ITERATIONS, KEY_BYTES } from './luks-header.ts';
import { reportStep } from './step.ts';

const DEVICES = '/sys/class/block';
const NAME = 'persistent';
const MAPPED = `/dev/mapper/${NAME}`;
/** What the mount unit mounts. */
const DEVICE_LINK = '/run/node/persistent-setup/device';
const HEADER_COPY = '/tmp/header';
/** At the end of the volume, outside the file system: the finished marker. */
const MARKER_AREA = 1024 * 1024;
const MARKER = Buffer.from('orderflow-data-disk-1\n'.padEnd(32));
const BLOCK = 4096;
const SECTOR = 512;

const { SERIAL = '', KEY_FILE = '' } = process.env;

/** Whoever reads the journal must see which check failed. */
class Stop extends Error {}

function read(path: string, offset: number, length: number): Buffer {
  const file = openSync(path, 'r');
  try {
    const buffer = Buffer.alloc(length);
    let done = 0;
    while (done < length) {
      const count = readSync(file, buffer, done, length - done, offset + done);
      if (count === 0) break;
      done += count;
    }
    return buffer.subarray(0, done);
  } finally {
    closeSync(file);
  }
}

function write(path: string, offset: number, bytes: Uint8Array): void {
  const file = openSync(path, 'r+');
  try {
    for (let done = 0; done < bytes.length; ) {
      done += writeSync(file, bytes, done, bytes.length - done, offset + done);
    }
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** Both keys come from the hub's key and the disk's own id: two disks of one machine share none. */
function derive(key: Buffer, uuid: string, use: string): Buffer {
  return Buffer.from(hkdfSync('sha256', key, uuid, use, 32));
}

function cryptsetup(args: readonly string[], passphrase: Buffer): void {
  execFileSync('/usr/sbin/cryptsetup', ['--batch-mode', '--key-file=-', ...args], {
    input: passphrase,
    stdio: ['pipe', 'inherit', 'inherit'],
  });
}

function open(disk: string, passphrase: Buffer): void {
  // The same flags on a fresh disk and on every later boot.
  const speed = ['--perf-no_read_workqueue', '--perf-no_write_workqueue'];
  cryptsetup(['open', '--type=luks2', `--header=${HEADER_COPY}`, ...speed, disk, NAME], passphrase);
}

function volumeBytes(): number {
  const name = readdirSync(DEVICES).find((entry) => {
    const file = `${DEVICES}/${entry}/dm/name`;
    return existsSync(file) && readFileSync(file, 'utf8').trim() === NAME;
  });
  return Number(readFileSync(`${DEVICES}/${name}/size`, 'utf8')) * SECTOR;
}

function headerHash(header: Buffer, key: Buffer, uuid: string): Buffer {
  return createHmac('sha256', derive(key, uuid, 'header'))
    .update(header)
    .digest();
}

function format(disk: string, key: Buffer): void {
  const uuid = randomUUID();
  write(disk, 0, FORMATTING);
  console.log('data disk: being formatted');
  writeFileSync(HEADER_COPY, Buffer.alloc(HEADER_BYTES), { mode: 0o600 });
  const passphrase = derive(key, uuid, 'passphrase');
  cryptsetup(
    [
      'luksFormat',
      '--type=luks2',
      `--header=${HEADER_COPY}`,
      `--offset=${HEADER_BYTES / SECTOR}`,
      `--uuid=${uuid}`,
      `--cipher=${CIPHER}`,
      `--key-size=${KEY_BYTES * 8}`,
      '--hash=sha256',
      '--pbkdf=pbkdf2',
      `--pbkdf-force-iterations=${ITERATIONS}`,
      '--sector-size=4096',
      disk,
    ],
    passphrase,
  );
  const header = readFileSync(HEADER_COPY);
  const state = diskState(header);
  if (state.kind !== 'luks') throw new Stop(`the header just written is refused: ${JSON.stringify(state)}`);
  open(disk, passphrase);
  const size = volumeBytes();
  const blocks = Math.floor((size - MARKER_AREA) / BLOCK);
  execFileSync(
    '/usr/sbin/mke2fs',
    ['-t', 'ext4', '-q', '-F', '-b', String(BLOCK), '-E', 'lazy_itable_init=1', MAPPED, String(blocks)],
    {
      stdio: 'inherit',
    },
  );
  const marker = Buffer.alloc(BLOCK);
  MARKER.copy(marker);
  headerHash(header, key, uuid).copy(marker, MARKER.length);
  write(MAPPED, size - MARKER_AREA, marker);
  write(disk, BLOCK, header.subarray(BLOCK));
  write(disk, 0, header.subarray(0, BLOCK));
  console.log(`data disk: formatted, ${size} bytes`);
}

function unlock(disk: string, header: Buffer, uuid: string, key: Buffer): void {
  writeFileSync(HEADER_COPY, header, { mode: 0o600 });
  open(disk, derive(key, uuid, 'passphrase'));
  const marker = read(MAPPED, volumeBytes() - MARKER_AREA, BLOCK);
  const kept = marker.subarray(MARKER.length, MARKER.length + 32);
  const whole = marker.subarray(0, MARKER.length).equals(MARKER);
  if (!whole || !timingSafeEqual(kept, headerHash(header, key, uuid)))
    throw new Stop('the header is not the one that the volume remembers');
  console.log('data disk: unlocked');
}

reportStep('disk', 'running');
try {
  const key = Buffer.from(readFileSync(KEY_FILE, 'utf8').trim(), 'hex');
  if (key.length < 32) throw new Stop('the key has fewer than 32 bytes');
  const disk = `/dev/${diskOf(SERIAL, DEVICES)}`;
  const header = read(disk, 0, HEADER_BYTES);
  const state = diskState(header);
  if (state.kind === 'refused') throw new Stop(`refused: ${state.check}`);
  if (state.kind === 'empty') format(disk, key);
  else unlock(disk, header, state.uuid, key);
  // systemd waits for a device of this name below /dev until udev has named it, which it is not asked to.
  rmSync(DEVICE_LINK, { force: true });
  symlinkSync(MAPPED, DEVICE_LINK);
  // The key is needed no more: what the configuration step left goes, the kernel holds the volume's.
  rmSync(KEY_FILE, { force: true });
  key.fill(0);
  reportStep('disk', 'done');
} catch (error) {
  const reason = error instanceof Error ? error.message : String(error);
  console.log(`data disk: ${reason}`);
  // The next try opens it again; one that somebody uses stays, and cryptsetup says so.
  if (existsSync(MAPPED)) spawnSync('/usr/sbin/cryptsetup', ['close', NAME], { stdio: 'inherit' });
  reportStep('disk', 'failed', reason);
  process.exitCode = 1;
}
