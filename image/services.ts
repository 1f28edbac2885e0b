/**
 * What runs in the image: the one list from which units, users, ports, firewall rules and the README's table are
 * made. A service has no more than its row says: its user, what it may call, what it may write, its capabilities.
 */
import { isDevelopment, type Profile } from './profiles.ts';

export interface Port {
  readonly port: number;
  readonly protocol: 'tcp' | 'udp';
  /** loopback: only services of the machine; all: open in the firewall. */
  readonly open: 'loopback' | 'all';
  readonly what: string;
}

/** A connection that the firewall lets out, by the service's user. */
export interface Call {
  readonly protocol: 'tcp' | 'udp';
  readonly port: number;
  /** An IPv4 address; none = anywhere. */
  readonly address?: string;
  readonly what: string;
}

export interface User {
  readonly name: string;
  readonly uid: number;
}

export interface Service {
  /** Name of the unit; several where one service has them. */
  readonly unit: string;
  readonly does: string;
  readonly from: 'Debian' | 'this repository' | 'artifact' | 'to come';
  readonly profiles: readonly Profile[];
  readonly user: User;
  readonly listens: readonly Port[];
  readonly calls: readonly Call[];
  /** How the unit runs; absent where Debian's own unit does or nothing is there yet. */
  readonly run?: Run;
}

export interface Run {
  readonly type: 'oneshot' | 'exec' | 'notify';
  readonly start: string;
  /** Runs after `start`; the unit is up only when it has ended well. */
  readonly ready?: string;
  readonly after?: readonly string[];
  readonly before?: readonly string[];
  /** The unit does not start, and does not go on, without these. */
  readonly requires?: readonly string[];
  readonly wantedBy?: readonly string[];
  readonly capabilities?: readonly string[];
  /** Address families beside AF_UNIX; none = no network at all. */
  readonly network?: readonly ('AF_INET' | 'AF_NETLINK' | 'AF_PACKET' | 'AF_ALG')[];
  /** Only addresses of the machine itself. */
  readonly loopbackOnly?: boolean;
  /** NAME:PATH, read by systemd as root and shown to the unit alone. */
  readonly credentials?: readonly string[];
  readonly environment?: Readonly<Record<string, string | number>>;
  /** Folder below /var/lib, made and owned for the unit. */
  readonly state?: string;
  readonly runtime?: string;
  readonly writable?: readonly string[];
  /** Seconds a stop may take. */
  readonly stopSec?: number;
  readonly openFiles?: number;
  readonly memory?: string;
  /** V8 makes code at run time. */
  readonly jit?: boolean;
  /** What differs from the hardening that every unit gets, with the reason beside it. */
  readonly lines?: readonly string[];
  /** Starts before the basic system stands: no default dependencies. */
  readonly early?: boolean;
  /** Started by a timer or a path, again and again. */
  readonly triggered?: boolean;
}

const ALL: readonly Profile[] = ['production', 'testnet', 'devnet', 'debug'];
const REAL: readonly Profile[] = ['production', 'testnet'];
const DEVELOPMENT: readonly Profile[] = ['devnet', 'debug'];

const ROOT: User = { name: 'root', uid: 0 };
const NODE = '/usr/bin/node';
const APP = '/usr/lib/orderflow';
const GUEST = `${NODE} ${APP}/image/guest`;

/** QEMU's name for the machine it runs on: where the stand-ins of a development network listen. */
const HOST = '10.0.2.2';
const HUB_PORT = 14892;
/** Where a development image reaches the hub; it is in the image, so it is measured. */
export const DEVNET_HUB = `http://${HOST}:${HUB_PORT}/as/vm`;

const HUB_CALL: Call = { protocol: 'tcp', port: HUB_PORT, address: HOST, what: 'hub stand-in' };
const PEERS: Call = { protocol: 'tcp', port: 5544, what: 'peers' };

/** Folder of the encrypted disk. */
export const PERSISTENT = '/var/lib/persistent';
const NODE_DATA = `${PERSISTENT}/orderflow-proxy`;
const MOUNTED = 'var-lib-persistent.mount';

const loopback = (port: number, what: string): Port => ({ port, protocol: 'tcp', open: 'loopback', what });
const open = (port: number, what: string): Port => ({ port, protocol: 'tcp', open: 'all', what });

