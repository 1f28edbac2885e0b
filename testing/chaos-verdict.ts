/**
 * What must be true after a chaos run, worked out from recorded times alone. Pure: chaos.ts gathers the evidence.
 *
 * DEFINITIONS. A process is away from the moment a signal is about to be sent to it until it is ready again
 * (listening, or thawed). After that it may take its neighbours `reconnectMs` to be connected with it again: the
 * longest pause of their back-off (egress/target-options.ts) and a handshake. It is *at work* when it is not away and
 * that time is over. `settleMs` is what an order may take from one process to the next on a busy machine. An order
 * was in A's hands from the begin of the try that was answered (`lastSentAt`) on, and acknowledged at
 * `acknowledgedAt`.
 *
 * Every order that A acknowledged
 * 1. is in A's archive, exactly once; and nothing else is in it. A cancellation, which is never taken for a
 *    duplicate (protocol section 4), is there at most as often as it was sent.
 * 2. was received by A's own builder and by the builder of each other node B, in each of these cases:
 *    - *kept*: A lived until the order must have arrived: `settleMs` after the first moment from which on B (and then
 *      B's builder) were at work for so long. Orders wait in A's queue for a B that is away and in B's queue for its
 *      builder, so their being away is no excuse, as long as all this ends within the queues' age bound (`ageMs`).
 *    - *handed*: A was killed before that, but B and B's builder had been at work since before the order came and
 *      were so for `settleMs` after its acknowledgement, and A had been up for `settleMs`. The bytes for builder
 *      and peers leave A before the acknowledgement, so the death of A is no excuse either.
 *    Exempt is only what no queue can keep: an order that waited in A's memory for somebody who was away when A was
 *    killed, or in B's memory for B's builder when B was killed. How many these are, and how many of them
 *    arrived all the same, is part of the figures.
 *
 *    It must have arrived by then, and `graceMs` for a machine that was busy with something else.
 *
 * And of every builder X:
 * 3. it got nothing but the canonical bytes of orders that were sent.
 * 4. it got an order twice only if node X or builder X was ended between the two copies, and an answer was lost: the
 *    first copy was in flight then (within `settleMs` of the end), or the client has had to send the order again
 *    since, to an A that X had forgotten about.
 *    Cancellations: besides these not oftener than they were sent.
 */
import type { Outage } from './chaos-process.ts';
import type { SentOrder } from './chaos-traffic.ts';

/** See the definitions above. */
export interface Bounds {
  readonly settleMs: number;
  readonly reconnectMs: number;
  readonly ageMs: number;
  readonly graceMs: number;
}

/** An order at a builder. */
export interface Arrival {
  /** SHA-256 of the bytes, 64 hex digits. */
  readonly digest: string;
  /** Unix ms. */
  readonly at: number;
}

export interface NodeEvidence {
  readonly name: string;
  readonly outages: readonly Outage[];
  readonly builderOutages: readonly Outage[];
  /** At its builder, oldest first. */
  readonly arrivals: readonly Arrival[];
  /** Digests of the orders in its archive. */
  readonly archived: readonly string[];
}

/** Deliveries (order × builder) by what was owed, and how many arrived. */
export interface DeliveryFigures {
  readonly owed: number;
  readonly arrived: number;
}

export interface Verdict {
  /** A sentence each; empty when all is well. */
  readonly faults: readonly string[];
  readonly kept: DeliveryFigures;
  /** Those of `kept` for which somebody on the way was away meanwhile. */
  readonly keptThroughOutage: DeliveryFigures;
  readonly handed: DeliveryFigures;
  readonly exempt: DeliveryFigures;
  /** Of what was owed: how long before (negative) or after it was due the last one came, in ms. */
  readonly latestMs: number;
  readonly archived: number;
  /** Copies beyond the first, at builders and in archives (of cancellations, in the latter). */
  readonly copiesAtBuilders: number;
  readonly copiesInArchives: number;
}

type Claim = 'kept' | 'kept through outage' | 'handed' | 'exempt';

