/**
 * A process to be killed: appends the orders from a number on, 32 at a time, and prints the number of each one as soon
 * as it is acknowledged. `node appender.ts DIR FIRST`. First lines: `opening`, `open`.
 */
import { openSpool } from '../open.ts';
import { SPOOL_DEFAULTS } from '../spool.ts';
import { order } from './orders.ts';

const [dir = '', first = '1'] = process.argv.slice(2);
const say = (line: string | number) => process.stdout.write(`${line}\n`);

say('opening');
const spool = await openSpool(
  { ...SPOOL_DEFAULTS, dir, nodeId: 'node-1', segmentBytes: 32 * 1024 },
  {
    events: {
      tornTail: () => {},
      damage: (segment, offset, message) => say(`damage ${segment} ${offset} ${message}`),
      committed: () => {},
      segmentDeleted: () => {},
      retentionFailed: () => {},
      gateClosed: (reason) => say(`gate ${reason}`),
      gateOpened: () => {},
    },
  },
);
say('open');

let next = Number(first);
function appendOne(): void {
  const n = next;
  next += 1;
  spool.append(order(n, (n * 7919) % 4000), (error) => {
    if (error !== null) throw error;
    say(n);
    appendOne();
  });
}
for (let waiting = 0; waiting < 32; waiting += 1) appendOne();
