/**
 * The operator's window and the actions it has. The API's process has no rights of its own: an action is a socket that
 * only its user may open, and a connection to it starts one fixed command of systemd as root.
 */
import type { Profile } from '../profiles.ts';
import {
  ALL,
  APP,
  DATA_DISK,
  GUEST,
  NODE,
  open,
  REAL,
  ROOT,
  type Run,
  type Service,
  WITH_SSH,
} from '../service.ts';

const OPERATOR = { name: 'operator-api', uid: 203 };

/** Where the sockets of the actions are. */
const ACTION_SOCKETS = '/run/operator-actions';

/** Where the API keeps what it was sent for an action, until that is used. */
const UPLOADS = '/run/operator-api';

interface Action {
  readonly name: string;
  readonly command: string;
  readonly profiles: readonly Profile[];
  /** Most bytes of what the operator uploads for it under its name, once for each time: the command's input. */
  readonly upload?: number;
  /** What its unit needs beside that. */
  readonly run?: Partial<Run>;
}

const systemctl = (rest: string): string => `/usr/bin/systemctl ${rest}`;

/** What an operator may do. */
const ACTIONS: readonly Action[] = [
  { name: 'reboot', command: systemctl('reboot'), profiles: ALL },
  { name: 'fetch_config', command: systemctl('start fetch-config.service'), profiles: ALL },
  { name: 'haproxy_restart', command: systemctl('restart haproxy.service'), profiles: ALL },
  { name: 'rbuilder_restart', command: systemctl('restart rbuilder-operator.service'), profiles: REAL },
  { name: 'rbuilder_stop', command: systemctl('stop rbuilder-operator.service'), profiles: REAL },
  {
    name: 'disk_wipe',
    command: `${GUEST}/disk-wipe.js`,
    profiles: ALL,
    upload: 64,
    run: {
      environment: { SERIAL: DATA_DISK, DEVICES: '/sys/class/block' },
      jit: true,
      lines: ['PrivateDevices=no', 'DevicePolicy=closed', 'DeviceAllow=block-* rw'],
    },
  },
  { name: 'ssh_start', command: systemctl('start ssh.socket'), profiles: WITH_SSH },
  { name: 'ssh_stop', command: systemctl('stop ssh.socket'), profiles: WITH_SSH },
];

/** `[actions]` of the API's configuration, and `[file_uploads]` for those that need one. */
export function actionTable(profile: Profile): string {
  const client = `${APP}/image/guest/operator-action.js`;
  const actions = ACTIONS.filter(({ profiles }) => profiles.includes(profile));
  const rows = actions.map(({ name, upload }) => {
    const command = [NODE, client, `${ACTION_SOCKETS}/${name}`];
    if (upload !== undefined) command.push(`${UPLOADS}/${name}`);
    return `${name} = { command = [${command.map((part) => `"${part}"`).join(', ')}], timeout_ms = 600000 }`;
  });
  const uploads = actions.flatMap(({ name, upload }) =>
    upload === undefined
      ? []
      : [`${name} = { path = "${UPLOADS}/${name}", check = "none", max_bytes = ${upload}, mode = 0o600 }`],
  );
  return `[actions]\n${rows.join('\n')}\n\n[file_uploads]\n${uploads.join('\n')}\n`;
}

export function operatorServices(): Service[] {
  return [
    {
      unit: 'operator-api.service',
      does: "the operator's window: boot steps, events, actions; starts before there is a configuration",
      from: 'this repository',
      profiles: ALL,
      user: OPERATOR,
      listens: [{ ...open(3535, 'operator API'), from: 'operator' }],
      calls: [],
      run: {
        type: 'exec',
        start: `${NODE} ${APP}/operator-main.js --config %d/config.toml`,
        after: ['firewall.service'],
        wantedBy: ['multi-user.target'],
        network: ['AF_INET'],
        credentials: ['config.toml:/run/node/operator-api/config.toml'],
        writable: ['/run/operator-api'],
        jit: true,
        // The id of the boot is in /proc/sys: events of an earlier one are no steps of this one.
        // Whoever looks at a boot, or tries passwords from outside, takes no time from the node.
        lines: ['ProcSubset=all', 'CPUWeight=20'],
      },
      triggers: {
        // systemd keeps the FIFO open: what is reported while the API is not there waits in it.
        'operator-api.socket': `[Unit]
Description=events for the operator

[Socket]
ListenFIFO=/run/operator-api/pipe
SocketUser=${OPERATOR.name}
SocketMode=0622
`,
      },
    },
    ...ACTIONS.map(action),
  ];
}

/** One service for each connection to one socket. What systemctl says goes back to whoever asked. */
function action({ name, command, profiles, upload, run }: Action): Service {
  return {
    unit: `operator-action-${name}@.service`,
    does: `operator's action ${name}`,
    from: 'this repository',
    profiles,
    user: ROOT,
    listens: [],
    calls: [],
    run: {
      type: 'oneshot',
      start: command,
      triggered: true,
      ...run,
      lines: [
        `StandardInput=${upload === undefined ? 'null' : 'socket'}`,
        'StandardOutput=socket',
        'StandardError=socket',
        'TimeoutStartSec=600',
        ...(run?.lines ?? []),
      ],
    },
    triggers: {
      [`operator-action-${name}.socket`]: `[Unit]
Description=operator's action ${name}

[Socket]
ListenStream=${ACTION_SOCKETS}/${name}
SocketUser=${OPERATOR.name}
SocketMode=0600
DirectoryMode=0755
Accept=yes
MaxConnections=1
TriggerLimitIntervalSec=0
RemoveOnStop=yes
`,
    },
  };
}
