/**
 * Run each minute by a timer: the builder may run only while the hub lists this machine. Listed → the flag file is
 * there; not listed or 403 → it is not; any other answer changes nothing, because a hub that is down must not stop
 * builders.
 *
 * Environment: HUB (URL), FLAG (file), CREDENTIALS_DIRECTORY (holds `instance-name`).
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fetchFromHub, HubStatus } from './hub.ts';

const { HUB = '', FLAG = '', CREDENTIALS_DIRECTORY = '' } = process.env;

/** undefined: no answer that says one or the other. */
async function isListed(name: string): Promise<boolean | undefined> {
  try {
    const list: unknown = JSON.parse(await fetchFromHub(HUB, 'builders'));
    if (!Array.isArray(list)) return undefined;
    return list.some((entry: unknown) => (entry as { name?: unknown } | null)?.name === name);
  } catch (error) {
    if (error instanceof HubStatus && error.status === 403) return false;
    console.log(`config-watchdog: no change: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  }
}

const name = readFileSync(join(CREDENTIALS_DIRECTORY, 'instance-name'), 'utf8').trim();
const listed = await isListed(name);
if (listed === true && !existsSync(FLAG)) {
  writeFileSync(FLAG, '');
  console.log('config-watchdog: the hub lists this machine, the builder may run');
} else if (listed === false && existsSync(FLAG)) {
  rmSync(FLAG);
  console.log('config-watchdog: the hub does not list this machine, the builder may not run');
}
