/**
 * Reports a step of the boot to the operator API: a line in its FIFO. Nobody waits for a reader: who looks at a boot
 * must not be able to hold it up.
 */
import { closeSync, constants, openSync, writeSync } from 'node:fs';

const FIFO = '/run/operator-api/pipe';

/** @param detail one line; no secret, it is shown to the operator */
export function reportStep(name: string, state: 'running' | 'done' | 'failed', detail = ''): void {
  reportEvent(`boot ${name} ${state} ${detail}`);
}

/** @param message one line; no secret, it is shown to the operator */
export function reportEvent(message: string): void {
  const line = message.replaceAll(/\s+/gu, ' ').trim().slice(0, 500);
  let fifo: number | undefined;
  try {
    fifo = openSync(FIFO, constants.O_WRONLY | constants.O_NONBLOCK);
    writeSync(fifo, `${line}\n`);
  } catch (error) {
    // ENXIO: the API is not there just now.
    console.log(`not reported: ${line}: ${error instanceof Error ? error.message : String(error)}`);
  } finally {
    if (fifo !== undefined) closeSync(fifo);
  }
}