/** Judges a run. */
export function judge(orders: readonly SentOrder[], nodes: readonly NodeEvidence[], bounds: Bounds): Verdict {
  const faults: string[] = [];
  const tally: Record<Claim, { owed: number; arrived: number }> = {
    kept: { owed: 0, arrived: 0 },
    'kept through outage': { owed: 0, arrived: 0 },
    handed: { owed: 0, arrived: 0 },
    exempt: { owed: 0, arrived: 0 },
  };
  let latestMs = Number.NEGATIVE_INFINITY;
  const byDigest = new Map(orders.map((order) => [order.digest, order]));
  const byName = new Map(nodes.map((node) => [node.name, node]));

  for (const receiver of nodes) {
    const received = firstArrivals(receiver.arrivals);
    for (const order of orders) {
      const sender = byName.get(order.node);
      if (order.acknowledgedAt === null || sender === undefined) continue;
      const { claim, due } = claimOn(order, sender, receiver, bounds);
      const at = received.get(order.digest);
      tally[claim].owed++;
      if (at !== undefined) tally[claim].arrived++;
      if (at !== undefined && claim !== 'exempt') latestMs = Math.max(latestMs, at - due);
      if (claim === 'exempt' || (at ?? Number.POSITIVE_INFINITY) <= due + bounds.graceMs) continue;
      const what = at === undefined ? 'lacks' : `got ${((at - due) / 1000).toFixed(1)} s late`;
      faults.push(`the builder of ${receiver.name} ${what} ${describe(order)}: ${claim}`);
    }
    faults.push(...copyFaults(receiver, byDigest, bounds));
    faults.push(...archiveFaults(receiver, orders));
  }

  const acknowledged = orders.filter((order) => order.acknowledgedAt !== null).length;
  const archived = nodes.reduce((sum, node) => sum + new Set(node.archived).size, 0);
  if (archived < acknowledged) faults.push(`${acknowledged} orders acknowledged, ${archived} archived`);
  return {
    faults,
    kept: {
      owed: tally.kept.owed + tally['kept through outage'].owed,
      arrived: tally.kept.arrived + tally['kept through outage'].arrived,
    },
    keptThroughOutage: tally['kept through outage'],
    handed: tally.handed,
    exempt: tally.exempt,
    latestMs,
    archived,
    copiesAtBuilders: copies(
      nodes.flatMap(({ name, arrivals }) => arrivals.map(({ digest }) => name + digest)),
    ),
    copiesInArchives: copies(nodes.flatMap(({ name, archived: own }) => own.map((digest) => name + digest))),
  };
}

/** @returns what is owed of one acknowledged order to one builder, and by when: see the definitions above. */
export function claimOn(
  order: SentOrder,
  sender: NodeEvidence,
  receiver: NodeEvidence,
  bounds: Bounds,
): { readonly claim: Claim; readonly due: number } {
  const from = order.lastSentAt;
  const to = order.acknowledgedAt ?? from;
  const own = sender === receiver;
  // The sender itself: frozen, or started a moment ago; it dials at once then, and need not wait out a back-off.
  const ofSender = sender.outages
    .filter(({ kind, endedAt }) => kind === 'frozen' || endedAt < from)
    .map((outage): Hindrance => ({ from: outage.from, over: outage.until }));
  const toNode = own ? ofSender : [...ofSender, ...hindrances(receiver.outages, bounds)];
  const toBuilder = [...toNode, ...hindrances(receiver.builderOutages, bounds)];
  const atNode = own ? to : arrivedBy(from, to, toNode, bounds);
  const atBuilder = arrivedBy(from, atNode, toBuilder, bounds);

  const late = atBuilder - order.firstSentAt > bounds.ageMs;
  const senderLived = deathAfter(sender, from) > (own ? atBuilder : atNode);
  if (senderLived && !late && (own || !mayLose(receiver, from, atBuilder, bounds))) {
    const delayed = atBuilder > to + (own ? 1 : 2) * bounds.settleMs;
    return { claim: delayed ? 'kept through outage' : 'kept', due: atBuilder };
  }
  const quiet = toBuilder.every(
    (hindrance) => hindrance.over + bounds.settleMs <= from || hindrance.from >= to + bounds.settleMs,
  );
  return { claim: quiet ? 'handed' : 'exempt', due: atBuilder };
}

/** A time in which an order may not get on. */
interface Hindrance {
  readonly from: number;
  readonly over: number;
}

/** Outages of a process as whoever is connected to it sees them. */
function hindrances(outages: readonly Outage[], { reconnectMs }: Bounds): Hindrance[] {
  return outages.map(({ from, until }) => ({ from, over: until + reconnectMs }));
}

/**
 * When something handed over between `from` and `to` has arrived, whatever gets in its way, if whoever holds it lives.
 */
