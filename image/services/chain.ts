/**
 * Ethereum clients and the builder: programs that no registry offers (artifacts.json). What the network keeps private
 * is fetched at boot, into a folder where it can be executed only once its digest is the one of this image.
 */
import { callTo, GUEST, loopback, MOUNTED, open, PERSISTENT, REAL, ROOT, type Service } from '../service.ts';
import type { Surroundings } from '../surroundings.ts';

/** Where fetched programs are, in RAM; the one writable folder that is not noexec. */
const PRIVATE = '/run/private';
const FETCHED = 'private-fetch.service';
const FLAG = '/run/config-watchdog/rbuilder.enabled';
const JWT = 'jwt:/run/eth-jwt/jwt';

const https = { protocol: 'tcp', port: 443, what: 'relays and others' } as const;

export function chainServices({ releases, checkpoint }: Surroundings): Service[] {
  return [
    {
      unit: 'eth-jwt.service',
      does: 'the secret that execution and consensus client share, new at each boot',
      from: 'this repository',
      profiles: REAL,
      user: ROOT,
      listens: [],
      calls: [],
      run: {
        type: 'oneshot',
        start: `${GUEST}/eth-jwt.js /run/eth-jwt/jwt`,
        wantedBy: ['multi-user.target'],
        runtime: 'eth-jwt',
        jit: true,
        lines: ['RuntimeDirectoryMode=0700', 'RuntimeDirectoryPreserve=yes'],
      },
    },
    {
      unit: 'reth.service',
      does: 'execution client',
      from: 'artifact',
      profiles: REAL,
      user: { name: 'reth', uid: 211 },
      listens: [
        open(30_303, 'execution p2p'),
        open(30_303, 'execution discovery', 'udp'),
        loopback(8545, 'HTTP'),
        loopback(8546, 'WebSocket'),
        loopback(8551, 'engine'),
        loopback(9001, 'metrics'),
      ],
      calls: [
        { protocol: 'tcp', port: 30_303, what: 'execution p2p' },
        { protocol: 'udp', port: 30_303, what: 'execution discovery' },
      ],
      run: {
        type: 'exec',
        start: [
          '/usr/bin/reth node --full',
          `--datadir ${PERSISTENT}/reth`,
          '--addr 0.0.0.0 --port 30303 --discovery.port 30303',
          '--http --http.addr 127.0.0.1 --http.port 8545',
          '--ws --ws.addr 127.0.0.1 --ws.port 8546',
          '--authrpc.addr 127.0.0.1 --authrpc.port 8551 --authrpc.jwtsecret %d/jwt',
          '--ipcpath /run/reth/reth.ipc --metrics 127.0.0.1:9001',
          '--engine.persistence-threshold 0 --engine.memory-block-buffer-target 0',
        ].join(' '),
        after: ['eth-jwt.service', 'time-sync.target', MOUNTED],
        requires: ['eth-jwt.service', MOUNTED],
        wantedBy: ['multi-user.target'],
        network: ['AF_INET', 'AF_NETLINK'],
        credentials: [JWT],
        state: 'persistent/reth',
        runtime: 'reth',
        stopSec: 120,
        openFiles: 1_048_576,
        memory: '90%',
        // Its group is the builder, which reads the database and marks in it what it reads.
        lines: ['TasksMax=4096', 'UMask=0007', 'StateDirectoryMode=0770', 'RuntimeDirectoryMode=0750'],
      },
    },
    {
      unit: 'lighthouse.service',
      does: 'consensus client; the block of a proposer that asks us is always prepared',
      from: 'artifact',
      profiles: REAL,
      user: { name: 'lighthouse', uid: 212 },
      listens: [
        open(9000, 'consensus p2p'),
        open(9000, 'consensus discovery', 'udp'),
        open(9001, 'consensus QUIC', 'udp'),
        loopback(3500, 'HTTP'),
        loopback(5054, 'metrics'),
      ],
      calls: [
        { protocol: 'tcp', port: 9000, what: 'consensus p2p' },
        { protocol: 'udp', port: 9000, what: 'consensus discovery' },
        { protocol: 'udp', port: 9001, what: 'consensus QUIC' },
        ...callTo(checkpoint, 'checkpoint'),
      ],
      run: {
        type: 'exec',
        start: [
          `/usr/bin/lighthouse bn --network mainnet --datadir ${PERSISTENT}/lighthouse`,
          '--execution-endpoint http://127.0.0.1:8551 --execution-jwt %d/jwt',
          `--checkpoint-sync-url ${checkpoint}`,
          '--port 9000 --quic-port 9001 --disable-upnp',
          '--http --http-address 127.0.0.1 --http-port 3500',
          '--metrics --metrics-address 127.0.0.1 --metrics-port 5054',
          `--suggested-fee-recipient 0x${'dead'.padStart(40, '0')}`,
          '--always-prepare-payload --prepare-payload-lookahead 8000',
        ].join(' '),
        after: ['eth-jwt.service', 'time-sync.target', MOUNTED],
        requires: ['eth-jwt.service', MOUNTED],
        wantedBy: ['multi-user.target'],
        network: ['AF_INET', 'AF_NETLINK'],
        credentials: [JWT],
        state: 'persistent/lighthouse',
        stopSec: 60,
        openFiles: 65_536,
        memory: '16G',
        lines: ['TasksMax=1024'],
      },
    },
    {
      unit: FETCHED,
      does: 'fetches private programs; each becomes executable when its digest is the one of the image',
      from: 'this repository',
      profiles: REAL,
      user: { name: 'private-fetch', uid: 213 },
      listens: [],
      calls: callTo(releases, 'releases'),
      run: {
        type: 'oneshot',
        start: `${GUEST}/private-fetch.js`,
        // Nobody writes there from now on, who fetched it least of all.
        ready: `+/usr/bin/mount -o remount,ro,nosuid,nodev ${PRIVATE}`,
        after: ['render-config.service', 'time-sync.target', 'run-private.mount'],
        requires: ['render-config.service', 'run-private.mount'],
        wantedBy: ['multi-user.target'],
        network: ['AF_INET'],
        environment: { LIST: '/etc/private-programs.json', RELEASES: releases ?? '', TARGET: PRIVATE },
        credentials: ['token:/run/node/private-fetch/token'],
        writable: [PRIVATE],
        memory: '512M',
        jit: true,
        lines: ['TimeoutStartSec=infinity'],
      },
      triggers: {
        'run-private.mount': `[Unit]
Description=fetched programs, in RAM
DefaultDependencies=no
Conflicts=umount.target
Before=umount.target

[Mount]
What=tmpfs
Where=${PRIVATE}
Type=tmpfs
Options=nosuid,nodev,mode=0755,uid=213,gid=213,size=1G
`,
      },
    },
    {
      unit: 'rbuilder-operator.service',
      does: 'the block builder; runs only while the hub lists this machine',
      from: 'artifact',
      profiles: REAL,
      user: { name: 'rbuilder-operator', uid: 214 },
      listens: [
        loopback(8645, 'JSON-RPC'),
        loopback(6060, 'telemetry'),
        loopback(6070, 'redacted telemetry, readiness'),
        loopback(8745, 'priority updates'),
        loopback(6789, 'BoB'),
        open(6000, 'optimistic relaying v3'),
      ],
      calls: [https],
      run: {
        type: 'exec',
        start: `${PRIVATE}/rbuilder-operator run %d/config.toml`,
        after: [FETCHED, 'render-config.service', MOUNTED],
        requires: [FETCHED, 'render-config.service', MOUNTED],
        network: ['AF_INET'],
        credentials: ['config.toml:/run/node/rbuilder-operator/config.toml'],
        state: 'persistent/rbuilder-operator',
        openFiles: 65_536,
        memory: '32G',
        writable: [`-${PERSISTENT}/reth`],
        lines: [`ConditionPathExists=${FLAG}`, 'TasksMax=4096', 'SupplementaryGroups=reth'],
      },
      triggers: {
        // As soon as the flag is there; the unit's own condition keeps it from coming back without it.
        'rbuilder-operator.path': `[Unit]
Description=the hub lists this machine

[Path]
PathExists=${FLAG}
`,
      },
    },
    {
      unit: 'rbuilder-stop.service',
      does: 'stops the builder when the flag goes',
      from: 'this repository',
      profiles: REAL,
      user: ROOT,
      listens: [],
      calls: [],
      run: {
        type: 'oneshot',
        start: '/usr/bin/systemctl stop rbuilder-operator.service',
        triggered: true,
        lines: [`ConditionPathExists=!${FLAG}`],
      },
      triggers: {
        'rbuilder-stop.path': `[Unit]
Description=the flag of the builder has changed

[Path]
PathChanged=${FLAG}
`,
      },
    },
    {
      unit: 'bidding-service.service',
      does: 'confidential bidding, in a process of its own',
      from: 'artifact',
      profiles: REAL,
      user: { name: 'bidding', uid: 215 },
      listens: [loopback(6148, 'bids')],
      calls: [],
      run: {
        type: 'exec',
        start: `${PRIVATE}/bidding-service`,
        after: [FETCHED],
        requires: [FETCHED],
        wantedBy: ['multi-user.target'],
        network: ['AF_INET'],
        loopbackOnly: true,
        memory: '4G',
      },
    },
    {
      unit: 'rbuilder-rebalancer.service',
      does: 'tops up the wallets of the builder',
      from: 'artifact',
      profiles: REAL,
      user: { name: 'rbuilder-rebalancer', uid: 216 },
      listens: [],
      calls: [],
      run: {
        type: 'exec',
        start: `${PRIVATE}/rbuilder-rebalancer %d/config.toml`,
        after: [FETCHED, 'render-config.service'],
        requires: [FETCHED, 'render-config.service'],
        wantedBy: ['multi-user.target'],
        network: ['AF_INET'],
        loopbackOnly: true,
        credentials: ['config.toml:/run/node/rbuilder-rebalancer/config.toml'],
        memory: '1G',
      },
    },
  ];
}
