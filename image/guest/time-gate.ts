/**
 * Boot step, once chrony has set the clock: it may have gone forward by any amount, but back by a day at most. Who
 * sets this machine's clock far ahead and has it put right later could show it what has long ended.
 *
 * The clock from before is that of a folder made at the start of the boot.
 */
import { statSync } from 'node:fs';
import { reportStep } from './step.ts';

const MADE_AT_BOOT = '/run/lock';
const DAY_MS = 86_400_000;

const back = statSync(MADE_AT_BOOT).ctimeMs - Date.now();
if (back > DAY_MS) {
  const reason = `the clock went back by ${(back / DAY_MS).toFixed(1)} days`;
  console.log(`time: refused: ${reason}`);
  reportStep('time', 'failed', reason);
  process.exitCode = 1;
} else {
  console.log('time: the clock is right');
  reportStep('time', 'done');
}
