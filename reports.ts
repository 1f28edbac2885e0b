/**
 * What the services report, as log lines. An event here holds names, counts and reasons, never an order, a
 * key or a signature.
 */
import type { Logger } from 'pino';
import type { ShipperEvents, SpoolEvents } from './egress/archive/index.ts';
import type { DeliveryEvents } from './egress/delivery.ts';
import type { StreamEvents } from './identity/channel/channel.ts';
import type { HubClientEvents } from './identity/hub-client.ts';
import type { IdentityEvents } from './identity/identity.ts';
import type { Peer } from './identity/peer.ts';
import type { PeerRegistryEvents } from './identity/registry.ts';
import type { NodeMetrics } from './metrics/node-metrics.ts';
import type { StreamMetrics } from './metrics/stream-metrics.ts';

export function identityReports(log: Logger): IdentityEvents {
  return {
    made: (what) => log.info({ event: 'made', what }, `made a new ${what}`),
    renewing: (reason) => log.info({ event: 'renewing', reason }, 'renewing the certificate'),
    renewed: ({ notAfter }) => log.info({ event: 'renewed', notAfter }, 'the new certificate is in use'),
    renewalFailed: (error) =>
      log.error({ event: 'renewal failed', reason: error.message }, 'the certificate was not renewed'),
    storingFailed: (error) =>
      log.error(
        { event: 'storing failed', reason: error.message },
        'the new certificate could not be stored',
      ),
  };
}

export function hubReports(log: Logger, metrics: NodeMetrics): HubClientEvents {
  return {
    registered: (attempts) => log.info({ event: 'registered', attempts }, 'registered at BuilderHub'),
    registrationFailed(error, attempts, retryInMs) {
      metrics.hubError();
      const fields = { event: 'registration failed', reason: error.message, attempts, retryInMs };
      log.warn(fields, 'BuilderHub did not take the registration; trying again');
    },
  };
}

/** Entries that one log line names; the hub's list has dozens. */
const MOST_NAMED = 100;

/** Why a peer that may send to us cannot be sent to; nothing for one that can. */
function why(peer: Peer): readonly { name: string; reason: string }[] {
  return peer.sendable ? [] : [peer];
}

