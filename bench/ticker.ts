/**
 * A worker thread that wakes the load generator when orders are due. Timers of the event loop know whole
 * milliseconds only, half a millisecond late on average; waiting on an atomic is exact to about 0.1 ms and,
 * unlike spinning, leaves the processor to the node under test.
 *
 * workerData: `{ intervalUs, count }`. Posts 0 when it is ready, waits to be posted when the first order is due (on the
 * clock of clock.ts), then posts the number of orders due so far.
 */
import { once } from 'node:events';
import { parentPort, workerData } from 'node:worker_threads';
import { nowUs } from './clock.ts';

/** Never more wake-ups than this: 5,000 per second. */
const SHORTEST_WAIT_US = 200;

const { intervalUs, count } = workerData as { intervalUs: number; count: number };
const never = new Int32Array(new SharedArrayBuffer(4));
if (parentPort === null) throw new Error('a thread of the load generator');

const begun = once(parentPort, 'message');
parentPort.postMessage(0, []);
const [startUs] = (await begun) as [number];
let due = 0;
while (due < count) {
  const wait = Math.max(startUs + due * intervalUs - nowUs(), due === 0 ? 0 : SHORTEST_WAIT_US);
  if (wait > 0) Atomics.wait(never, 0, 0, wait / 1000);
  const reached = Math.min(count, Math.floor((nowUs() - startUs) / intervalUs) + 1);
  if (reached > due) {
    due = reached;
    parentPort.postMessage(due, []);
  }
}
