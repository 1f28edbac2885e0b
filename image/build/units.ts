/**
 * Writes systemd units and users from the service table. Every unit starts from the tightest sandbox; its row opens
 * what it needs.
 */
import type { Run, Service, User } from '../service.ts';

const BACKOFF = ['Restart=always', 'RestartSec=1', 'RestartSteps=5', 'RestartMaxDelaySec=30'];

const HARDENING = [
  'NoNewPrivileges=yes',
  'ProtectSystem=strict',
  'ProtectHome=yes',
  'PrivateTmp=yes',
  'PrivateDevices=yes',
  'PrivateIPC=yes',
  'ProtectHostname=yes',
  'ProtectClock=yes',
  'ProtectKernelTunables=yes',
  'ProtectKernelModules=yes',
  'ProtectKernelLogs=yes',
  'ProtectControlGroups=yes',
  'ProtectProc=invisible',
  'ProcSubset=pid',
  'RestrictNamespaces=yes',
  'RestrictSUIDSGID=yes',
  'RestrictRealtime=yes',
  'LockPersonality=yes',
  'RemoveIPC=yes',
  'KeyringMode=private',
  'SystemCallArchitectures=native',
  'SystemCallFilter=@system-service',
  'SystemCallErrorNumber=EPERM',
  'UMask=0077',
  'TasksMax=256',
  'LimitCORE=0',
];

/** Lines of `[Unit]` among a row's free lines. */
const OF_UNIT = /^(?:Wants|StartLimitIntervalSec|OnFailure|Conflicts|ConditionPath\w*)=/u;

/** @returns the text of the unit's file */
export function unitText(service: Service, run: Run): string {
  const extra = run.lines ?? [];
  const key = (line: string): string => line.slice(0, line.indexOf('='));
  const replaced = new Set(extra.map(key).filter((name) => name !== 'SystemCallFilter'));
  const longLived = run.type !== 'oneshot';
  const lasting = run.type === 'oneshot' && run.triggered !== true;
  const user = service.user.uid === 0 ? [] : [`User=${service.user.name}`, `Group=${service.user.name}`];
  const capabilities = (run.capabilities ?? []).join(' ');
  const own = [
    `Type=${run.type}`,
    `ExecStart=${run.start}`,
    ...(run.ready === undefined ? [] : [`ExecStartPost=${run.ready}`]),
    ...(lasting ? ['RemainAfterExit=yes'] : []),
    ...(longLived ? BACKOFF : []),
    // Direct: what waits for the step goes on waiting while it is tried again.
    ...(lasting ? ['Restart=on-failure', 'RestartSec=5', 'RestartMode=direct'] : []),
    ...user,
    `CapabilityBoundingSet=${capabilities}`,
    ...(service.user.uid === 0 ? [] : [`AmbientCapabilities=${capabilities}`]),
    ...(run.credentials ?? []).map((credential) => `LoadCredential=${credential}`),
    ...Object.entries(run.environment ?? {}).map(([name, value]) => `Environment=${name}=${value}`),
    ...(run.state === undefined ? [] : [`StateDirectory=${run.state}`, 'StateDirectoryMode=0700']),
    ...(run.runtime === undefined ? [] : [`RuntimeDirectory=${run.runtime}`]),
    ...(run.writable === undefined ? [] : [`ReadWritePaths=${run.writable.join(' ')}`]),
    ...(run.stopSec === undefined ? [] : [`TimeoutStopSec=${run.stopSec}`]),
    `LimitNOFILE=${run.openFiles ?? 4096}`,
    `MemoryMax=${run.memory ?? '256M'}`,
    ...(run.network === undefined ? ['PrivateNetwork=yes'] : []),
    `RestrictAddressFamilies=AF_UNIX ${(run.network ?? []).join(' ')}`.trimEnd(),
    ...(run.loopbackOnly === true ? ['IPAddressDeny=any', 'IPAddressAllow=localhost'] : []),
    ...(run.jit === true ? [] : ['MemoryDenyWriteExecute=yes']),
  ].filter((line) => !replaced.has(key(line)));
  return [
    '[Unit]',
    `Description=${service.does}`,
    ...(run.early === true ? ['DefaultDependencies=no', 'Conflicts=shutdown.target'] : []),
    ...(run.after === undefined ? [] : [`After=${run.after.join(' ')}`]),
    ...(run.before === undefined ? [] : [`Before=${run.before.join(' ')}`]),
    ...(run.requires === undefined ? [] : [`Requires=${run.requires.join(' ')}`]),
    // No limit: a machine that nobody can log in to must come back by itself.
    'StartLimitIntervalSec=0',
    ...extra.filter((line) => OF_UNIT.test(line)),
    '',
    '[Service]',
    ...own,
    ...HARDENING.filter((line) => !replaced.has(key(line))),
    ...extra.filter((line) => !OF_UNIT.test(line)),
    '',
  ].join('\n');
}

/** Users without a row in the service table. */
const FIXED: readonly User[] = [
  { name: 'root', uid: 0 },
  { name: 'systemd-journal', uid: 190 },
  { name: 'nobody', uid: 65_534 },
];
/** Groups that device rules name. */
const GROUPS = [
  'tty',
  'disk',
  'kmem',
  'input',
  'sgx',
  'clock',
  'kvm',
  'render',
  'video',
  'audio',
  'cdrom',
  'dialout',
  'lp',
  'tape',
];

/**
 * passwd, group and shadow: every account locked, no shell; but for who logs in with a key where anybody may.
 * @param more accounts without a row
 */
export function accounts(
  services: readonly Service[],
  more: readonly (User & { readonly shell?: string })[] = [],
): Record<'passwd' | 'group' | 'shadow', string> {
  const users = new Map(
    [...FIXED, ...services.map(({ user }) => user), ...more].map((user) => [user.name, user.uid]),
  );
  const shells = new Map(more.map(({ name, shell }) => [name, shell]));
  const sorted = [...users].sort(([, a], [, b]) => a - b);
  const group = (name: string): string => (name === 'nobody' ? 'nogroup' : name);
  return {
    passwd: sorted
      .map(([name, id]) => `${name}:x:${id}:${id}::/:${shells.get(name) ?? '/usr/sbin/nologin'}\n`)
      .join(''),
    group: [
      ...sorted.map(([name, id]) => `${group(name)}:x:${id}:\n`),
      ...GROUPS.map((name, index) => `${name}:x:${100 + index}:\n`),
    ].join(''),
    // sshd takes an exclamation mark for an account that nobody may use at all.
    shadow: sorted.map(([name]) => `${name}:${shells.has(name) ? '*' : '!*'}:::::::\n`).join(''),
  };
}
