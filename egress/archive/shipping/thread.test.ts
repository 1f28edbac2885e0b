import { expect, test, vi } from 'vitest';
import { kafkaOptions, shipperOptions } from '../testing/shipping.ts';
import { openTestSpool, temporaryFolder } from '../testing/spool.ts';
import type { ShipperEvents } from './shipper.ts';
import { startShipping } from './thread.ts';

function troubles() {
  const seen: string[] = [];
  const nothing = () => {};
  const events: ShipperEvents = {
    connected: nothing,
    shipped: nothing,
    skipped: nothing,
    trouble: (kind, message) => void seen.push(`${kind} ${message}`),
    topicCreated: nothing,
    topicDiffers: nothing,
    lost: nothing,
    deadLetter: nothing,
    unreadable: nothing,
  };
  return { seen, events };
}

/** Nobody listens there. */
const NOWHERE = kafkaOptions(['127.0.0.1:1'], 'orders');

test('a thread that fails is started again, and the node goes on', async () => {
  const dir = temporaryFolder();
  const spool = await openTestSpool(dir);
  const { seen, events } = troubles();
  const entry = new URL('data:text/javascript,throw new Error("broken")');
  const shipping = startShipping(shipperOptions(dir, NOWHERE), { spool, events, entry });
  await vi.waitFor(() => expect(seen.length).toBeGreaterThan(1), { timeout: 10_000 });
  expect(new Set(seen)).toEqual(new Set(['other the shipping thread has failed: broken']));
  await shipping.close(0);
});

test('brokers that are not there keep neither the node from closing nor its threads', async () => {
  const dir = temporaryFolder();
  const spool = await openTestSpool(dir);
  const { seen, events } = troubles();
  const shipping = startShipping(shipperOptions(dir, NOWHERE), { spool, events });
  await vi.waitFor(() => expect(seen.join()).toMatch(/^unreachable .*ECONNREFUSED/), { timeout: 10_000 });
  expect(shipping.state()).toEqual({ connected: false, sequence: 0 });
  await shipping.close(100);
});
