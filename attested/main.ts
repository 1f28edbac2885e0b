#!/usr/bin/env node
/**
 * `attested-proxy server|client`: attested TLS before a plain target, or plain HTTP in and attested TLS out. SIGTERM or
 * SIGINT ends it, a second one at once. Exit codes: 0 after a stop, 1 when it could not start, 2 for a wrong setting.
 */
import { createLogger } from '../log.ts';
import { type RunningProgram, startProgram } from './compose.ts';
import { helpOf, type ProxySettings, type Role, readSettings, SettingError } from './settings.ts';

const [first = '', ...flags] = process.argv.slice(2);
const role: Role | undefined = first === 'server' || first === 'client' ? first : undefined;

function settingsOrExit(chosen: Role): ProxySettings {
  try {
    return readSettings(chosen, flags, process.env);
  } catch (error) {
    if (!(error instanceof SettingError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(2);
  }
}

if (role === undefined) {
  const help = process.argv.includes('--help') || process.argv.includes('-h');
  (help ? process.stdout : process.stderr).write(`${helpOf('server')}\n${helpOf('client')}`);
  process.exit(help ? 0 : 2);
}
if (flags.includes('--help') || flags.includes('-h')) {
  process.stdout.write(helpOf(role));
  process.exit(0);
}

const settings = settingsOrExit(role);
const log = createLogger({
  json: settings.logJson,
  debug: settings.logDebug,
  service: `attested-proxy-${role}`,
});
let program: RunningProgram | undefined;
let stopping = false;
const stop = (): void => {
  if (stopping || program === undefined) process.exit(1);
  stopping = true;
  program.close().then(
    () => process.exit(0),
    (error: unknown) => {
      log.fatal({ event: 'stop failed', reason: String(error) }, 'could not stop cleanly');
      process.exit(1);
    },
  );
};
process.on('SIGTERM', stop);
process.on('SIGINT', stop);

try {
  program = await startProgram(role, settings, log);
} catch (error) {
  log.fatal(
    { event: 'start failed', reason: error instanceof Error ? error.message : String(error) },
    'could not start',
  );
  process.exit(1);
}
