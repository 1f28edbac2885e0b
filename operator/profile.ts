/**
 * CPU profiles of this process, in V8's form (Chromium's DevTools and speedscope read it). The deployed program serves
 * Go's profiles on the same path. Of the memory nothing is served: it holds secrets.
 */
import { Session } from 'node:inspector/promises';
import { setTimeout as delay } from 'node:timers/promises';

export const MAX_PROFILE_SECONDS = 60;

let running = false;

/** @returns the profile as JSON, or undefined while another is being taken. */
export async function takeProfile(seconds: number): Promise<string | undefined> {
  if (running) return undefined;
  running = true;
  const session = new Session();
  try {
    session.connect();
    await session.post('Profiler.enable');
    await session.post('Profiler.start');
    await delay(seconds * 1000);
    const { profile } = await session.post('Profiler.stop');
    return JSON.stringify(profile);
  } finally {
    session.disconnect();
    running = false;
  }
}
