/** Stand-ins of development images, named so. */
import { GUEST, loopback, ONLY_DEVELOPMENT, ROOT, type Service } from '../service.ts';

export function developmentServices(): Service[] {
  return [
    {
      unit: 'builder-standin.service',
      does: 'stands in for rbuilder: takes and records orders, builds nothing',
      from: 'this repository',
      profiles: ONLY_DEVELOPMENT,
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
      unit: 'report-standin.service',
      does: 'tells the tests what the machine looks like from inside: registers, sockets, mounts, units',
      from: 'this repository',
      profiles: ONLY_DEVELOPMENT,
      user: ROOT,
      listens: [],
      calls: [],
      run: {
        type: 'exec',
        start: `${GUEST}/report-standin.js`,
        wantedBy: ['multi-user.target'],
        network: ['AF_INET'],
        capabilities: ['CAP_SYS_PTRACE', 'CAP_DAC_READ_SEARCH', 'CAP_SYS_ADMIN', 'CAP_SETUID'],
        jit: true,
        lines: [
          'PrivateDevices=no',
          'DeviceAllow=char-virtio-portsdev rw',
          'ProtectProc=default',
          'ProcSubset=all',
          'DevicePolicy=closed',
          // The machine itself, and the host: what the firewall says is seen from here.
          'IPAddressDeny=any',
          'IPAddressAllow=localhost 10.0.2.2',
          'SystemCallFilter=~@resources',
        ],
      },
    },
  ];
}