export function registryReports(log: Logger, metrics: NodeMetrics): PeerRegistryEvents {
  let named = '';
  return {
    refreshed({ added, removed, changed, unchanged }, skipped) {
      if (added.length + removed.length + changed.length > 0) {
        const names = (peers: readonly { name: string }[]) => peers.map(({ name }) => name);
        const fields = {
          added: names(added),
          removed: names(removed),
          changed: changed.map(({ after }) => after.name),
        };
        log.info({ event: 'peers', ...fields, unchanged: unchanged.length }, 'the list of peers has changed');
      }
      const unusable = [
        ...skipped,
        ...[...added, ...changed.map(({ after }) => after), ...unchanged].flatMap(why),
      ];
      metrics.skippedEntries(unusable.length);
      // The list comes every half minute, in another order each time: the same bad entries are named once.
      const lines = unusable.map(({ name, reason }) => `${name}: ${reason}`).sort();
      // One without a name is called by its place in the list.
      const text = lines
        .map((line) => line.replace(/^#\d+:/, '#:'))
        .sort()
        .join('\n');
      if (lines.length > 0 && text !== named) {
        const fields = {
          event: 'hub entries skipped',
          count: lines.length,
          skipped: lines.slice(0, MOST_NAMED),
        };
        log.warn(fields, "entries of the hub's list cannot be used, or not be sent to");
      }
      named = text;
    },
    fetchFailed(error) {
      metrics.hubError();
      log.warn(
        { event: 'hub failed', reason: error.message },
        'BuilderHub did not answer; the last known peers stay',
      );
    },
    storingFailed: (error) =>
      log.warn(
        { event: 'storing failed', reason: error.message },
        'the list of peers could not be read or stored',
      ),
  };
}

/** Connections to builder and peers come and go often: told at debug level alone. */
export function connectionReports(
  log: Logger,
  metrics: DeliveryEvents,
): Pick<DeliveryEvents, 'connected' | 'disconnected'> {
  return {
    connected(target) {
      metrics.connected(target);
      log.debug({ event: 'connected', target }, 'a connection was made');
    },
    disconnected(target, reason) {
      metrics.disconnected(target, reason);
      log.debug({ event: 'disconnected', target, reason }, 'a connection ended, or was not made');
    },
  };
}

/** @param gateChanged called once the archive takes orders again, or refuses them for one more reason */
export function spoolReports(log: Logger, metrics: NodeMetrics, gateChanged: () => void): SpoolEvents {
  return {
    committed: (records, _bytes, seconds) => metrics.archived(records, seconds),
    segmentDeleted: (segment) => log.info({ event: 'segment deleted', segment }, 'past its retention'),
    retentionFailed: (error) =>
      log.error({ event: 'retention failed', reason: error.message }, 'a segment could not be deleted'),
    gateClosed(reason, cause) {
      gateChanged();
      if (cause !== null) metrics.archiveSendFailed();
      // The end of every run is no error.
      const level = reason === 'closing' ? 'info' : 'error';
      log[level](
        { event: 'archive closed', reason, cause: cause?.message },
        'the archive takes no user orders',
      );
    },
    gateOpened() {
      gateChanged();
      log.info({ event: 'archive open' }, 'the archive takes user orders again');
    },
    tornTail: (segment, offset, bytes) =>
      log.warn({ event: 'torn tail', segment, offset, bytes }, 'cut off what a crash had left half written'),
    damage: (segment, offset, message) =>
      log.error({ event: 'damage', segment, offset, reason: message }, 'ALARM: the archive is damaged'),
  };
}

/** Logs what the shipper does; a trouble that lasts is logged when it begins, changes and ends. */
export function shippingReports(log: Logger): Pick<ShipperEvents, Exclude<keyof ShipperEvents, 'shipped'>> {
  let trouble = '';
  /** These need somebody to do something. */
  const alarms: ReadonlySet<string> = new Set(['topic_missing', 'topic_unfit', 'diverged', 'disk']);
  return {
    connected() {
      if (trouble !== '') log.info({ event: 'archive shipping' }, 'the archive is being shipped again');
      trouble = '';
    },
    skipped: (_position, records) =>
      log.info({ event: 'archive found', records }, 'the brokers had these records already'),
    trouble(kind, reason) {
      const text = `${kind} ${reason}`;
      if (text === trouble) return;
      trouble = text;
      const alarm = alarms.has(kind);
      log[alarm ? 'error' : 'warn'](
        { event: 'archive not shipped', kind, reason },
        alarm ? 'ALARM: the archive cannot be shipped' : 'the archive is not shipped just now; trying again',
      );
    },
    topicCreated: (topic) => log.info({ event: 'topic made', topic }, "made the archive's topic"),
    topicDiffers: (differences) =>
      log.warn({ event: 'topic differs', differences }, "the archive's topic is not as it was asked for"),
    lost: (reason) =>
      log.error(
        { event: 'lost by the brokers', reason },
        'ALARM: the brokers have lost acknowledged orders; what is retained is sent again',
      ),
    deadLetter: (sequence, bytes) =>
      log.error(
        { event: 'dead letter', sequence, bytes },
        'ALARM: the brokers refuse an order as too large; it stays in dead-letters.ndjson',
      ),
    unreadable: (segment, offset, reason) =>
      log.error({ event: 'damage', segment, offset, reason }, 'ALARM: the archive is damaged'),
  };
}

/** Reasons that come with every restart and every v1 peer; the metrics count them all the same. */
const USUAL: ReadonlySet<string> = new Set([
  'normal',
  'shutdown',
  'lost',
  'connect_failed',
  'connect_timeout',
  'not_offered',
]);

/** Anybody can be refused: one line for each reason in so long. */
const STRANGERS_MS = 10_000;

/** @param now milliseconds */
export function streamReports(
  log: Logger,
  metrics: StreamMetrics,
  now: () => number = performance.now.bind(performance),
): StreamMetrics {
  const told = new Map<string, { atMs: number; since: number }>();
  /** @returns how many were not told since the last that was; null when this one is not told either. */
  function strangers(reason: string): number | null {
    const last = told.get(reason);
    if (last !== undefined && now() - last.atMs < STRANGERS_MS) {
      last.since++;
      return null;
    }
    told.set(reason, { atMs: now(), since: 0 });
    return last?.since ?? 0;
  }
  return {
    ...metrics,
    opened(peer, direction) {
      metrics.opened(peer, direction);
      log.debug({ event: 'stream opened', peer, direction }, 'a stream of orders is open');
    },
    closed(peer, direction, reason, byPeer) {
      metrics.closed(peer, direction, reason, byPeer);
      const fields = { event: 'stream closed', peer, direction, reason, byPeer };
      if (USUAL.has(reason)) {
        log.debug(fields, 'a stream of orders has ended');
        return;
      }
      const more = peer === '' ? strangers(reason) : 0;
      if (more !== null) log.warn(more === 0 ? fields : { ...fields, more }, 'a stream of orders has ended');
    },
  } satisfies StreamEvents & StreamMetrics;
}
