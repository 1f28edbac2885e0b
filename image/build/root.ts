/**
 * The root file system: Debian packages without what is not needed, the node with its production dependencies, and
 * the configuration made from the service table. What is not on a list in profiles.ts does not stay.
 */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  globSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { type Artifact, ofProfile } from '../artifacts.ts';
import { DEBUG_LINKS, modulesOf, type Profile, programsOf, UDEV_RULES, unitsOf } from '../profiles.ts';
import type { Surroundings } from '../surroundings.ts';
import { addApp } from './app.ts';
import { writeConfiguration } from './configure.ts';
import type { DebianLock, NpmLock } from './lock.ts';
import { runTool } from './sandbox.ts';
import type { Store } from './store.ts';
import { walk } from './tree.ts';
import { unpackDebs } from './unpack.ts';

export interface RootOptions {
  readonly store: Store;
  readonly profile: Profile;
  readonly around: Surroundings;
  readonly manifest: readonly Artifact[];
  readonly debian: DebianLock;
  readonly npm: NpmLock;
  /** Root of the tools tree. */
  readonly tools: string;
  /** Folder of this project's sources. */
  readonly sources: string;
  /** Folder to work in, on the same file system as the result. */
  readonly work: string;
}

/** Where the parts are, inside the folder to work in. */
export interface RootParts {
  readonly root: string;
  readonly kernel: string;
  /** Release name, `uname -r`. */
  readonly release: string;
  /** Every module of the kernel, for the initrd. */
  readonly modules: string;
}

/** Folders of Debian packages that nothing here reads. */
const UNUSED = [
  'boot',
  'etc/apparmor.d',
  'etc/apt',
  'etc/ca-certificates',
  'etc/credstore*',
  'etc/dpkg',
  'etc/gss',
  'etc/issue*',
  'etc/modules-load.d',
  'etc/network',
  'etc/rsyslog.d',
  'etc/tmpfiles.d',
  'usr/lib/NetworkManager',
  'usr/lib/dracut',
  'usr/lib/lsb',
  'usr/lib/networkd-dispatcher',
  'usr/libexec',
  'usr/share/base-files',
  'usr/share/chrony',
  'usr/share/common-licenses',
  'etc/cron.daily',
  'etc/cron.d',
  'etc/default',
  'etc/haproxy',
  'etc/init.d',
  'etc/kernel',
  'etc/logrotate.d',
  'etc/modprobe.d',
  'etc/NetworkManager',
  'etc/pam.d',
  'etc/ppp',
  'etc/profile.d',
  'etc/rc*.d',
  'etc/skel',
  'etc/ssh',
  'etc/sysctl.d',
  'etc/systemd',
  'etc/udev',
  'etc/update-motd.d',
  'etc/X11',
  'etc/xdg',
  'etc/dbus-1',
  'etc/dhcp',
  'etc/binfmt.d',
  'etc/chrony',
  'etc/security',
  'etc/nftables.conf',
  'home',
  'media',
  'mnt',
  'opt',
  'root',
  'srv',
  'usr/games',
  'usr/include',
  'usr/local',
  'usr/src',
  'usr/share/bash-completion',
  'usr/share/bug',
  'usr/share/dbus-1',
  'usr/share/doc',
  'usr/share/doc-base',
  'usr/share/factory',
  'usr/share/gcc',
  'usr/share/gdb',
  'usr/share/initramfs-tools',
  'usr/share/info',
  'usr/share/lintian',
  'usr/share/locale',
  'usr/share/man',
  'usr/share/menu',
  'usr/share/polkit-1',
  'usr/share/zsh',
  'usr/share/zoneinfo',
  'usr/share/vim',
  'usr/share/apport',
  'usr/share/nftables',
  'usr/share/pkgconfig',
  'usr/share/mime',
  'usr/share/gitweb',
  'usr/share/libc-bin',
  'usr/share/perl5',
  'usr/share/debconf',
  'usr/share/dict',
  'usr/share/tabset',
  'usr/share/user-tmpfiles.d',
  'usr/lib/binfmt.d',
  'usr/lib/environment.d',
  'usr/lib/initcpio',
  'usr/lib/kernel',
  'usr/lib/modprobe.d',
  'usr/lib/modules-load.d',
  'usr/lib/pam.d',
  'usr/lib/pcrlock.d',
  'usr/lib/sysctl.d',
  // Debian's changes to settings would come after ours.
  'usr/lib/systemd/*.conf.d',
  'usr/lib/systemd/boot',
  'usr/lib/systemd/catalog',
  'usr/lib/systemd/network',
  'usr/lib/systemd/ntp-units.d',
  'usr/lib/systemd/portable',
  'usr/lib/systemd/profile.d',
  'usr/lib/systemd/resolv.conf',
  'usr/lib/systemd/repart',
  'usr/lib/systemd/system-environment-generators',
  'usr/lib/systemd/system-generators',
  'usr/lib/systemd/system-preset',
  'usr/lib/systemd/system-shutdown',
  'usr/lib/systemd/system-sleep',
  'usr/lib/systemd/user',
  'usr/lib/systemd/user-environment-generators',
  'usr/lib/systemd/user-generators',
  'usr/lib/systemd/user-preset',
  'usr/lib/sysusers.d',
  'usr/lib/tmpfiles.d',
  'usr/lib/udev/hwdb.d',
  'usr/lib/x86_64-linux-gnu/perl-base',
  'usr/lib/x86_64-linux-gnu/gconv',
  'usr/lib/x86_64-linux-gnu/cryptsetup',
  'usr/lib/x86_64-linux-gnu/security',
  'var',
];

