/**
 * The initrd: busybox, veritysetup, three kernel modules and one script. It is part of the measured kernel image, and
 * it trusts nothing else: not what the boot stub added, not a command line other than its own.
 */
import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { INITRD_MODULES } from '../profiles.ts';
import { modulesWithDependencies } from './root.ts';
import { runTool } from './sandbox.ts';
import { walk } from './tree.ts';

/**
 * The partitions are found by their names, which hold the start of the root hash: this kernel does not show partition
 * ids in sysfs. Whatever carries such a name must still be what the whole hash says.
 *
 * `/run` and `/dev/shm` are mounted here because systemd leaves what is mounted as it is, and would mount both
 * without noexec.
 */
const INIT = `#!/bin/busybox sh
export PATH=/bin DM_DISABLE_UDEV=1
busybox mount -t proc -o nosuid,nodev,noexec proc /proc
busybox mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
busybox mount -t devtmpfs -o nosuid,noexec,mode=0755,size=4m devtmpfs /dev
say() { echo "<3>initrd: $1" > /dev/kmsg; }
# The kernel panics when its first program ends, and powers off.
stop() { say "stopped: $1"; busybox sleep 1; exit 1; }

[ "$(busybox cat /proc/cmdline)" = "$(busybox cat /cmdline)" ] || stop "the command line is not the image's"
for file in $(busybox find /.extra -type f 2> /dev/null); do
  [ "$file" = /.extra/os-release ] || stop "the boot stub added $file"
done
busybox rm -rf /.extra

for module in $(busybox cat /modules/order); do
  busybox insmod "/modules/$module" || stop "module $module"
done

hash=$(busybox sed -n 's/.*roothash=\\([0-9a-f]\\{64\\}\\)$/\\1/p' /cmdline)
[ -n "$hash" ] || stop "no root hash"
data="root-$(echo "$hash" | busybox cut -c 1-16)"
tree="tree-$(echo "$hash" | busybox cut -c 1-16)"
device() { busybox grep -l "^PARTNAME=$1$" /sys/class/block/*/uevent | busybox head -n 1 | busybox cut -d / -f 5; }
tries=0
while [ -z "$(device "$data")" ] || [ -z "$(device "$tree")" ]; do
  tries=$((tries + 1))
  [ "$tries" -le 300 ] || stop "no disk with the image's partitions"
  busybox usleep 100000
done
veritysetup open --panic-on-corruption "/dev/$(device "$data")" root "/dev/$(device "$tree")" "$hash" ||
  stop "verity refuses the root file system"
busybox mount -t erofs -o ro,nodev,nosuid /dev/mapper/root /root || stop "the root file system"

busybox mount -t tmpfs -o nosuid,nodev,noexec,mode=0755,size=128m run /run
busybox mkdir -m 1777 /dev/shm
busybox mount -t tmpfs -o nosuid,nodev,noexec,mode=1777,size=16m shm /dev/shm
for folder in proc sys dev run; do busybox mount -o move "/$folder" "/root/$folder"; done
exec busybox switch_root /root /usr/lib/systemd/systemd
`;

const FOLDERS = ['bin', 'dev', 'proc', 'sys', 'run', 'root', 'modules', 'lib64', 'lib/x86_64-linux-gnu'];

export interface InitrdOptions {
  readonly work: string;
  readonly tools: string;
  /** Every module, by release. */
  readonly modules: string;
  readonly release: string;
  readonly commandLine: string;
  readonly epoch: number;
}

/** @returns the path of the compressed archive */
export async function buildInitrd(options: InitrdOptions): Promise<string> {
  const { work, tools, modules, release, commandLine } = options;
  const root = join(work, 'initrd');
  for (const folder of FOLDERS) mkdirSync(join(root, folder), { recursive: true });
  copyFileSync(join(tools, 'usr/bin/busybox'), join(root, 'bin/busybox'));
  await copyProgram(tools, 'usr/sbin/veritysetup', root);
  const from = join(modules, release);
  const order = modulesWithDependencies(from, INITRD_MODULES);
  for (const file of order) copyFileSync(join(from, file), join(root, 'modules', basename(file)));
  writeFileSync(join(root, 'modules/order'), order.map((file) => `${basename(file)}\n`).join(''));
  writeFileSync(join(root, 'cmdline'), `${commandLine}\n`);
  writeFileSync(join(root, 'init'), INIT);
  for (const { path, type } of walk(root)) {
    const executable = type === 'folder' || path === 'init' || /^bin\/|\/ld-linux/u.test(path);
    // Not as the builder's umask had it.
    if (type !== 'link') chmodSync(join(root, path), executable ? 0o755 : 0o644);
  }
  const pack = [
    'cd /work/initrd',
    'find . -exec touch -h -d @0 {} +',
    'find . -mindepth 1 -print0 | sort -z | cpio -0 --quiet -o -H newc -R 0:0 --reproducible > /work/initrd.cpio',
    'zstd -q -12 -f /work/initrd.cpio -o /work/initrd.zst',
  ].join(' && ');
  await runTool(['sh', '-c', pack], { tools, mounts: { '/work': work } });
  return join(work, 'initrd.zst');
}

/** A program with every library it names and the loader. */
async function copyProgram(tools: string, program: string, root: string): Promise<void> {
  // Under a shifted clock ldd would name the library that shifts it.
  const printed = await runTool(['env', '-u', 'LD_PRELOAD', 'ldd', `/${program}`], { tools });
  const libraries = [...printed.matchAll(/(\/\S+\.so[.\d]*)/gu)].map(([, path = '']) => path);
  for (const library of libraries) {
    const folder = library.startsWith('/lib64/') ? 'lib64' : 'lib/x86_64-linux-gnu';
    copyFileSync(join(tools, library), join(root, folder, basename(library)));
  }
  copyFileSync(join(tools, program), join(root, 'bin', basename(program)));
}
