/** `boot`: a development image with its stand-ins, its console on this terminal, until Ctrl-C. */
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Progress } from '../build/progress.ts';
import { startMachine } from './machine.ts';
import { registersOfMachine } from './quotes.ts';
import { exampleConfiguration, FORWARDED, startStandIns } from './stand-ins.ts';

const DATA_DISK_BYTES = 1024 * 1024 * 1024;
const LOOK_MS = 250;

/** Makes an empty data disk. */
export function makeDataDisk(file: string, bytes = DATA_DISK_BYTES): void {
  closeSync(openSync(file, 'w'));
  truncateSync(file, bytes);
}

/**
 * @param tools root of the tools tree
 * @param output folder of the image; data disk and configuration are kept beside it and used again
 */
export async function bootInteractively(tools: string, output: string, progress: Progress): Promise<void> {
  const dataDisk = `${output}.data/data.raw`;
  const configurationFile = `${output}.data/configuration.json`;
  mkdirSync(`${output}.data`, { recursive: true, mode: 0o700 });
  if (!existsSync(dataDisk)) {
    makeDataDisk(dataDisk);
    writeFileSync(configurationFile, JSON.stringify(exampleConfiguration()), { mode: 0o600 });
  }
  const configuration: unknown = JSON.parse(readFileSync(configurationFile, 'utf8'));
  const standIns = await startStandIns({ tools, image: output, configuration });
  const machine = await startMachine({
    tools,
    disk: join(output, 'disk.raw'),
    dataDisk,
    forwards: FORWARDED,
  });
  standIns.quotes.attach(registersOfMachine(machine));
  for (const [guest, host] of Object.entries(FORWARDED))
    progress(`port ${guest} is at 127.0.0.1:${host} of this network`);
  let shown = 0;
  const show = setInterval(() => {
    const text = machine.console;
    process.stdout.write(text.slice(shown));
    shown = text.length;
  }, LOOK_MS);
  const { promise, resolve } = Promise.withResolvers<void>();
  process.once('SIGINT', resolve);
  process.once('SIGTERM', resolve);
  await Promise.race([promise, machine.waitForEnd(2 ** 21)]);
  clearInterval(show);
  await machine.kill();
  await standIns.close();
}
