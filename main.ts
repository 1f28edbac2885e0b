/**
 * `npm run node`: one production node from environment and flags. SIGTERM or SIGINT drains it; a second one
 * ends it at once. Exit codes: 0 after a drain, 1 when it could not start or failed, 2 for a wrong setting.
 */
import { createLogger } from './log.ts';
import { startNode } from './node.ts';
import { readSettings, SettingError, type Settings, settingRows } from './settings.ts';

function help(): string {
  const rows = settingRows().map(
    ({ env, flag, default: fallback, help: text, allowed }) =>
      `  ${flag}  [${env}]\n      ${text}\n      ${allowed}; default: ${fallback === '' ? '(empty)' : fallback}`,
  );
  return `Usage: npm run node -- [flags]\n\nEach setting is a flag or an environment variable; flags win.\n\n${rows.join('\n')}\n`;
}

function settingsOrExit(): Settings {
  try {
    return readSettings(process.argv.slice(2), process.env);
  } catch (error) {
    exitForSetting(error);
    throw error;
  }
}

function exitForSetting(error: unknown): void {
  if (!(error instanceof SettingError)) return;
  process.stderr.write(`${error.message}\n`);
  process.exit(2);
}

if (process.argv.includes('--help') || process.argv.includes('-h')) {
  process.stdout.write(help());
  process.exit(0);
}

const settings = settingsOrExit();
const log = createLogger({ json: settings.logJson, debug: settings.logDebug, service: settings.logService });

let stopping = false;
let stop: (() => Promise<void>) | null = null;
const onSignal = (signal: NodeJS.Signals) => {
  if (stopping) {
    log.warn({ event: 'killed', signal }, 'second signal: exiting at once');
    process.exit(1);
  }
  stopping = true;
  log.info({ event: 'stopping', signal }, 'draining');
  if (stop === null) process.exit(1);
  stop().then(
    () => process.exit(0),
    (error: unknown) => {
      log.fatal({ event: 'stop failed', reason: String(error) }, 'could not stop cleanly');
      process.exit(1);
    },
  );
};
process.on('SIGTERM', onSignal);
process.on('SIGINT', onSignal);

try {
  const node = await startNode(settings, log);
  stop = () => node.close();
} catch (error) {
  exitForSetting(error);
  log.fatal(
    { event: 'start failed', reason: error instanceof Error ? error.message : String(error) },
    'could not start',
  );
  process.exitCode = 1;
  setImmediate(() => process.exit(1));
}
