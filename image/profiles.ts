/**
 * What differs between the images and what is the same in all of them: packages, kernel modules, programs that may
 * stay, command line. A profile's name is part of os-release, so it is measured.
 */

export const PROFILES = ['production', 'testnet', 'devnet', 'debug'] as const;
/** production; testnet: with export of logs and metrics and ssh; devnet: stand-ins; debug: devnet with a shell. */
export type Profile = (typeof PROFILES)[number];

/** Only Debian's main suite: it moves at point releases alone, so a lock holds for months. */
export const MAIN_ONLY = ['trixie'];
/** What a machine that holds keys is built from; a lock of these goes stale every few days. */
const WITH_SECURITY = ['trixie', 'trixie-updates', 'trixie-security'];

/** The concrete package: its meta package would bring another kernel with every refresh. */
const KERNELS = {
  main: 'linux-image-6.12.107+deb13-cloud-amd64',
  security: 'linux-image-6.12.117+deb13-cloud-amd64',
};

/** Locks of root file systems. */
export type RootLock = 'main' | 'security' | 'debug' | 'testnet';

/** Which of them a profile is built from. */
export function rootLockOf(profile: Profile): RootLock {
  if (profile === 'production') return 'security';
  return profile === 'devnet' ? 'main' : profile;
}

/** Suites that a lock is resolved in. */
export function suitesOf(lock: RootLock): string[] {
  return lock === 'security' || lock === 'testnet' ? WITH_SECURITY : MAIN_ONLY;
}

/** Debian packages of the root file system; a dependency comes along unless it is in `LEFT_OUT`. */
export function rootPackages(lock: RootLock): string[] {
  const kernel = suitesOf(lock) === MAIN_ONLY ? KERNELS.main : KERNELS.security;
  return [kernel, ...ROOT_PACKAGES, ...(lock === 'debug' || lock === 'testnet' ? DEBUG_PACKAGES : [])];
}

/** Of images that somebody may look into; those of testnet send out what they log and count, too. */
const DEBUG_PACKAGES = ['busybox-static', 'openssh-server', 'prometheus', 'systemd-journal-remote'];

const ROOT_PACKAGES = [
  'base-files',
  'ca-certificates',
  'chrony',
  'cryptsetup-bin',
  'e2fsprogs',
  'haproxy',
  'libatomic1',
  'libstdc++6',
  'mount',
  'nftables',
  'prometheus-node-exporter',
  'systemd',
  'systemd-resolved',
  'udev',
];

/** Dependencies that only installation, login or a shell would need. */
export const LEFT_OUT = [
  'adduser',
  'base-passwd',
  'dash',
  'dbus',
  'dbus-bin',
  'dbus-daemon',
  'dbus-session-bus-common',
  'dbus-system-bus-common',
  'debconf',
  'dmsetup',
  'init-system-helpers',
  'initramfs-tools',
  'initramfs-tools-bin',
  'initramfs-tools-core',
  'iproute2',
  'klibc-utils',
  'libcap2-bin',
  'libdebconfclient0',
  'libklibc',
  'libncursesw6',
  'libpam-modules',
  'libpam-modules-bin',
  'libproc2-0',
  'libsemanage-common',
  'libsemanage2',
  'libsepol2',
  'libtext-charwidth-perl',
  'libtext-wrapi18n-perl',
  'libtirpc-common',
  'libtirpc3t64',
  'linux-base',
  'login.defs',
  'logsave',
  'lsb-base',
  'mawk',
  'openssl',
  'passwd',
  'perl-base',
  'procps',
  'sensible-utils',
  'sysvinit-utils',
  'ucf',
  'cpio',
  'busybox',
  'coreutils',
  'dracut',
  'dracut-core',
  'kmod',
  'gettext-base',
  'fonts-glyphicons-halflings',
  'javascript-common',
  'libjs-bootstrap',
  'libjs-bootstrap4',
  'libjs-eonasdan-bootstrap-datetimepicker',
  'libjs-jquery',
  'libjs-jquery-hotkeys',
  'libjs-moment',
  'libjs-moment-timezone',
  'libjs-mustache',
  'libjs-popper.js',
  'libjs-rickshaw',
  'libjs-d3',
  'libpam-runtime',
  'openssh-client',
  'openssh-sftp-server',
  'promtool',
  'runit-helper',
  'logrotate',
  'cron',
];

