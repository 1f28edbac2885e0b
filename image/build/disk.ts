/**
 * The parts that a machine boots: the root file system with its hash tree, the kernel image, the boot partition and
 * the disk. Every id in them is fixed or made from the root hash.
 */
import { closeSync, copyFileSync, openSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runTool } from './sandbox.ts';

const ROOT_ID = 'f3d3a0b6-6f72-4465-9266-6c6f7772f001';
const TREE_ID = 'f3d3a0b6-6f72-4465-9266-6c6f7772f002';
const DISK_ID = 'F3D3A0B6-6F72-4465-9266-6C6F7772F003';
const ESP_ID = 'F3D3A0B6-6F72-4465-9266-6C6F7772F004';
const SALT = '6f72646572666c6f77206e6f646520696d61676520726f6f742073616c740a00';
/** Discoverable partition types: EFI system, root of x86-64, its hash tree. */
const TYPE = {
  esp: 'C12A7328-F81F-11D2-BA4B-00A0C93EC93B',
  root: '4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709',
  tree: '2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5',
};
const SECTOR = 512;
const MIB = 1024 * 1024;
/** Below about 33 MiB FAT32 has too few clusters, and the firmware drops to its shell. */
const ESP_MIB = 48;

/** @returns the root hash, 64 hex digits; leaves root.erofs and root.verity in the folder */
export async function sealRoot(work: string, tools: string, epoch: number): Promise<string> {
  const sandbox = { tools, mounts: { '/work': work }, epoch };
  await runTool(
    [
      'mkfs.erofs',
      '--quiet',
      '-zlz4hc',
      `-T${epoch}`,
      `-U${ROOT_ID}`,
      '-x-1',
      '--all-root',
      '-b4096',
      '/work/root.erofs',
      '/work/root',
    ],
    sandbox,
  );
  const printed = await runTool(
    [
      'veritysetup',
      'format',
      '--hash=sha256',
      '--data-block-size=4096',
      '--hash-block-size=4096',
      `--salt=${SALT}`,
      `--uuid=${TREE_ID}`,
      '/work/root.erofs',
      '/work/root.verity',
    ],
    sandbox,
  );
  const hash = /^Root hash:\s+([0-9a-f]{64})$/mu.exec(printed)?.[1];
  if (hash === undefined) throw new Error(`veritysetup printed no root hash:\n${printed}`);
  return hash;
}

export interface UkiOptions {
  readonly work: string;
  readonly tools: string;
  readonly release: string;
  readonly commandLine: string;
  readonly epoch: number;
}

/** One EFI program with kernel, command line and initrd; unsigned, because the measurement is what counts. */
export async function buildUki({ work, tools, release, commandLine, epoch }: UkiOptions): Promise<void> {
  writeFileSync(join(work, 'cmdline'), commandLine);
  copyFileSync(join(work, 'root/usr/lib/os-release'), join(work, 'os-release'));
  await runTool(
    [
      'ukify',
      'build',
      '--linux=/work/vmlinuz',
      '--initrd=/work/initrd.zst',
      '--cmdline=@/work/cmdline',
      '--os-release=@/work/os-release',
      `--uname=${release}`,
      '--stub=/usr/lib/systemd/boot/efi/linuxx64.efi.stub',
      '--output=/work/uki.efi',
    ],
    { tools, mounts: { '/work': work }, epoch },
  );
}

/** The boot partition holds one file; FAT keeps local times, so they are set to its first day. */
export async function buildEsp(work: string, tools: string): Promise<void> {
  const script = [
    'truncate -s "$1" /work/esp.img',
    'mkfs.vfat --invariant -F 32 -i 6f72646c -n BOOT -s 1 /work/esp.img > /dev/null',
    'cp /work/uki.efi /work/BOOTX64.EFI',
    'touch -d "1980-01-01 00:00:00" /work/BOOTX64.EFI',
    'export SOURCE_DATE_EPOCH=315532800',
    'mmd -i /work/esp.img ::/EFI ::/EFI/BOOT',
    'mcopy -m -i /work/esp.img /work/BOOTX64.EFI ::/EFI/BOOT/BOOTX64.EFI',
    'rm /work/BOOTX64.EFI',
  ].join(' && ');
  await runTool(['sh', '-c', script, 'sh', String(ESP_MIB * MIB)], { tools, mounts: { '/work': work } });
}

/** The two halves of the root hash as partition ids: who has the hash finds the partitions. */
function partitionIds(rootHash: string): { root: string; tree: string } {
  const id = (hex: string): string => hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/u, '$1-$2-$3-$4-$5');
  return { root: id(rootHash.slice(0, 32)), tree: id(rootHash.slice(32)) };
}

/** Puts the three partitions into disk.raw. */
export async function buildDisk(work: string, tools: string, rootHash: string): Promise<void> {
  const mib = (file: string): number => Math.ceil(statSync(join(work, file)).size / MIB);
  const ids = partitionIds(rootHash);
  const parts = [
    { file: 'esp.img', type: TYPE.esp, id: ESP_ID, name: 'boot' },
    { file: 'root.erofs', type: TYPE.root, id: ids.root, name: `root-${rootHash.slice(0, 16)}` },
    { file: 'root.verity', type: TYPE.tree, id: ids.tree, name: `tree-${rootHash.slice(0, 16)}` },
  ];
  let start = 1;
  const placed = parts.map((part) => {
    const size = mib(part.file);
    const at = start;
    start += size;
    return { ...part, at, size };
  });
  const lines = placed.map(
    ({ at, size, type, id, name }) =>
      `start=${(at * MIB) / SECTOR}, size=${(size * MIB) / SECTOR}, type=${type}, uuid=${id}, name=${name}`,
  );
  writeFileSync(
    join(work, 'disk.script'),
    ['label: gpt', `label-id: ${DISK_ID}`, 'unit: sectors', ...lines, ''].join('\n'),
  );
  const disk = join(work, 'disk.raw');
  closeSync(openSync(disk, 'w'));
  // A MiB for the second partition table.
  truncateSync(disk, (start + 1) * MIB);
  const script = [
    'sfdisk -q --no-reread --no-tell-kernel /work/disk.raw < /work/disk.script',
    ...placed.map(
      ({ file, at }) =>
        `dd if=/work/${file} of=/work/disk.raw bs=1M seek=${at} conv=notrunc,sparse status=none`,
    ),
  ].join(' && ');
  await runTool(['sh', '-c', script], { tools, mounts: { '/work': work } });
}