/** Every service, in the order of the boot. */
export const SERVICES: readonly Service[] = [
  {
    unit: 'firewall.service',
    does: 'nftables, both directions, drop by default; before the network',
    from: 'Debian',
    profiles: ALL,
    user: ROOT,
    listens: [],
    calls: [],
    run: {
      type: 'oneshot',
      start: '/usr/sbin/nft -f /etc/nftables.conf',
      after: ['systemd-modules-load.service'],
      before: ['network-pre.target', 'modules-lock.service'],
      wantedBy: ['sysinit.target'],
      capabilities: ['CAP_NET_ADMIN'],
      network: ['AF_NETLINK'],
      early: true,
    },
  },
  {
    unit: 'modules-lock.service',
    does: 'no kernel module is loaded any more',
    from: 'Debian',
    profiles: ALL,
    user: ROOT,
    listens: [],
    calls: [],
    run: {
      type: 'oneshot',
      start: '/usr/lib/systemd/systemd-sysctl /usr/lib/sysctl.late/modules.conf',
      after: ['systemd-modules-load.service', 'firewall.service'],
      before: ['sysinit.target'],
      wantedBy: ['sysinit.target'],
      capabilities: ['CAP_SYS_MODULE'],
      lines: ['ProtectKernelTunables=no', 'ProtectProc=default', 'ProcSubset=all'],
      early: true,
    },
  },
  {
    unit: 'systemd-networkd.service',
    does: 'DHCP on wired interfaces',
    from: 'Debian',
    profiles: ALL,
    user: { name: 'systemd-network', uid: 998 },
    listens: [],
    calls: [{ protocol: 'udp', port: 67, what: 'DHCP' }],
  },
  {
    unit: 'systemd-resolved.service',
    does: 'resolver of the machine',
    from: 'Debian',
    profiles: ALL,
    user: { name: 'systemd-resolve', uid: 997 },
    listens: [loopback(53, 'DNS'), { port: 53, protocol: 'udp', open: 'loopback', what: 'DNS' }],
    calls: [
      { protocol: 'udp', port: 53, what: 'DNS' },
      { protocol: 'tcp', port: 53, what: 'DNS' },
    ],
  },
  {
    unit: 'chrony.service',
    does: 'time; production asks three NTS servers of which two must agree, devnet the NTP stand-in',
    from: 'Debian',
    profiles: ALL,
    user: { name: '_chrony', uid: 201 },
    listens: [],
    calls: [
      { protocol: 'tcp', port: 4460, what: 'NTS' },
      { protocol: 'udp', port: 123, what: 'NTP' },
    ],
    run: {
      type: 'exec',
      start: '/usr/sbin/chronyd -n -U -L 0 -f /etc/chrony.conf',
      after: ['network-online.target', 'firewall.service'],
      before: ['time-sync.target'],
      wantedBy: ['multi-user.target'],
      capabilities: ['CAP_SYS_TIME'],
      network: ['AF_INET'],
      runtime: 'chrony',
      lines: [
        'Wants=network-online.target',
        'RuntimeDirectoryMode=0700',
        'ProtectClock=no',
        'SystemCallFilter=@clock',
      ],
    },
  },
  {
    unit: 'time-gate.service',
    does: 'holds everything that speaks TLS until the clock is right',
    from: 'Debian',
    profiles: ALL,
    user: { name: '_chrony', uid: 201 },
    listens: [],
    calls: [],
    run: {
      type: 'oneshot',
      start: '/usr/bin/chronyc -h /run/chrony/chronyd.sock waitsync 0 0.5 0 1',
      after: ['chrony.service'],
      before: ['time-sync.target'],
      requires: ['chrony.service'],
      wantedBy: ['time-sync.target'],
      writable: ['/run/chrony'],
      lines: ['TimeoutStartSec=infinity'],
    },
  },
  {
    unit: 'attested-tls-proxy-client.service',
    does: 'local plain HTTP in, attested TLS to the hub out; until it is there devnet reaches the hub directly',
    from: 'to come',
    profiles: REAL,
    user: { name: 'attested-client', uid: 202 },
    listens: [loopback(7937, 'hub')],
    calls: [{ protocol: 'tcp', port: 443, what: 'hub' }],
  },
  {
    unit: 'operator-api.service',
    does: "the operator's window: event log, actions",
    from: 'to come',
    profiles: REAL,
    user: { name: 'operator-api', uid: 203 },
    listens: [open(3535, 'operator API')],
    calls: [],
  },
  {
    unit: 'render-config.service',
    does: "the hub's configuration, checked and written in each format's own quoting",
    from: 'this repository',
    profiles: ALL,
    user: ROOT,
    listens: [],
    calls: [HUB_CALL],
    run: {
      type: 'oneshot',
      start: `${GUEST}/render-config.js`,
      after: ['time-sync.target', 'time-gate.service', 'network-online.target'],
      requires: ['time-gate.service'],
      wantedBy: ['multi-user.target'],
      network: ['AF_INET'],
      environment: { HUB: DEVNET_HUB, TARGET: '/run/node' },
      runtime: 'node',
      jit: true,
      lines: ['TimeoutStartSec=infinity', 'RuntimeDirectoryPreserve=yes', 'RuntimeDirectoryMode=0700'],
    },
  },
  {
    unit: 'hostname-set.service',
    does: 'host name = instance_name',
    from: 'this repository',
    profiles: ALL,
    user: ROOT,
    listens: [],
    calls: [],
    run: {
      type: 'oneshot',
      start: '/usr/lib/systemd/systemd-sysctl /run/node/hostname/sysctl.conf',
      after: ['render-config.service'],
      requires: ['render-config.service'],
      wantedBy: ['multi-user.target'],
      capabilities: ['CAP_SYS_ADMIN'],
      lines: [
        'ProtectHostname=no',
        'ProtectKernelTunables=no',
        'ProtectProc=default',
        'ProcSubset=all',
        'PrivateUsers=no',
      ],
    },
  },
  {
    unit: 'persistent-setup.service',
    does: 'checks and unlocks the data disk, formats an empty one',
    from: 'this repository',
    profiles: ALL,
    user: ROOT,
    listens: [],
    calls: [],
    run: {
      type: 'oneshot',
      start: `${GUEST}/persistent-setup.js`,
      after: ['render-config.service', 'systemd-udevd.service'],
      requires: ['render-config.service'],
      wantedBy: ['multi-user.target'],
      capabilities: ['CAP_SYS_ADMIN', 'CAP_IPC_LOCK', 'CAP_MKNOD', 'CAP_CHOWN'],
      network: ['AF_ALG', 'AF_NETLINK'],
      environment: {
        SERIAL: 'persistent',
        KEY_FILE: '/run/node/persistent-setup/disk-key',
        DM_DISABLE_UDEV: 1,
      },
      writable: ['/dev', '/run/node/persistent-setup'],
      jit: true,
      memory: '512M',
      lines: [
        'PrivateDevices=no',
        'DevicePolicy=auto',
        'ProtectProc=default',
        'ProcSubset=all',
        'SystemCallFilter=@privileged',
        'TimeoutStartSec=600',
      ],
    },
  },
  {
    unit: 'builder-standin.service',
    does: 'stands in for rbuilder: takes and records orders, builds nothing',
    from: 'this repository',
    profiles: DEVELOPMENT,
    user: { name: 'builder-standin', uid: 210 },
    listens: [loopback(8645, 'JSON-RPC'), loopback(6070, 'readiness')],
    calls: [],
    run: {
      type: 'exec',
      start: `${GUEST}/builder-standin.js`,
      wantedBy: ['multi-user.target'],
      network: ['AF_INET'],
      loopbackOnly: true,
      jit: true,
      lines: ['StandardOutput=journal+console'],
    },
  },
  {
    unit: 'orderflow-proxy.service',
    does: 'the node: takes orders, hands them to the builder and to peers, archives them',
    from: 'this repository',
    profiles: ALL,
    user: { name: 'orderflow', uid: 204 },
    listens: [
      loopback(5543, 'user API'),
      loopback(5542, 'system API'),
      loopback(14727, '/cert'),
      loopback(8090, 'metrics'),
    ],
    calls: [PEERS, HUB_CALL],
    run: {
      type: 'exec',
      start: `${NODE} --no-memory-reducer ${APP}/main.js`,
      ready: `${GUEST}/wait-for.js http://127.0.0.1:5543/livez`,
      after: ['render-config.service', 'time-sync.target', MOUNTED],
      requires: ['render-config.service', MOUNTED],
      wantedBy: ['multi-user.target'],
      network: ['AF_INET'],
      environment: {
        USER_LISTEN_ADDR: '127.0.0.1:5543',
        USER_TLS: 'false',
        SYSTEM_LISTEN_ADDR: '127.0.0.1:5542',
        CERT_LISTEN_ADDR: '127.0.0.1:14727',
        METRICS_ADDR: '127.0.0.1:8090',
        BUILDER_ENDPOINT: 'http://127.0.0.1:8645',
        BUILDER_READY_ENDPOINT: 'http://127.0.0.1:6070',
        BUILDER_CONFIGHUB_ENDPOINT: DEVNET_HUB,
        DATA_DIR: NODE_DATA,
        NODE_ENV: 'production',
      },
      state: 'persistent/orderflow-proxy',
      stopSec: 20,
      openFiles: 65_536,
      memory: '4G',
      jit: true,
      lines: ['EnvironmentFile=/run/node/orderflow-proxy/env'],
    },
  },
  {
    unit: 'haproxy.service',
    does: 'edge: 443 ends here with the certificate of the node, 5544 passes through',
    from: 'Debian',
    profiles: ALL,
    user: { name: 'haproxy', uid: 205 },
    listens: [
      open(80, 'redirect to https'),
      open(443, 'user API'),
      open(5544, 'system API, TLS passed through'),
      loopback(8405, 'metrics'),
    ],
    calls: [],
    run: {
      type: 'notify',
      start: '/usr/sbin/haproxy -Ws -f /etc/haproxy/haproxy.cfg',
      after: ['render-config.service', 'orderflow-proxy.service'],
      requires: ['render-config.service', 'orderflow-proxy.service'],
      wantedBy: ['multi-user.target'],
      capabilities: ['CAP_NET_BIND_SERVICE'],
      network: ['AF_INET'],
      credentials: [
        `node.pem:${NODE_DATA}/tls.pem`,
        'privileged.lst:/run/node/haproxy/privileged.lst',
        'senders.map:/run/node/haproxy/senders.map',
      ],
      openFiles: 32_768,
      lines: ['EnvironmentFile=/run/node/haproxy/env'],
    },
  },
  {
    unit: 'haproxy-certificate.service',
    does: 'haproxy takes the new certificate when the node has renewed it',
    from: 'this repository',
    profiles: ALL,
    user: ROOT,
    listens: [],
    calls: [],
    run: {
      type: 'oneshot',
      start: '/usr/bin/systemctl try-restart haproxy.service',
      // Asks systemd over its private socket, which only root may use.
      triggered: true,
    },
  },
  {
    unit: 'config-watchdog.service',
    does: 'each minute: the flag that lets the builder run follows the list of the hub',
    from: 'this repository',
    profiles: ALL,
    user: { name: 'config-watchdog', uid: 206 },
    listens: [],
    calls: [HUB_CALL],
    run: {
      type: 'oneshot',
      start: `${GUEST}/config-watchdog.js`,
      triggered: true,
      after: ['render-config.service'],
      requires: ['render-config.service'],
      network: ['AF_INET'],
      environment: { HUB: DEVNET_HUB, FLAG: '/run/config-watchdog/rbuilder.enabled' },
      credentials: ['instance-name:/run/node/config-watchdog/instance-name'],
      runtime: 'config-watchdog',
      jit: true,
      lines: ['RuntimeDirectoryPreserve=yes', 'TimeoutStartSec=50'],
    },
  },
  {
    unit: 'prometheus-node-exporter.service',
    does: 'metrics of the machine',
    from: 'Debian',
    profiles: ['testnet', 'devnet', 'debug'],
    user: { name: 'prometheus', uid: 207 },
    listens: [loopback(9100, 'metrics')],
    calls: [],
    run: {
      type: 'exec',
      start:
        '/usr/bin/prometheus-node-exporter --web.listen-address=127.0.0.1:9100 --log.level=warn --collector.disable-defaults --collector.cpu --collector.meminfo --collector.loadavg --collector.filesystem --collector.netdev --collector.diskstats --collector.stat --collector.time',
      wantedBy: ['multi-user.target'],
      network: ['AF_INET', 'AF_NETLINK'],
      loopbackOnly: true,
      // It reads /proc/stat, /proc/meminfo and the like.
      lines: ['ProcSubset=all'],
    },
  },
  {
    unit: 'report-standin.service',
    does: 'tells the tests what the machine looks like from inside: registers, sockets, mounts, units',
    from: 'this repository',
    profiles: DEVELOPMENT,
    user: ROOT,
    listens: [],
    calls: [],
    run: {
      type: 'exec',
      start: `${GUEST}/report-standin.js`,
      wantedBy: ['multi-user.target'],
      network: ['AF_INET'],
      capabilities: ['CAP_SYS_PTRACE', 'CAP_DAC_READ_SEARCH', 'CAP_SYS_ADMIN'],
      jit: true,
      lines: [
        'PrivateDevices=no',
        'DeviceAllow=char-virtio-portsdev rw',
        'ProtectProc=default',
        'ProcSubset=all',
        'ProtectKernelLogs=no',
      ],
    },
  },
];

/** The services of a profile. */
export function servicesOf(profile: Profile): Service[] {
  return SERVICES.filter(({ profiles }) => profiles.includes(profile));
}

/**
 * What stands between a profile and a build: rows that are still to come, stand-ins in a profile that is none for
 * development. Empty when there is nothing.
 */
export function openRows(profile: Profile): string[] {
  const services = servicesOf(profile);
  const rows = services
    .filter(({ from }) => from === 'to come')
    .map(({ unit }) => `${unit} is still to come`);
  if (isDevelopment(profile)) return rows;
  const standIns = services.filter(({ unit }) => unit.includes('standin'));
  const hub = services.filter(({ calls }) => calls.includes(HUB_CALL));
  return [
    ...rows,
    ...standIns.map(({ unit }) => `${unit} is a stand-in`),
    ...hub.map(({ unit }) => `${unit} reaches the hub without the attested client`),
  ];
}