/** What builds, measures and boots the image: the machine's own suite does not matter. */
export const TOOLS_PACKAGES = [
  'bash',
  'busybox-static',
  'coreutils',
  'cpio',
  'cryptsetup-bin',
  'dash',
  'dosfstools',
  'dpkg',
  'e2fsprogs',
  'erofs-utils',
  'fdisk',
  'findutils',
  'gcc',
  'grep',
  'gzip',
  'iproute2',
  'kmod',
  'libc-bin',
  'libc6-dev',
  'libfaketime',
  'mount',
  'mtools',
  'ovmf',
  'mawk',
  'qemu-system-x86',
  'sed',
  'swtpm',
  'swtpm-tools',
  'systemd',
  'systemd-boot-efi',
  'systemd-ukify',
  'tar',
  'util-linux',
  'xz-utils',
  'zstd',
];

/** What gcc and libc6-dev ask for and C of ours does not use: runtimes of other options, plugins, profilers. */
export const TOOLS_LEFT_OUT = [
  'libasan8',
  'libc-dev-bin',
  'libcc1-0',
  'libcrypt-dev',
  'libgomp1',
  'libgprofng0',
  'libhwasan0',
  'libitm1',
  'liblsan0',
  'libquadmath0',
  'libtsan2',
  'libubsan1',
  'rpcsvc-proto',
];

const PROGRAMS: readonly string[] = [
  'usr/bin/chronyc',
  'usr/bin/mount',
  'usr/bin/node',
  'usr/bin/systemctl',
  'usr/bin/systemd-tmpfiles',
  'usr/bin/udevadm',
  'usr/bin/umount',
  'usr/lib/systemd/systemd',
  'usr/lib/systemd/systemd-executor',
  'usr/lib/systemd/systemd-journald',
  'usr/lib/systemd/systemd-modules-load',
  'usr/lib/systemd/systemd-networkd',
  'usr/lib/systemd/systemd-networkd-wait-online',
  'usr/lib/systemd/systemd-resolved',
  'usr/lib/systemd/systemd-shutdown',
  'usr/lib/systemd/systemd-sysctl',
  'usr/sbin/chronyd',
  'usr/sbin/cryptsetup',
  'usr/sbin/e2fsck',
  'usr/sbin/haproxy',
  'usr/sbin/mke2fs',
  'usr/sbin/nft',
];

/** Programs that may stay in the root file system; everything else that can be executed is taken out. */
export function programsOf(profile: Profile): string[] {
  return [
    ...PROGRAMS,
    ...(profile === 'production' ? [] : ['usr/bin/prometheus-node-exporter']),
    ...(profile === 'testnet' ? EXPORT_PROGRAMS : []),
    ...(profile === 'testnet' || profile === 'debug' ? DEBUG_PROGRAMS : []),
  ];
}

const EXPORT_PROGRAMS = ['usr/bin/prometheus', 'usr/lib/systemd/systemd-journal-upload'];
const DEBUG_PROGRAMS = [
  'usr/bin/busybox',
  'usr/lib/openssh/sshd-auth',
  'usr/lib/openssh/sshd-session',
  'usr/sbin/sshd',
];

/** Names by which busybox is found, in images that somebody may look into. */
export const DEBUG_LINKS = [
  'cat',
  'df',
  'dmesg',
  'du',
  'env',
  'find',
  'free',
  'grep',
  'head',
  'hexdump',
  'id',
  'ip',
  'less',
  'ls',
  'lsof',
  'netstat',
  'nc',
  'nslookup',
  'ping',
  'ps',
  'sed',
  'sh',
  'sort',
  'tail',
  'top',
  'traceroute',
  'uptime',
  'vi',
  'wc',
];

