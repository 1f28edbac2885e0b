/** Disks by the serial that the host gave them: never by size, order or being the only one. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * @param devices `/sys/class/block`
 * @returns the name of the one disk with the serial
 * @throws Error when there is none, or more than one
 */
export function diskOf(serial: string, devices: string): string {
  const found = readdirSync(devices).filter((name) => {
    const file = join(devices, name, 'serial');
    return existsSync(file) && readFileSync(file, 'utf8').trim() === serial;
  });
  const [name] = found;
  if (name === undefined || found.length > 1)
    throw new Error(`${found.length} disks have the serial ${serial}`);
  return name;
}
