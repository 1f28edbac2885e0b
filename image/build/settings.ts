/** Configuration files of the image that do not follow from the service table. */
import { privatePrograms } from '../artifacts.ts';
import { operatorToml } from '../guest/operator-config.ts';
import { isDevelopment } from '../profiles.ts';
import { actionTable } from '../services/operator.ts';
import { servicesOf, standInsOf } from '../services.ts';
import type { Surroundings } from '../surroundings.ts';
import { DEVELOPMENT_HUB_CERTIFICATE } from '../vm/development-hub.ts';
import type { ConfigurationOptions } from './configure.ts';

const SYSCTL = `
kernel.kptr_restrict = 2
kernel.dmesg_restrict = 1
kernel.unprivileged_bpf_disabled = 1
net.core.bpf_jit_harden = 2
kernel.perf_event_paranoid = 3
kernel.yama.ptrace_scope = 2
kernel.kexec_load_disabled = 1
kernel.sysrq = 0
kernel.io_uring_disabled = 1
kernel.core_pattern =
kernel.panic_on_oops = 1
vm.unprivileged_userfaultfd = 0
fs.suid_dumpable = 0
fs.protected_fifos = 2
fs.protected_hardlinks = 1
fs.protected_regular = 2
fs.protected_symlinks = 1
dev.tty.ldisc_autoload = 0
user.max_user_namespaces = 0
net.ipv4.conf.all.rp_filter = 1
net.ipv4.conf.default.rp_filter = 1
net.ipv4.conf.all.accept_redirects = 0
net.ipv4.conf.default.accept_redirects = 0
net.ipv4.conf.all.send_redirects = 0
net.ipv4.conf.default.send_redirects = 0
net.ipv4.conf.all.accept_source_route = 0
net.ipv4.tcp_syncookies = 1
net.core.default_qdisc = fq
net.ipv4.tcp_congestion_control = bbr
net.ipv4.tcp_slow_start_after_idle = 0
net.core.rmem_max = 234881024
net.core.wmem_max = 234881024
net.core.somaxconn = 8192
`.trimStart();

/** Name and value of each kernel setting that the image makes. */
export function sysctls(): [string, string][] {
  return SYSCTL.trim()
    .split('\n')
    .map((line) => {
      const [name = '', value = ''] = line.split('=');
      return [name.trim(), value.trim()];
    });
}

const tmpfs = (where: string, options: string, before: string): string => `[Unit]
Description=${where} in RAM
DefaultDependencies=no
Conflicts=umount.target
Before=local-fs.target umount.target ${before}

[Mount]
What=tmpfs
Where=${where}
Type=tmpfs
Options=nosuid,nodev,noexec,${options}
`;

/** The journal is root's alone until its group is told to read it: the one that sends it out. */
const JOURNAL_READERS = `z /run/log/journal 2755 root systemd-journal -
Z /run/log/journal/%m ~2750 root systemd-journal -
`;