const UNITS = [
  'basic.target',
  'final.target',
  'local-fs-pre.target',
  'local-fs.target',
  'multi-user.target',
  'network-online.target',
  'network-pre.target',
  'network.target',
  'nss-lookup.target',
  'paths.target',
  'poweroff.target',
  'reboot.target',
  'remote-fs.target',
  'shutdown.target',
  'slices.target',
  'sockets.target',
  'sysinit.target',
  'systemd-journald-dev-log.socket',
  'systemd-journald.service',
  'systemd-journald.socket',
  'systemd-modules-load.service',
  'systemd-networkd-wait-online.service',
  'systemd-networkd.service',
  'systemd-networkd.socket',
  'systemd-poweroff.service',
  'systemd-reboot.service',
  'systemd-resolved.service',
  'systemd-sysctl.service',
  'systemd-tmpfiles-setup.service',
  'systemd-udev-trigger.service',
  'systemd-udevd-control.socket',
  'systemd-udevd-kernel.socket',
  'systemd-udevd.service',
  'time-set.target',
  'time-sync.target',
  'timers.target',
  'umount.target',
];

/** Units of Debian's systemd that may stay; the others are taken out, so nothing can start them. */
export function unitsOf(profile: Profile): string[] {
  return [...UNITS, ...(isDevelopment(profile) ? [] : ['sys-kernel-config.mount'])];
}

/** Rules of udev that may stay; none of them loads a module. */
export const UDEV_RULES = [
  '50-udev-default.rules',
  '75-net-description.rules',
  '80-net-setup-link.rules',
  '99-systemd.rules',
];

const MODULES = [
  'aesni_intel',
  'algif_skcipher',
  'dm_crypt',
  'nf_conntrack',
  'nf_tables',
  'nft_ct',
  'nft_limit',
  'nft_reject_inet',
  'sch_fq',
  'tcp_bbr',
  'virtio_blk',
  'virtio_net',
  'virtio_rng',
  'xts',
];

/** Kernel modules of the root file system, loaded at the start; then loading is locked. Dependencies come along. */
export function modulesOf(profile: Profile): string[] {
  return [...MODULES, ...(isDevelopment(profile) ? [] : ['tdx_guest', 'tsm'])];
}

/** Kernel modules of the initrd. */
export const INITRD_MODULES = ['virtio_blk', 'dm_verity', 'erofs'];

const COMMAND_LINE = [
  'lockdown=integrity',
  'module.sig_enforce=1',
  'init_on_alloc=1',
  'init_on_free=1',
  'slab_nomerge',
  'page_alloc.shuffle=1',
  'randomize_kstack_offset=on',
  'vsyscall=none',
  'debugfs=off',
  'oops=panic',
  'panic=1',
  'mitigations=auto',
  'nohibernate',
  'ipv6.disable=1',
  'systemd.import_credentials=no',
  'systemd.firstboot=no',
  'systemd.show_status=no',
  'systemd.crash_action=poweroff',
];

/**
 * The kernel's command line. The initrd compares it with its own copy, so it must be as the kernel shows it.
 * @param rootHash of the verity tree, 64 hex digits
 */
export function commandLine(profile: Profile, rootHash: string): string {
  // Production says nothing at all on the port that the host reads.
  const console = profile === 'production' ? ['quiet', 'loglevel=0'] : ['console=ttyS0', 'loglevel=5'];
  return [...console, ...COMMAND_LINE, `roothash=${rootHash}`].join(' ');
}

/** Whether the profile has stand-ins: production and testnet refuse to build with any. */
export function isDevelopment(profile: Profile): boolean {
  return profile === 'devnet' || profile === 'debug';
}