/** Mount points and folders that must be there because the root cannot be written. */
const FOLDERS = ['dev', 'proc', 'sys', 'run', 'tmp', 'var', 'root', 'etc/systemd/system', 'efi'];

/** Makes the tree. */
export async function buildRoot(options: RootOptions): Promise<RootParts> {
  const { store, profile, around, manifest, debian, npm, tools, sources, work } = options;
  const root = join(work, 'root');
  const modules = join(work, 'modules');
  const kernel = join(work, 'vmlinuz');
  await unpackDebs(store, debian, root, { tools });

  // The kernel and its modules go their own ways.
  const [image = ''] = globSync('boot/vmlinuz-*', { cwd: root });
  const release = basename(image).slice('vmlinuz-'.length);
  copyFileSync(join(root, image), kernel);
  renameSync(join(root, 'usr/lib/modules'), modules);
  await prepareModules(work, tools, release);

  for (const pattern of UNUSED) {
    for (const path of globSync(pattern, { cwd: root })) rmSync(join(root, path), { recursive: true });
  }
  keepOnlyListed(root, profile);
  if (programsOf(profile).includes('usr/bin/busybox')) {
    for (const name of DEBUG_LINKS) symlinkSync('busybox', join(root, 'usr/bin', name));
  }
  for (const folder of FOLDERS) mkdirSync(join(root, folder), { recursive: true });
  await addApp({ store, profile, npm, root, sources, work, tools });
  const built = ofProfile(manifest, profile).filter(({ when }) => when === 'build');
  for (const { name, size, sha256, target } of built) {
    if (size === null || sha256 === null) throw new Error(`artifact ${name} has no digest`);
    copyFileSync(await store.open(`artifact ${name}`, { size, sha256 }), join(root, target));
  }
  addModules(root, modules, release, modulesOf(profile));
  writeConfiguration(root, { profile, around, manifest, epoch: debian.epoch });
  await runTool(['depmod', '-b', '/work/root/usr', release], { tools, mounts: { '/work': work } });
  await runTool(['ldconfig', '-X', '-r', '/work/root'], { tools, mounts: { '/work': work } });
  rmSync(join(root, 'var/cache'), { recursive: true, force: true });
  for (const name of readdirSync(join(root, 'var'))) rmSync(join(root, 'var', name), { recursive: true });
  normaliseModes(root, new Set([...programsOf(profile), ...built.map(({ target }) => target)]));
  return { root, kernel, release, modules };
}

