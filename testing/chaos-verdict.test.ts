/** The judge of chaos runs, on made-up runs: each fault is found, and what nobody can promise is not asked for. */
import { describe, expect, test } from 'vitest';
import type { Outage, OutageKind } from './chaos-process.ts';
import type { SentOrder } from './chaos-traffic.ts';
import { type Arrival, claimOn, judge, type NodeEvidence } from './chaos-verdict.ts';

const BOUNDS = { settleMs: 1_000, reconnectMs: 2_000, ageMs: 30_000, graceMs: 500 };
/** When the orders below are sent; acknowledged 10 ms later. */
const SENT = 100_000;

function order(digest: string, changes: Partial<SentOrder> = {}): SentOrder {
  return {
    sequence: 0,
    method: 'eth_sendBundle',
    digest,
    node: 'a',
    deduplicated: true,
    sends: 1,
    firstSentAt: SENT,
    lastSentAt: SENT,
    acknowledgedAt: SENT + 10,
    lastFailedAt: 0,
    ...changes,
  };
}

/** @param endedAt 5 ms after the signal unless told */
function outage(kind: OutageKind, from: number, until: number, endedAt = from + 5): Outage {
  return {
    kind,
    from: SENT + from,
    endedAt: kind === 'frozen' ? Number.POSITIVE_INFINITY : SENT + endedAt,
    until: SENT + until,
  };
}

interface Story {
  readonly outages?: readonly Outage[];
  readonly builderOutages?: readonly Outage[];
  readonly arrivals?: readonly Arrival[];
  readonly archived?: readonly string[];
}

function node(name: string, story: Story = {}): NodeEvidence {
  return { name, outages: [], builderOutages: [], arrivals: [], archived: [], ...story };
}

const at = (digest: string, ms = 5): Arrival => ({ digest, at: SENT + ms });

describe('what is owed', () => {
  const claim = (sender: Story, receiver: Story) =>
    claimOn(order('o'), node('a', sender), node('b', receiver), BOUNDS).claim;
  const ownClaim = (story: Story) => {
    const own = node('a', story);
    return claimOn(order('o'), own, own, BOUNDS).claim;
  };

  test('everything, where nothing happens', () => {
    expect(claim({}, {})).toBe('kept');
    expect(ownClaim({})).toBe('kept');
  });

  test('what waits in the queue of a sender that lives', () => {
    expect(claim({}, { outages: [outage('killed', -500, 1_500)] })).toBe('kept through outage');
    expect(claim({}, { outages: [outage('killed', 500, 1_500)] })).toBe('kept through outage');
    expect(claim({}, { builderOutages: [outage('killed', -500, 1_500)] })).toBe('kept through outage');
    expect(ownClaim({ builderOutages: [outage('killed', 5, 1_500)] })).toBe('kept through outage');
    const again = [outage('killed', -500, 1_500), outage('killed', 3_000, 4_000)];
    expect(claim({ outages: [outage('killed', 8_000, 9_000)] }, { outages: again })).toBe(
      'kept through outage',
    );
    expect(claim({ outages: [outage('killed', 6_500, 9_000)] }, { outages: again })).toBe('exempt');
  });

  test('no longer than the queue keeps it', () => {
    expect(claim({}, { outages: [outage('killed', -500, 26_000)] })).toBe('kept through outage');
    expect(claim({}, { outages: [outage('killed', -500, 28_000)] })).toBe('exempt');
  });

  test('what left a sender before it was killed', () => {
    const killed = { outages: [outage('killed', 20, 1_000)] };
    expect(claim(killed, {})).toBe('handed');
    expect(ownClaim(killed)).toBe('handed');
    expect(claim(killed, { outages: [outage('killed', -9_000, -4_000)] })).toBe('handed');
  });

  test('nothing that waited in the memory of a process that was killed', () => {
    const killed = { outages: [outage('killed', 20, 1_000)] };
    expect(claim(killed, { outages: [outage('killed', -5_000, -1_000)] })).toBe('exempt');
    expect(claim(killed, { builderOutages: [outage('frozen', -10, 500)] })).toBe('exempt');
    expect(claim(killed, { outages: [outage('killed', 15, 1_000)] })).toBe('exempt');
    expect(ownClaim({ ...killed, builderOutages: [outage('killed', -500, 500)] })).toBe('exempt');
    // Its own start was a moment ago: it may not have been connected yet.
    expect(claim({ outages: [outage('killed', -2_000, -100), outage('killed', 20, 1_000)] }, {})).toBe(
      'exempt',
    );
    // It was draining already when it took the order.
    const draining = { outages: [outage('stopped', -20, 3_000, 1_000)] };
    expect(claim(draining, { outages: [outage('killed', -500, 500)] })).toBe('exempt');
    expect(claim(draining, {})).toBe('handed');
    // The receiver had taken it, and its builder was away.
    const receiver = {
      outages: [outage('killed', 1_000, 2_000)],
      builderOutages: [outage('killed', -500, 1_500)],
    };
    expect(claim({}, receiver)).toBe('exempt');
    expect(claim({}, { ...receiver, builderOutages: [] })).toBe('kept through outage');
  });
});