function arrivedBy(from: number, to: number, ways: readonly Hindrance[], { settleMs }: Bounds): number {
  let ready = from;
  for (const { from: begin, over } of ways.toSorted((a, b) => a.from - b.from)) {
    if (over > ready && begin < Math.max(ready, to) + settleMs) ready = over;
  }
  return Math.max(ready, to) + settleMs;
}

/** When the process that took an order at `time` was told to end; Infinity if it never was. */
function deathAfter({ outages }: NodeEvidence, time: number): number {
  return endsIn(outages).find(({ endedAt }) => endedAt >= time)?.from ?? Number.POSITIVE_INFINITY;
}

/** Was the node ended at a moment of this time at which it may have held orders for its builder? */
function mayLose(node: NodeEvidence, from: number, to: number, bounds: Bounds): boolean {
  const { settleMs } = bounds;
  const builderAway = hindrances(node.builderOutages, bounds);
  return endsIn(node.outages).some(
    ({ from: death }) =>
      death >= from &&
      death <= to &&
      (builderAway.some((away) => death >= away.from - settleMs && death <= away.over + settleMs) ||
        node.outages.some(({ until }) => death >= until && death <= until + settleMs)),
  );
}

/** Those by which the process was killed or stopped. */
function endsIn(outages: readonly Outage[]): Outage[] {
  return outages.filter(({ kind }) => kind !== 'frozen');
}

/** Rules 3 and 4. */
function copyFaults(node: NodeEvidence, byDigest: ReadonlyMap<string, SentOrder>, bounds: Bounds): string[] {
  const faults: string[] = [];
  const ends = endsIn([...node.outages, ...node.builderOutages]);
  const earlier = new Map<string, number>();
  const unexplained = new Map<SentOrder, number>();
  for (const { digest, at } of node.arrivals) {
    const order = byDigest.get(digest);
    if (order === undefined) {
      faults.push(`the builder of ${node.name} got bytes that are no order's (sha256 ${digest})`);
      continue;
    }
    const before = earlier.get(digest);
    earlier.set(digest, at);
    if (before === undefined) continue;
    const near = ({ from, endedAt }: Outage): boolean =>
      before >= from - bounds.settleMs && before <= endedAt + bounds.settleMs;
    const between = ends.filter(({ from, endedAt }) => from <= at && endedAt >= before - bounds.settleMs);
    const sentAgain = order.lastFailedAt >= before - bounds.settleMs;
    if (between.length === 0 || !(sentAgain || between.some(near)))
      unexplained.set(order, (unexplained.get(order) ?? 0) + 1);
  }
  for (const [order, count] of unexplained) {
    if (!order.deduplicated && count < order.sends) continue;
    faults.push(
      `the builder of ${node.name} got ${describe(order)} ${count} times again, with no connection lost`,
    );
  }
  return faults;
}

/** Rule 1. */
function archiveFaults(node: NodeEvidence, orders: readonly SentOrder[]): string[] {
  const faults: string[] = [];
  const own = new Map(
    orders.filter((order) => order.node === node.name).map((order) => [order.digest, order]),
  );
  const counts = new Map<string, number>();
  for (const digest of node.archived) counts.set(digest, (counts.get(digest) ?? 0) + 1);
  for (const [digest, count] of counts) {
    const order = own.get(digest);
    if (order === undefined) faults.push(`the archive of ${node.name} has an order that was not sent to it`);
    else if (count > (order.deduplicated ? 1 : order.sends)) {
      faults.push(`the archive of ${node.name} has ${describe(order)} ${count} times`);
    }
  }
  for (const order of own.values()) {
    if (order.acknowledgedAt !== null && !counts.has(order.digest)) {
      faults.push(`the archive of ${node.name} lacks ${describe(order)}`);
    }
  }
  return faults;
}

function describe(order: SentOrder): string {
  const at =
    order.acknowledgedAt === null
      ? 'never acknowledged'
      : `acknowledged at ${order.acknowledgedAt.toFixed(1)}`;
  return `order ${order.sequence} (${order.method} to ${order.node}, sent ${order.sends} times, last at ${order.lastSentAt.toFixed(1)}, ${at})`;
}

function firstArrivals(arrivals: readonly Arrival[]): Map<string, number> {
  const first = new Map<string, number>();
  for (const { digest, at } of arrivals) if (!first.has(digest)) first.set(digest, at);
  return first;
}

/** @returns how many are there beyond the first of each. */
function copies(items: readonly string[]): number {
  return items.length - new Set(items).size;
}