/** Decompresses every module (signatures stay valid) and works out what needs what. */
async function prepareModules(work: string, tools: string, release: string): Promise<void> {
  const mounts = { '/work': work };
  await runTool(['sh', '-c', `find /work/modules -name '*.ko.xz' -print0 | xargs -0 -r -P 2 -n 100 xz -d`], {
    tools,
    mounts,
  });
  mkdirSync(join(work, 'depmod/lib'), { recursive: true });
  renameSync(join(work, 'modules'), join(work, 'depmod/lib/modules'));
  await runTool(['depmod', '-b', '/work/depmod', release], { tools, mounts });
  renameSync(join(work, 'depmod/lib/modules'), join(work, 'modules'));
}

/**
 * Files of the named modules and of all they need, in the order in which they must be loaded.
 * @param folder holds `modules.dep` and the files
 * @throws Error naming a module that the kernel does not have
 */
export function modulesWithDependencies(folder: string, names: readonly string[]): string[] {
  const plain = (file: string): string => basename(file, '.ko').replaceAll('-', '_');
  const lines = readFileSync(join(folder, 'modules.dep'), 'utf8').split('\n');
  const needs = new Map<string, { file: string; after: string[] }>();
  for (const line of lines.filter((one) => one !== '')) {
    const [file = '', rest = ''] = line.split(':');
    needs.set(plain(file), {
      file,
      after: rest
        .trim()
        .split(' ')
        .filter((one) => one !== ''),
    });
  }
  const ordered = new Set<string>();
  for (const name of names) {
    const entry = needs.get(name.replaceAll('-', '_'));
    if (entry === undefined) throw new Error(`the kernel has no module ${name}`);
    // depmod lists what is needed last first.
    for (const file of [...entry.after.toReversed(), entry.file]) ordered.add(file);
  }
  return [...ordered];
}

function addModules(root: string, modules: string, release: string, names: readonly string[]): void {
  const from = join(modules, release);
  const to = join(root, 'usr/lib/modules', release);
  const lists = ['modules.order', 'modules.builtin', 'modules.builtin.modinfo'];
  for (const file of [...modulesWithDependencies(from, names), ...lists]) {
    mkdirSync(dirname(join(to, file)), { recursive: true });
    copyFileSync(join(from, file), join(to, file));
  }
}

/** Takes out every program, unit and device rule that no list names. @throws Error naming a listed one that is missing */
function keepOnlyListed(root: string, profile: Profile): void {
  const programs = new Set(programsOf(profile));
  const folders = /^usr\/(?:bin|sbin|lib\/systemd|lib\/udev|libexec|lib\/[^/]+)\//u;
  // Listed first: the walk must not meet what has just gone.
  const entries = [...walk(root)];
  for (const { path, type } of entries) {
    if (type === 'folder' || programs.has(path)) continue;
    const inBin = /^usr\/s?bin\//u.test(path);
    const isLibrary = /\.so(?:\.|$)/u.test(path);
    const executable = type === 'file' && (lstatSync(join(root, path)).mode & 0o111) !== 0;
    if (inBin || (folders.test(path) && executable && !isLibrary)) rmSync(join(root, path));
  }
  // haproxy and others name programs by links of alternatives; none is followed here.
  for (const program of programs) {
    if (program !== 'usr/bin/node' && !existsSync(join(root, program))) {
      throw new Error(`the list of programs names ${program}, which no package brings`);
    }
  }
  const units = join(root, 'usr/lib/systemd/system');
  for (const name of readdirSync(units)) {
    if (!unitsOf(profile).includes(name)) rmSync(join(units, name), { recursive: true });
  }
  const missing = unitsOf(profile).filter((name) => !existsSync(join(units, name)));
  if (missing.length > 0)
    throw new Error(`the list of units names ${missing.join(', ')}, which no package brings`);
  const rules = join(root, 'usr/lib/udev/rules.d');
  for (const name of readdirSync(rules)) {
    if (!UDEV_RULES.includes(name)) rmSync(join(rules, name));
  }
}

/** No set-uid file, nothing that others may write; only what is on the list, and the loader, can be executed. */
function normaliseModes(root: string, programs: ReadonlySet<string>): void {
  for (const { path, type } of walk(root)) {
    if (type === 'link') continue;
    const executable =
      type === 'folder' || programs.has(path) || /(?:^|\/)ld-linux-x86-64\.so\.2$/u.test(path);
    chmodSync(join(root, path), path === 'etc/shadow' ? 0o600 : executable ? 0o755 : 0o644);
  }
}
