/**
 * Boot step: fetches the configuration from the hub and writes what services read, all files or none. Tries for ever
 * with backoff, because a machine that nobody can log in to must come up by itself once the hub answers. Later, on the
 * operator's action, a few times: services whose files have changed are restarted.
 *
 * Environment: HUB (URL), TARGET (folder in RAM, mode 0700), ON_ACTION (set on one).
 */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { ConfigError, type Rendered, renderConfig } from './config.ts';
import { fetchFromHub } from './hub.ts';
import { reportStep } from './step.ts';

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 10_000;
/** Slow: at first the way to the hub is not there yet, and everything else waits for this. */
const GROWTH = 1.2;
/** On an action somebody waits for the end. */
const TRIES_ON_ACTION = 6;
const ACTIONS = '/usr/share/orderflow/operator-actions.toml';
const PRIVATE_PROGRAMS = '/etc/private-programs.json';
/** A link, there once the data disk is open: then nobody needs its key any more. Its target is not shown to us. */
const OPENED = '/run/node/persistent-setup/device';
const DISK_KEY = 'persistent-setup/disk-key';

const { HUB = '', TARGET = '', ON_ACTION } = process.env;

const textOf = (file: string): string => (existsSync(file) ? readFileSync(file, 'utf8') : '');

/**
 * All files or none: written beside their places, then renamed one after the other.
 * @returns the services whose files are not what they were
 */
function writeAll(target: string, files: readonly Rendered[]): Set<string> {
  const fresh = join(target, '.fresh');
  rmSync(fresh, { recursive: true, force: true });
  for (const { path, text } of files) {
    const file = join(fresh, path);
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    writeFileSync(file, text, { mode: 0o400 });
    chmodSync(file, 0o400);
  }
  const changed = new Set<string>();
  for (const { path, text } of files) {
    const file = join(target, path);
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    if (textOf(file) !== text) changed.add(dirname(path));
    renameSync(join(fresh, path), file);
  }
  rmSync(fresh, { recursive: true });
  return changed;
}

async function render(): Promise<void> {
  const options = {
    actions: textOf(ACTIONS),
    builder: existsSync(PRIVATE_PROGRAMS),
    ssh: existsSync('/etc/ssh/sshd_config'),
    exports: existsSync('/usr/bin/prometheus'),
  };
  const files = renderConfig(await fetchFromHub(HUB, 'configuration'), options);
  if (!existsSync(TARGET)) throw new Error(`${TARGET} is missing`);
  const changed = writeAll(TARGET, files);
  // Asked after it was written: the disk may have been opened meanwhile.
  if (lstatSync(OPENED, { throwIfNoEntry: false }) !== undefined)
    rmSync(join(TARGET, DISK_KEY), { force: true });
  console.log(`configuration: ${files.length} files written`);
  reportStep('config', 'done');
  // The disk is tried again by itself. What does not run yet starts with the new files anyway.
  const units = [...changed].filter((name) => name !== dirname(DISK_KEY)).map((name) => `${name}.service`);
  if (units.length > 0) {
    execFileSync('/usr/bin/systemctl', ['--no-block', 'try-restart', ...units], { stdio: 'inherit' });
  }
}

reportStep('config', 'running');
for (let delay = FIRST_WAIT_MS, tries = 1; ; delay = Math.min(delay * GROWTH, LONGEST_WAIT_MS), tries++) {
  try {
    await render();
    break;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    reportStep('config', 'failed', reason);
    // A configuration that cannot be stays so.
    if (ON_ACTION !== undefined && (error instanceof ConfigError || tries === TRIES_ON_ACTION)) {
      console.log(`configuration: ${reason}`);
      process.exitCode = 1;
      break;
    }
    console.log(`configuration: ${reason}; next try in ${(delay / 1000).toFixed(1)} s`);
    await wait(delay);
  }
}
