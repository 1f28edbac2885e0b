/** Debug access: testnet and debug images alone, with the keys of the configuration. */
import type { Profile } from '../profiles.ts';
import { GUEST, open, ROOT, type Service, WITH_SSH } from '../service.ts';

export function accessServices(): Service[] {
  return [
    {
      unit: 'ssh-setup.service',
      does: 'host key of sshd, new at each boot, and the keys that may log in',
      from: 'this repository',
      profiles: WITH_SSH,
      user: ROOT,
      listens: [],
      calls: [],
      run: {
        type: 'oneshot',
        start: `${GUEST}/ssh-setup.js`,
        after: ['render-config.service', 'operator-api.service'],
        requires: ['render-config.service'],
        wantedBy: ['multi-user.target'],
        environment: { SOURCE: '/run/node/ssh-setup/authorized_keys', TARGET: '/run/ssh' },
        runtime: 'ssh',
        jit: true,
        lines: ['RuntimeDirectoryMode=0755', 'RuntimeDirectoryPreserve=yes'],
      },
    },
    {
      unit: 'ssh@.service',
      does: 'debug access with keys, user bnet; its session is not confined',
      from: 'Debian',
      profiles: WITH_SSH,
      user: ROOT,
      listens: [{ ...open(40_192, 'ssh'), from: 'ssh' }],
      calls: [],
      run: {
        type: 'exec',
        start: '/usr/sbin/sshd -i -e -f /etc/ssh/sshd_config',
        requires: ['ssh-setup.service'],
        after: ['ssh-setup.service'],
        network: ['AF_INET', 'AF_NETLINK'],
        capabilities: [
          'CAP_SETUID',
          'CAP_SETGID',
          'CAP_SYS_CHROOT',
          'CAP_CHOWN',
          'CAP_KILL',
          'CAP_AUDIT_WRITE',
        ],
        runtime: 'sshd',
        lines: [
          'Restart=no',
          'RuntimeDirectoryPreserve=yes',
          'RuntimeDirectoryMode=0755',
          'StandardInput=socket',
          'StandardError=journal',
          'NoNewPrivileges=no',
          'PrivateDevices=no',
          'ProtectProc=default',
          'ProcSubset=all',
          'SystemCallFilter=@setuid chroot',
          'RestrictSUIDSGID=no',
        ],
      },
      triggers: {
        'ssh.socket': `[Unit]
Description=debug access

[Socket]
ListenStream=0.0.0.0:40192
Accept=yes
MaxConnections=16
MaxConnectionsPerSource=4
TriggerLimitIntervalSec=0
`,
      },
    },
  ];
}

/** sshd's configuration: keys alone, one user, nothing forwarded. */
export const SSHD_CONFIG = `HostKey /run/ssh/host-key
AuthorizedKeysFile /run/ssh/authorized_keys
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
AllowUsers bnet
UsePAM no
PermitTunnel no
AllowAgentForwarding no
AllowTcpForwarding local
X11Forwarding no
PrintMotd no
LoginGraceTime 30
MaxAuthTries 3
`;

/** Who logs in. */
export const DEBUG_USERS = [
  { name: 'bnet', uid: 1000, shell: '/usr/bin/sh' },
  // sshd's own, for what it does before it knows who calls.
  { name: 'sshd', uid: 219 },
];

/** Whether a profile has them. */
export function hasSsh(profile: Profile): boolean {
  return WITH_SSH.includes(profile);
}
