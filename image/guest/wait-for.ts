/**
 * Boot step: ends when the URL that is its argument answers 200, so that a unit counts as up only when it serves.
 * The unit's start timeout is the limit.
 */
import { setTimeout as wait } from 'node:timers/promises';

const PAUSE_MS = 250;
const TIMEOUT_MS = 5000;

async function answers(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    await response.body?.cancel();
    return response.status === 200;
  } catch {
    return false;
  }
}

const url = process.argv[2] ?? '';
while (!(await answers(url))) await wait(PAUSE_MS);
