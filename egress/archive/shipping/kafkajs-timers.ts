/**
 * kafkajs looks after a connection's waiting requests by a timer that it sets anew each time, also when none wait: each
 * millisecond, with a time of `-1 - Date.now()`, for which Node prints a TimeoutNegativeWarning. A timer is needed only while
 * requests wait: whoever adds one sets it. Pinned to kafkajs 2.2.4, src/network/requestQueue.
 */
import { createRequire } from 'node:module';

interface RequestQueue {
  readonly pending: readonly unknown[];
  scheduleCheckPendingRequests(): void;
}

let done = false;

/** Keeps kafkajs from setting timers while nothing waits. @throws Error when it is not the version that this is made for. */
export function stopIdleTimers(): void {
  if (done) return;
  const load = createRequire(import.meta.url);
  const { prototype } = load('kafkajs/src/network/requestQueue/index.js') as {
    readonly prototype: RequestQueue;
  };
  const schedule: unknown = Reflect.get(prototype, 'scheduleCheckPendingRequests');
  if (typeof schedule !== 'function')
    throw new Error('kafkajs has no request queue as expected: not the pinned version');
  prototype.scheduleCheckPendingRequests = function scheduleWhileRequestsWait(this: RequestQueue) {
    if (this.pending.length > 0) Reflect.apply(schedule, this, []);
  };
  done = true;
}