describe('the verdict', () => {
  test('is clean when everything is where it belongs', () => {
    const verdict = judge(
      [order('o'), order('p', { node: 'b' })],
      [
        node('a', { arrivals: [at('o'), at('p')], archived: ['o'] }),
        node('b', { arrivals: [at('o'), at('p')], archived: ['p'] }),
      ],
      BOUNDS,
    );
    expect(verdict).toMatchObject({
      faults: [],
      kept: { owed: 4, arrived: 4 },
      archived: 2,
      copiesAtBuilders: 0,
    });
  });

  const faultsOf = (story: Story, orders: SentOrder[] = [order('o')]) =>
    judge(orders, [node('a', { arrivals: [at('o')], archived: ['o'], ...story })], BOUNDS).faults;

  test('names an order that is missing', () => {
    expect(faultsOf({ arrivals: [] })).toEqual([expect.stringContaining('the builder of a lacks order 0')]);
    expect(faultsOf({ archived: [] })).toContainEqual(
      expect.stringContaining('the archive of a lacks order 0'),
    );
  });

  test('names an order that came late', () => {
    expect(faultsOf({ arrivals: [at('o', 1_400)] })).toEqual([]);
    expect(faultsOf({ arrivals: [at('o', 2_000)] })).toEqual([
      expect.stringContaining('the builder of a got 1.0 s late order 0'),
    ]);
    const builderOutages = [outage('killed', -500, 1_000)];
    expect(faultsOf({ arrivals: [at('o', 4_400)], builderOutages })).toEqual([]);
    expect(faultsOf({ arrivals: [at('o', 4_600)], builderOutages })).toHaveLength(1);
  });

  test('names what belongs to nobody', () => {
    expect(faultsOf({ arrivals: [at('o'), at('x')] })).toEqual([
      expect.stringContaining("no order's (sha256 x)"),
    ]);
    expect(faultsOf({ archived: ['o', 'x'] })).toEqual([expect.stringContaining('was not sent to it')]);
  });

  test('an order that nobody acknowledged may be anywhere, once', () => {
    const unanswered = [order('o', { acknowledgedAt: null })];
    expect(faultsOf({}, unanswered)).toEqual([]);
    expect(faultsOf({ arrivals: [], archived: [] }, unanswered)).toEqual([]);
    expect(faultsOf({ archived: ['o', 'o'] }, unanswered)).toHaveLength(1);
  });

  test('an order is archived once, a cancellation as often as it was sent', () => {
    expect(faultsOf({ archived: ['o', 'o'] })).toEqual([expect.stringContaining('2 times')]);
    const cancellation = [order('o', { deduplicated: false, sends: 2 })];
    expect(faultsOf({ archived: ['o', 'o'], arrivals: [at('o', 5), at('o', 6)] }, cancellation)).toEqual([]);
    expect(faultsOf({ archived: ['o', 'o', 'o'] }, cancellation)).toHaveLength(1);
  });

  test('a second copy at a builder needs a connection that was lost with it', () => {
    const twice = { arrivals: [at('o', 5), at('o', 3_000)] };
    expect(faultsOf(twice)).toEqual([expect.stringContaining('1 times again, with no connection lost')]);
    expect(faultsOf({ ...twice, builderOutages: [outage('killed', 10, 1_000)] })).toEqual([]);
    expect(faultsOf({ ...twice, outages: [outage('killed', 10, 1_000)] })).toEqual([]);
    expect(faultsOf({ ...twice, outages: [outage('frozen', 10, 1_000)] })).toHaveLength(1);
    // It was not in flight any more.
    expect(faultsOf({ ...twice, builderOutages: [outage('killed', 1_500, 2_500)] })).toHaveLength(1);
  });

  test('a client that sends again makes a second copy only where the first has been forgotten', () => {
    const copies = [at('o', 5), at('o', 3_000)];
    const forgetting = [outage('killed', 1_500, 2_500)];
    const faults = (outages: Outage[], lastFailedAt: number) =>
      judge(
        [order('o', { sends: 2, lastFailedAt })],
        [node('a', { arrivals: [at('o')], archived: ['o'] }), node('b', { arrivals: copies, outages })],
        BOUNDS,
      ).faults;
    expect(faults(forgetting, SENT + 8)).toEqual([]);
    expect(faults([], SENT + 8)).toHaveLength(1);
    expect(faults(forgetting, 0)).toHaveLength(1);
  });
});
