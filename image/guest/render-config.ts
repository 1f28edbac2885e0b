/**
 * Boot step: fetches the configuration from the hub and writes what services read, all files or none. Tries for ever
 * with backoff, because a machine that nobody can log in to must come up by itself once the hub answers.
 *
 * Environment: HUB (URL), TARGET (folder in RAM, mode 0700).
 */
import { chmodSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { ConfigError, renderConfig } from './config.ts';
import { fetchFromHub } from './hub.ts';

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 30_000;

const { HUB = '', TARGET = '' } = process.env;

/** All files or none: written beside their places, then renamed one after the other. */
function writeAll(target: string, files: ReturnType<typeof renderConfig>): void {
  const fresh = join(target, '.fresh');
  rmSync(fresh, { recursive: true, force: true });
  for (const { path, text } of files) {
    const file = join(fresh, path);
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    writeFileSync(file, text, { mode: 0o400 });
    chmodSync(file, 0o400);
  }
  for (const { path } of files) {
    mkdirSync(dirname(join(target, path)), { recursive: true, mode: 0o700 });
    renameSync(join(fresh, path), join(target, path));
  }
  rmSync(fresh, { recursive: true });
}

for (let delay = FIRST_WAIT_MS; ; delay = Math.min(delay * 2, LONGEST_WAIT_MS)) {
  try {
    const files = renderConfig(await fetchFromHub(HUB, 'configuration'));
    if (!existsSync(TARGET)) throw new Error(`${TARGET} is missing`);
    writeAll(TARGET, files);
    console.log(`configuration: ${files.length} files written`);
    break;
  } catch (error) {
    const reason = error instanceof ConfigError || error instanceof Error ? error.message : String(error);
    console.log(`configuration: ${reason}; next try in ${delay / 1000} s`);
    await wait(delay);
  }
}