/** Text by path; `-> TARGET` makes a link. The clock is never before the age of clock-epoch, as of every file. */
export function configurationFiles(options: ConfigurationOptions): Record<string, string> {
  const { profile, around, manifest, epoch } = options;
  const development = isDevelopment(profile);
  const standIns = standInsOf(profile, around).join(' ');
  const services = servicesOf(profile, around);
  const uploads = services.some(({ unit }) => unit === 'systemd-journal-upload.service');
  const started = services.flatMap(({ triggers = {} }) => Object.keys(triggers));
  const units = 'usr/lib/systemd/system';
  return {
    'etc/machine-id': '',
    'etc/hostname': 'orderflow\n',
    'etc/hosts': '127.0.0.1 localhost\n',
    'etc/fstab': '',
    'etc/os-release': '-> ../usr/lib/os-release',
    'usr/lib/os-release': [
      'NAME=orderflow',
      'ID=orderflow',
      `PRETTY_NAME="orderflow (${profile})"`,
      `VARIANT_ID=${profile}`,
      `IMAGE_VERSION=${new Date(epoch * 1000).toISOString().slice(0, 10)}`,
      ...(standIns === '' ? [] : [`STAND_INS="${standIns}"`]),
      '',
    ].join('\n'),
    'usr/lib/clock-epoch': '',
    'etc/mtab': '-> ../proc/self/mounts',
    'etc/resolv.conf': '-> ../run/systemd/resolve/stub-resolv.conf',
    'etc/nsswitch.conf':
      'passwd: files\ngroup: files\nshadow: files\nhosts: files resolve [!UNAVAIL=return] dns\n',
    'etc/localtime': '-> ../usr/share/zoneinfo/UTC',
    'usr/sbin/init': '-> ../lib/systemd/systemd',
    'usr/lib/sysctl.d/image.conf': SYSCTL,
    'usr/lib/sysctl.late/modules.conf': 'kernel.modules_disabled = 1\n',
    'etc/systemd/system.conf': `[Manager]
DefaultLimitCORE=0
CrashReboot=no
LogLevel=notice
DefaultTimeoutStartSec=180
CtrlAltDelBurstAction=none
`,
    'etc/systemd/journald.conf': `[Journal]
Storage=volatile
RuntimeMaxUse=64M
RateLimitIntervalSec=10s
RateLimitBurst=2000
ForwardToSyslog=no
ForwardToKMsg=no
ForwardToWall=no
ForwardToConsole=${development ? 'yes' : 'no'}
TTYPath=/dev/ttyS0
MaxLevelConsole=info
ReadKMsg=yes
Audit=no
`,
    'etc/systemd/coredump.conf': '[Coredump]\nStorage=none\nProcessSizeMax=0\n',
    'etc/systemd/resolved.conf': '[Resolve]\nLLMNR=no\nMulticastDNS=no\nDNSStubListener=yes\n',
    'usr/lib/systemd/network/50-wired.network':
      '[Match]\nName=e*\n\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n\n[DHCPv4]\nUseHostname=no\nUseNTP=no\nUseTimezone=no\n',
    'usr/lib/systemd/network/99-default.link': '[Match]\nOriginalName=*\n\n[Link]\nNamePolicy=keep kernel\n',
    'etc/chrony.conf': chrony(around),
    'usr/lib/tmpfiles.d/image.conf': `d /var/lib 0755 root root -
d /var/log 0755 root root -
d /var/cache 0755 root root -
d /var/tmp 1777 root root -
d /run/log 0755 root root -
d /run/lock 0755 root root -
L /var/run - - - - ../run
d /run/node 0700 root root -
d /run/node/operator-api 0700 root root -
C /run/node/operator-api/config.toml 0400 root root - /etc/operator-api.toml
d /run/operator-api 0755 operator-api operator-api -
${uploads ? JOURNAL_READERS : ''}`,
    // Until there is a configuration: the boot can be seen, nothing can be done.
    'etc/operator-api.toml': operatorToml({ hash: '', phase: 'boot', actions: '' }),
    'usr/share/orderflow/operator-actions.toml': actionTable(profile),
    ...(around.hubAuthority === null ? {} : { [around.hubAuthority.slice(1)]: DEVELOPMENT_HUB_CERTIFICATE }),
    ...(development ? {} : { 'etc/private-programs.json': privatePrograms(manifest, profile) }),
    'usr/share/orderflow/index.html':
      '<!doctype html><title>orderflow</title><p>This is a node of an orderflow network. Orders go to POST /.</p>\n',
    [`${units}/default.target`]: '-> multi-user.target',
    [`${units}/var.mount`]: tmpfs('/var', 'mode=0755,size=128M', 'systemd-tmpfiles-setup.service'),
    [`${units}/tmp.mount`]: tmpfs('/tmp', 'mode=1777,size=128M', 'systemd-tmpfiles-setup.service'),
    [`${units}/local-fs.target.wants/var.mount`]: '-> ../var.mount',
    [`${units}/local-fs.target.wants/tmp.mount`]: '-> ../tmp.mount',
    ...wants('sysinit.target', [
      'systemd-journald.service',
      'systemd-modules-load.service',
      'systemd-sysctl.service',
      'systemd-tmpfiles-setup.service',
      'systemd-udev-trigger.service',
      'systemd-udevd.service',
    ]),
    ...wants('sockets.target', [
      'systemd-journald.socket',
      'systemd-journald-dev-log.socket',
      'systemd-networkd.socket',
      'systemd-udevd-control.socket',
      'systemd-udevd-kernel.socket',
      ...started.filter((name) => name.endsWith('.socket')),
    ]),
    ...wants('multi-user.target', [
      'systemd-networkd.service',
      'systemd-resolved.service',
      ...started.filter((name) => /\.(?:timer|path)$/u.test(name)),
    ]),
    ...(development ? {} : wants('sysinit.target', ['sys-kernel-config.mount'])),
    ...wants('network-online.target', ['systemd-networkd-wait-online.service']),
    // Without its firewall the machine has no network.
    [`${units}/systemd-networkd.service.d/firewall.conf`]:
      '[Unit]\nRequires=firewall.service\nAfter=firewall.service\n',
  };
}

function wants(target: string, units: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    units.map((unit) => [`usr/lib/systemd/system/${target}.wants/${unit}`, `-> ../${unit}`]),
  );
}

/** The clock may go forward by any amount at the start, later by 1800 s; a wrong one must not stop the first NTS. */
function chrony({ time }: Surroundings): string {
  return `${[
    ...time,
    'makestep 1 3',
    'maxchange 1800 3 -1',
    'port 0',
    'cmdport 0',
    'bindcmdaddress /run/chrony/chronyd.sock',
    'pidfile /run/chrony/chronyd.pid',
    'rtcsync',
  ].join('\n')}\n`;
}
