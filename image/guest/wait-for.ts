/**
 * Boot step: ends when a URL answers 200, so that a unit counts as up only when it serves. The unit's start timeout is
 * the limit. Arguments: name of the step, URL.
 */
import { setTimeout as wait } from 'node:timers/promises';
import { reportStep } from './step.ts';

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

const [, , step = '', url = ''] = process.argv;
reportStep(step, 'running');
while (!(await answers(url))) await wait(PAUSE_MS);
reportStep(step, 'done');
