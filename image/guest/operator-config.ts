/**
 * The operator API's configuration: one for the time before the hub has answered, which can do nothing but show the
 * boot, and the one that the hub's answer makes. What it keeps is in RAM: a changed password holds until the reboot.
 */
import { quoted } from './formats.ts';

const FOLDER = '/run/operator-api';
/** Steps of a boot, as programs report them (step.ts). */
const STEPS = ['time', 'config', 'disk', 'node'];

export interface OperatorOptions {
  /** Of the first password; empty: whoever calls first sets one. */
  readonly hash: string;
  /** Names the certificate: one that was made before the time was right may have ended before it began. */
  readonly phase: 'boot' | 'run';
  /** `[actions]`, TOML. */
  readonly actions: string;
}

/** @returns TOML */
export function operatorToml({ hash, phase, actions }: OperatorOptions): string {
  const general = {
    listen_addr: '0.0.0.0:3535',
    tls_cert_path: `${FOLDER}/${phase}-cert.pem`,
    tls_key_path: `${FOLDER}/${phase}-key.pem`,
    basic_auth_secret_path: `${FOLDER}/${phase}-password`,
    ...(hash === '' ? {} : { basic_auth_secret_hash: hash }),
    pipe_file: `${FOLDER}/pipe`,
    events_file: `${FOLDER}/events`,
  };
  const lines = Object.entries(general).map(([key, value]) => `${key} = ${quoted(value)}`);
  const steps = `boot_steps = [${STEPS.map(quoted).join(', ')}]`;
  return `[general]\n${[...lines, steps].join('\n')}\n\n${actions}`;
}
