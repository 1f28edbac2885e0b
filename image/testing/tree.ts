/** What can be seen in the tree of an image without booting it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runTool } from '../build/sandbox.ts';
import type { Entry } from '../build/tree.ts';

/** Files by which somebody would get in, or become root, and units that would let them. */
const WAYS_IN = [
  'agetty',
  'apt',
  'bash',
  'busybox',
  'curl',
  'dash',
  'dpkg',
  'login',
  'sh',
  'sshd',
  'su',
  'sudo',
  'sulogin',
  'debug-shell.service',
  'emergency.service',
  'emergency.target',
  'getty@.service',
  'rescue.service',
  'rescue.target',
  'serial-getty@.service',
  'ssh.socket',
  'sshd.service',
];

/** The image's manifest. */
export function filesOf(image: string): Entry[] {
  return JSON.parse(readFileSync(join(image, 'files.json'), 'utf8')) as Entry[];
}

/** Paths of what can be executed, in order, but for the loader of programs. */
export function programsIn(files: readonly Entry[]): string[] {
  return files
    .filter(({ path, type, mode }) => type === 'file' && !path.includes('ld-linux') && hasBits(mode, 0o111))
    .map(({ path }) => path)
    .sort();
}

/** Paths that nobody may have: set-uid, set-gid, sticky, or writable by others than root; and ways in by their names. */
export function unwanted(files: readonly Entry[]): string[] {
  return files
    .filter(
      ({ path, type, mode }) =>
        (type !== 'link' && hasBits(mode, 0o7022)) || WAYS_IN.includes(path.split('/').at(-1) ?? ''),
    )
    .map(({ path }) => path);
}

function hasBits(mode: string, bits: number): boolean {
  return (Number.parseInt(mode, 8) & bits) !== 0;
}

/** Unpacks the root file system of an image into `folder/root`. */
export async function unpackRoot(image: string, tools: string, folder: string): Promise<void> {
  await runTool(['fsck.erofs', '--extract=/work2/root', '--no-preserve', '/work/root.erofs'], {
    tools,
    mounts: { '/work': image, '/work2': folder },
  });
}

/**
 * The secp256k1 library that the node of an unpacked root takes, with the root's own Node and C library.
 * @param folder with the unpacked root in it
 * @returns `native`, or another with the reason
 */
export async function backendIn(folder: string, tools: string): Promise<string> {
  const script = `import { backend, backendFailure } from '/usr/lib/orderflow/identity/secp256k1.js';
process.stdout.write(backendFailure === undefined ? backend : backend + ': ' + backendFailure);`;
  const command = ['chroot', '/work2/root', '/usr/bin/node', '--input-type=module', '--eval', script];
  return runTool(command, { tools, mounts: { '/work2': folder } });
}

/** How exposed systemd takes units to be, 0 to 10, by unit. @param folder with the unpacked root in it */
export async function exposureOf(
  folder: string,
  tools: string,
  units: readonly string[],
): Promise<Map<string, number>> {
  const command = ['systemd-analyze', 'security', '--offline=true', '--root=/work2/root', '--no-pager'];
  const printed = await runTool([...command, ...units], { tools, mounts: { '/work2': folder } });
  const scores = printed.matchAll(/exposure level for (\S+): ([\d.]+)/gu);
  // It takes a template as one of its instances.
  return new Map(
    [...scores].map(([, unit = '', score]) => [unit.replace('@test_instance', '@'), Number(score)]),
  );
}
