/**
 * The disk's boot step as a process of its own, in a sandbox where files are disk and volume: what it writes, and what
 * it leaves alone. cryptsetup itself makes the header and says whether a key opens it; only the kernel's part is not
 * there, so what lies in the volume is not encrypted here.
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  copyFileSync,
  mkdtempSync,
  openSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, inject, onTestFinished, test } from 'vitest';
import { runTool } from '../build/sandbox.ts';
import { digestOf } from '../build/store.ts';
import { HEADER_BYTES } from './luks-header.ts';

const SOURCES = join(import.meta.dirname, '../..');
const VOLUME_BYTES = 16 * 1024 * 1024;

/** `$1` the key. No disk of this machine is in this /dev, and the volume is never more than a file. */
const BOOT = `
set -eu
mkdir -p /tmp/dev/mapper
for name in null random urandom; do touch "/tmp/dev/$name"; mount --bind "/dev/$name" "/tmp/dev/$name"; done
mount --rbind /tmp/dev /dev
mount -t tmpfs run /run
mount -t tmpfs sys /sys
ln -s /work/disk /dev/vdz
mkdir -p /sys/class/block/vdz /sys/class/block/dm-0/dm /run/node/persistent-setup
echo the-serial > /sys/class/block/vdz/serial
echo persistent > /sys/class/block/dm-0/dm/name
echo $(($(stat -c %s /work/volume) / 512)) > /sys/class/block/dm-0/size
cp /usr/sbin/cryptsetup /tmp/cryptsetup
cat > /tmp/stand-in << 'END'
#!/bin/sh
case " $* " in
*" open "*)
  /tmp/cryptsetup --batch-mode --key-file=- open --type=luks2 --header=/tmp/header --test-passphrase /dev/vdz || exit
  ln -s /work/volume /dev/mapper/persistent ;;
*" close "*) rm /dev/mapper/persistent ;;
*) exec /tmp/cryptsetup "$@" ;;
esac
END
chmod 755 /tmp/stand-in
mount --bind /tmp/stand-in /usr/sbin/cryptsetup
printf %s "$1" > /run/node/persistent-setup/disk-key
status=0
SERIAL=the-serial KEY_FILE=/run/node/persistent-setup/disk-key /store/node /work2/image/guest/persistent-setup.ts 2>&1 || status=$?
echo "ended with $status"
cd /run/node/persistent-setup
echo "left: $(ls -A | tr '\\n' ' ')"
echo "open: $(ls -A /dev/mapper)"
`;

interface Boot {
  readonly said: string;
  /** In the folder where the key was. */
  readonly left: string;
  readonly opened: boolean;
  /** Bytes of disk and volume, as digests. */
  readonly bytes: string;
}

class Disk {
  readonly #folder = mkdtempSync(join(tmpdir(), 'image-data-'));

  constructor() {
    onTestFinished(() => rmSync(this.#folder, { recursive: true, force: true }));
    for (const [name, bytes] of [
      ['disk', HEADER_BYTES + VOLUME_BYTES],
      ['volume', VOLUME_BYTES],
    ] as const) {
      writeFileSync(join(this.#folder, name), '');
      truncateSync(join(this.#folder, name), bytes);
    }
  }

  /** Writes to the start of the disk. */
  write(text: string): void {
    const file = openSync(join(this.#folder, 'disk'), 'r+');
    writeSync(file, text, 0);
    closeSync(file);
  }

  /** What lies in the volume is from now on what lies in the other's. */
  takeVolumeOf(other: Disk): void {
    copyFileSync(join(other.#folder, 'volume'), join(this.#folder, 'volume'));
  }

  async bytes(): Promise<string> {
    const digests = ['disk', 'volume'].map((name) => digestOf(join(this.#folder, name)));
    return (await Promise.all(digests)).map(({ sha256 }) => sha256).join(' ');
  }

  /** Runs the step with this text as the key. */
  async boot(key: string): Promise<Boot> {
    const mounts = { '/work': this.#folder, '/work2': SOURCES, '/store': dirname(process.execPath) };
    const said = await runTool(['sh', '-c', BOOT, 'sh', key], { tools: inject('tools'), mounts });
    expect(said).not.toContain(key === '' ? 'no key' : key);
    return {
      said,
      left: /^left: (.*?) ?$/mu.exec(said)?.[1] ?? 'nothing was said',
      opened: said.endsWith('open: persistent\n'),
      bytes: await this.bytes(),
    };
  }
}

const newKey = (): string => randomBytes(32).toString('hex');

test('an empty disk is formatted once; the same key opens it ever after, and is gone from its file then', async () => {
  const disk = new Disk();
  const key = newKey();
  const first = await disk.boot(key);
  expect(first.said).toContain('data disk: formatted');
  expect(first).toMatchObject({ left: 'device', opened: true });
  const second = await disk.boot(key);
  expect(second.said).toContain('data disk: unlocked');
  expect(second).toMatchObject({ left: 'device', opened: true, bytes: first.bytes });
});

test('a key that does not open the disk changes nothing on it: the right one opens it again', async () => {
  const disk = new Disk();
  const key = newKey();
  const { bytes } = await disk.boot(key);
  for (const [wrong, reason] of [
    [newKey(), 'data disk: Command failed: /usr/sbin/cryptsetup'],
    ['', 'data disk: the key has fewer than 32 bytes'],
    [key.slice(2), 'data disk: the key has fewer than 32 bytes'],
  ] as const) {
    const refused = await disk.boot(wrong);
    expect(refused).toMatchObject({ left: 'disk-key', opened: false, bytes });
    expect(refused.said).toContain(reason);
    expect(refused.said).toContain('ended with 1');
  }
  expect((await disk.boot(key)).said).toContain('data disk: unlocked');
});

test('neither an empty key, nor a disk of somebody else, nor another header of the same key is taken', async () => {
  const disk = new Disk();
  const key = newKey();
  const empty = await disk.bytes();
  expect(await disk.boot('')).toMatchObject({ left: 'disk-key', opened: false, bytes: empty });

  disk.write('somebody else lives here');
  const before = await disk.bytes();
  const refused = await disk.boot(key);
  expect(refused).toMatchObject({ left: 'disk-key', opened: false, bytes: before });
  expect(refused.said).toContain('data disk: refused: no LUKS header');

  disk.write('\0'.repeat('somebody else lives here'.length));
  expect((await disk.boot(key)).opened).toBe(true);
  // What the volume remembers is of another header.
  const other = new Disk();
  await other.boot(key);
  disk.takeVolumeOf(other);
  const swapped = await disk.boot(key);
  expect(swapped.said).toContain('data disk: the header is not the one that the volume remembers');
  expect(swapped).toMatchObject({ left: 'disk-key', opened: false });
});
