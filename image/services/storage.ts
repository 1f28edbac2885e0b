/** The encrypted data disk. */
import { ALL, DATA_DISK, GUEST, ROOT, type Service } from '../service.ts';

export function storageServices(): Service[] {
  return [
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
        capabilities: ['CAP_SYS_ADMIN', 'CAP_IPC_LOCK', 'CAP_MKNOD'],
        network: ['AF_ALG', 'AF_NETLINK'],
        environment: {
          SERIAL: DATA_DISK,
          KEY_FILE: '/run/node/persistent-setup/disk-key',
          DM_DISABLE_UDEV: 1,
        },
        writable: ['/dev', '/run/node/persistent-setup'],
        jit: true,
        memory: '512M',
        lines: [
          // It makes the node of the volume itself: no rule of udev does.
          'PrivateDevices=no',
          'DevicePolicy=closed',
          'DeviceAllow=block-* rwm',
          'DeviceAllow=/dev/mapper/control rw',
          'ProtectProc=default',
          'ProcSubset=all',
          // The kernel's ciphers and device mapper are not of any network.
          'PrivateNetwork=yes',
          'IPAddressDeny=any',
          'TimeoutStartSec=600',
        ],
      },
    },
  ];
}
