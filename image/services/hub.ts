/** The way to the hub, the configuration that comes from it, and what follows its list. */
import { ALL, APP, callTo, GUEST, LOCAL_HUB, loopback, NODE, ROOT, type Service } from '../service.ts';
import type { Surroundings } from '../surroundings.ts';

/** Flags that say how this machine proves what it runs. */
export function proof(side: 'client' | 'server', { quotes }: Surroundings): string {
  return quotes === null
    ? `--${side}-attestation-type dcap-tdx --production`
    : `--${side}-attestation-type dummy --dev-dummy-dcap ${quotes}`;
}

/** The kernel's quotes: its entries belong to root, whoever makes them. */
export function quoteAccess({ quotes }: Surroundings) {
  return quotes === null
    ? { capabilities: ['CAP_DAC_OVERRIDE'], writable: ['-/sys/kernel/config/tsm/report'] }
    : {};
}

export function hubServices(around: Surroundings): Service[] {
  const authority = around.hubAuthority === null ? '' : ` --tls-ca-certificate ${around.hubAuthority}`;
  return [
    {
      unit: 'attested-tls-proxy-client.service',
      does: 'local plain HTTP in, attested TLS to the hub out; devnet has its quotes from a stand-in outside',
      from: 'this repository',
      profiles: ALL,
      user: { name: 'attested-client', uid: 202 },
      listens: [loopback(7937, 'hub')],
      calls: [...callTo(around.hub, 'hub'), ...callTo(around.quotes, 'quotes stand-in')],
      run: {
        type: 'exec',
        start: `${NODE} ${APP}/attested/main.js client --listen-addr 127.0.0.1:7937 --target-addr ${around.hub ?? 'https://hub.invalid'} --verify-tls${authority} ${proof('client', around)}`,
        after: ['time-sync.target', 'time-gate.service', 'network-online.target'],
        requires: ['time-gate.service'],
        wantedBy: ['multi-user.target'],
        network: ['AF_INET'],
        ...quoteAccess(around),
        jit: true,
        lines: ['Wants=network-online.target'],
      },
    },
    {
      unit: 'render-config.service',
      does: "the hub's configuration, checked and written in each format's own quoting",
      from: 'this repository',
      profiles: ALL,
      user: ROOT,
      listens: [],
      calls: [],
      run: {
        type: 'oneshot',
        start: `${GUEST}/render-config.js`,
        after: ['time-gate.service', 'attested-tls-proxy-client.service', 'operator-api.service'],
        requires: ['time-gate.service'],
        wantedBy: ['multi-user.target'],
        network: ['AF_INET'],
        loopbackOnly: true,
        environment: { HUB: LOCAL_HUB, TARGET: '/run/node' },
        runtime: 'node',
        jit: true,
        lines: [
          'Wants=attested-tls-proxy-client.service',
          'TimeoutStartSec=infinity',
          'RuntimeDirectoryPreserve=yes',
          'RuntimeDirectoryMode=0700',
        ],
      },
    },
    {
      unit: 'firewall-sources.service',
      does: 'who may reach the operator API and sshd, as the configuration says',
      from: 'Debian',
      profiles: ALL,
      user: ROOT,
      listens: [],
      calls: [],
      run: {
        type: 'oneshot',
        start: '/usr/sbin/nft -f /run/node/firewall-sources/sets.nft',
        after: ['render-config.service', 'firewall.service'],
        requires: ['render-config.service', 'firewall.service'],
        wantedBy: ['multi-user.target'],
        capabilities: ['CAP_NET_ADMIN'],
        network: ['AF_NETLINK'],
      },
    },
    {
      unit: 'fetch-config.service',
      does: "the configuration again, on the operator's action; what it changes is restarted",
      from: 'this repository',
      profiles: ALL,
      user: ROOT,
      listens: [],
      calls: [],
      run: {
        type: 'oneshot',
        start: `${GUEST}/render-config.js`,
        triggered: true,
        after: ['render-config.service'],
        requires: ['render-config.service'],
        network: ['AF_INET'],
        loopbackOnly: true,
        environment: { HUB: LOCAL_HUB, TARGET: '/run/node', ON_ACTION: 1 },
        writable: ['/run/node'],
        jit: true,
        lines: ['TimeoutStartSec=300'],
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
        start: '/usr/lib/systemd/systemd-sysctl /run/node/hostname-set/sysctl.conf',
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
      unit: 'config-watchdog.service',
      does: 'each minute: the flag that lets the builder run follows the list of the hub',
      from: 'this repository',
      profiles: ALL,
      user: { name: 'config-watchdog', uid: 206 },
      listens: [],
      calls: [],
      run: {
        type: 'oneshot',
        start: `${GUEST}/config-watchdog.js`,
        triggered: true,
        after: ['render-config.service'],
        requires: ['render-config.service'],
        network: ['AF_INET'],
        loopbackOnly: true,
        environment: { HUB: LOCAL_HUB, FLAG: '/run/config-watchdog/rbuilder.enabled' },
        credentials: ['instance-name:/run/node/config-watchdog/instance-name'],
        runtime: 'config-watchdog',
        jit: true,
        lines: ['RuntimeDirectoryPreserve=yes', 'TimeoutStartSec=50'],
      },
      triggers: {
        'config-watchdog.timer': `[Unit]
Description=each minute: does the hub list this machine?

[Timer]
OnActiveSec=10s
OnUnitActiveSec=1min
AccuracySec=1s
`,
      },
    },
  ];
}
