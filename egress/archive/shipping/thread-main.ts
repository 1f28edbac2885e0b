/** The shipping thread: a shipper whose events go to the node's thread as messages. Started by thread.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import type { EventCall, FromThread, ThreadStart, ToThread } from './messages.ts';
import { type DurableSource, Shipper, type ShipperEvents } from './shipper.ts';
import type { SpoolPosition } from './watermark.ts';

if (parentPort === null) throw new Error('this file is started as a thread');
const port = parentPort;
const start = workerData as ThreadStart;
const say = (message: FromThread) => port.postMessage(message);

let durable: SpoolPosition = start.durable;
let wake: (() => void) | null = null;

const source: DurableSource = {
  durable: () => durable,
  beyond(known, signal) {
    if (signal.aborted || isBeyond(durable, known)) return Promise.resolve();
    return new Promise((resolve) => {
      const end = () => {
        signal.removeEventListener('abort', end);
        wake = null;
        resolve();
      };
      signal.addEventListener('abort', end, { once: true });
      wake = end;
      say({ kind: 'ask', known });
    });
  },
};

function isBeyond(position: SpoolPosition, known: SpoolPosition): boolean {
  return position.epoch !== known.epoch || position.sequence > known.sequence;
}

const call = (event: EventCall) => say({ kind: 'event', call: event });
const events: ShipperEvents = {
  connected: (...args) => call({ name: 'connected', args }),
  shipped: (...args) => call({ name: 'shipped', args }),
  skipped: (...args) => call({ name: 'skipped', args }),
  trouble: (...args) => call({ name: 'trouble', args }),
  topicCreated: (...args) => call({ name: 'topicCreated', args }),
  topicDiffers: (...args) => call({ name: 'topicDiffers', args }),
  lost: (...args) => call({ name: 'lost', args }),
  deadLetter: (...args) => call({ name: 'deadLetter', args }),
  unreadable: (...args) => call({ name: 'unreadable', args }),
};

const shipper = new Shipper(start.options, { source, events });

port.on('message', (message: ToThread) => {
  durable = message.durable;
  wake?.();
  if (message.kind === 'close') void shipper.close(message.graceMs).then(() => port.close());
});
