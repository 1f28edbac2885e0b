/**
 * The operator's window and the actions it has. The API's process has no rights of its own: an action is a socket that
 * only its user may open, and a connection to it starts one fixed command of systemd as root.
 */
import type { Profile } from '../profiles.ts';
import { ALL, APP, NODE, open, REAL, ROOT, type Service, WITH_SSH } from '../service.ts';

const OPERATOR = { name: 'operator-api', uid: 203 };

/** Where the sockets of the actions are. */
const ACTION_SOCKETS = '/run/operator-actions';

interface Action {
  readonly name: string;
  /** Arguments of systemctl. */
  readonly command: string;
  readonly profiles: readonly Profile[];
}

/** What an operator may do. */
const ACTIONS: readonly Action[] = [
  { name: 'reboot', command: 'reboot', profiles: ALL },
  { name: 'fetch_config', command: 'start fetch-config.service', profiles: ALL },
  { name: 'haproxy_restart', command: 'restart haproxy.service', profiles: ALL },
  { name: 'rbuilder_restart', command: 'restart rbuilder-operator.service', profiles: REAL },
  { name: 'rbuilder_stop', command: 'stop rbuilder-operator.service', profiles: REAL },
  { name: 'ssh_start', command: 'start ssh.socket', profiles: WITH_SSH },
  { name: 'ssh_stop', command: 'stop ssh.socket', profiles: WITH_SSH },
];

/** `[actions]` of the API's configuration. */
export function actionTable(profile: Profile): string {
  const client = `${APP}/image/guest/operator-action.js`;
  const rows = ACTIONS.filter(({ profiles }) => profiles.includes(profile)).map(
    ({ name }) =>
      `${name} = { command = ["${NODE}", "${client}", "${ACTION_SOCKETS}/${name}"], timeout_ms = 600000 }`,
  );
  return `[actions]\n${rows.join('\n')}\n`;
}

export function operatorServices(): Service[] {
  return [
    {
      unit: 'operator-api.service',
      does: "the operator's window: boot steps, events, actions; starts before there is a configuration",
      from: 'this repository',
      profiles: ALL,
      user: OPERATOR,
      listens: [open(3535, 'operator API')],
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
function action({ name, command, profiles }: Action): Service {
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
      start: `/usr/bin/systemctl ${command}`,
      triggered: true,
      lines: ['StandardInput=null', 'StandardOutput=socket', 'StandardError=socket', 'TimeoutStartSec=600'],
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
