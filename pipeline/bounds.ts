/**
 * Backpressure at each edge of the node: what is bounded by what, and what happens at the bound. The
 * README's table is made from this one. Settings are environment names of settings.ts.
 */

export interface Bound {
  readonly edge: string;
  readonly bound: string;
  /** Environment name, or null for a fixed bound. */
  readonly setting: string | null;
  readonly atBound: string;
  readonly metric: string;
}

export const BOUNDS: readonly Bound[] = [
  {
    edge: 'connections of an API',
    bound: 'count',
    setting: 'MAX_CONNECTIONS',
    atBound:
      'the one idle longest is closed, first of those that never asked for anything, and the newcomer is served',
    metric: 'orderflow_connections_evicted_total',
  },
  {
    edge: 'HTTP/1.1 requests of one connection in flight',
    bound: '64; 32 that can be no orders',
    setting: null,
    atBound:
      'it is read no further until below 32, and what was read already waits; beyond 256, or 32 that can be no orders, it is cut off',
    metric: 'orderflow_connections_evicted_total',
  },
  {
    edge: 'requests of one connection in flight',
    bound: '8 with 16,384 in flight in all, 1 with 32,768',
    setting: null,
    atBound: 'the next gets -32005 and the connection is closed',
    metric: 'orderflow_rejected_total{kind="overloaded"}',
  },
  {
    edge: 'HTTP/2 streams of one connection',
    bound: '128',
    setting: null,
    atBound: 'further ones wait at the client',
    metric: '-',
  },
  {
    edge: 'work of one connection in one turn of the event loop',
    bound: '1 ms, less when many are busy',
    setting: null,
    atBound: 'it is read again when its turn comes; the others are read as always',
    metric: '-',
  },
  {
    edge: 'answers that their client does not read',
    bound: 'time',
    setting: 'HTTP_WRITE_TIMEOUT_SEC',
    atBound: 'the connection is closed; earlier, the oldest first, beyond 8,192 of them or 64 MiB in all',
    metric: 'orderflow_connections_evicted_total',
  },
  {
    edge: 'one request, first byte to last',
    bound: 'time',
    setting: 'HTTP_READ_TIMEOUT_SEC',
    atBound: 'the connection is closed',
    metric: '-',
  },
  {
    edge: 'one request body (decompressed)',
    bound: 'bytes',
    setting: 'MAX_REQUEST_BODY_SIZE_BYTES',
    atBound: 'error -32600',
    metric: 'orderflow_rejected_total{kind="body_too_big"}',
  },
  {
    edge: 'all bodies being read',
    bound: 'bytes',
    setting: 'MAX_PENDING_BYTES',
    atBound: 'the body that has been at it longest gets -32005',
    metric: 'orderflow_rejected_total{kind="overloaded"}',
  },
  {
    edge: 'all bodies being read',
    bound: '8,192',
    setting: null,
    atBound: 'the body that has been at it longest gets -32005',
    metric: 'orderflow_rejected_total{kind="overloaded"}',
  },
  {
    edge: 'pieces (chunks, frames) of one body',
    bound: '1,024, then 64 bytes each on average',
    setting: null,
    atBound: 'error -32700',
    metric: 'orderflow_rejected_total{kind="parse_error"}',
  },
  {
    edge: 'requests waiting for their turn',
    bound: 'time, as far as it can be told',
    setting: 'MAX_WAIT_MS',
    atBound:
      'the newest gets -32005 before its body is read; a burst and those who send seldom have more time, peers have lanes of their own',
    metric: 'orderflow_rejected_total{kind="overloaded"}',
  },
  {
    edge: 'requests of a burst, of those who send seldom, and of peers, waiting for their turn',
    bound: 'time, as far as it can be told',
    setting: 'MAX_BURST_WAIT_MS',
    atBound: 'the newest gets -32005 before its body is read',
    metric: 'orderflow_rejected_total{kind="overloaded"}',
  },
  {
    edge: 'requests waiting for their turn',
    bound: 'bytes, a quarter of them for peers alone',
    setting: 'MAX_PENDING_BYTES',
    atBound: 'the newest gets -32005; turns go round the connections, bodies above 64 KiB have their own',
    metric: 'orderflow_rejected_total{kind="overloaded"}',
  },
  {
    edge: 'user orders',
    bound: 'rate',
    setting: 'MAX_USER_RPS',
    atBound: 'error -32005, HTTP 429',
    metric: 'orderflow_rejected_total{kind="rate_limited"}',
  },
  {
    edge: 'orders of unknown peers waiting for a fresh hub list',
    bound: '1024; bytes',
    setting: 'MAX_PENDING_BYTES',
    atBound: 'refused as from an unknown peer',
    metric: 'orderflow_rejected_total{kind="unknown_peer"}',
  },
  {
    edge: 'dedupe window',
    bound: 'keys',
    setting: 'DEDUPE_KEYS',
    atBound: 'the oldest is forgotten',
    metric: 'orderflow_dedupe_keys',
  },
  {
    edge: 'orders waiting for the builder',
    bound: 'bytes',
    setting: 'BUILDER_QUEUE_BYTES',
    atBound: 'the newest is not queued, counted',
    metric: 'orderflow_delivery_dropped_total{target="local-builder",reason="queue_full"}',
  },
  {
    edge: 'orders waiting for the builder',
    bound: 'age',
    setting: 'BUILDER_QUEUE_AGE_MS',
    atBound: 'the oldest is dropped, counted',
    metric: 'orderflow_delivery_dropped_total{target="local-builder",reason="expired"}',
  },
  {
    edge: 'orders that leave for the peers together',
    bound: 'from 1,000 a second on: 2 ms, 16 orders or 256 KiB',
    setting: null,
    atBound: 'they leave',
    metric: '-',
  },
  {
    edge: 'orders waiting for a peer',
    bound: 'bytes',
    setting: 'PEER_QUEUE_BYTES',
    atBound: 'the newest is not queued for this peer, counted; the others are not touched',
    metric: 'orderflow_delivery_dropped_total{target,reason="queue_full"}',
  },
  {
    edge: 'orders waiting for all peers together',
    bound: 'bytes; beside them 1 MiB of each peer',
    setting: 'PEERS_QUEUE_BYTES',
    atBound: 'the newest is not queued for a peer that has not taken it, counted',
    metric: 'orderflow_delivery_dropped_total{target,reason="queue_full"}',
  },
  {
    edge: 'orders waiting for a peer',
    bound: 'age',
    setting: 'PEER_QUEUE_AGE_MS',
    atBound: 'the oldest is dropped for this peer, counted',
    metric: 'orderflow_delivery_dropped_total{target,reason="expired"}',
  },
  {
    edge: 'orders waiting for a peer',
    bound: 'the hub lists it',
    setting: null,
    atBound: 'all are dropped for this peer, counted; answers to those it has are waited for, 2 s at most',
    metric: 'orderflow_delivery_dropped_total{target,reason="removed"}',
  },
  {
    edge: 'orders above 1 MiB under way to a target over requests',
    bound: '1',
    setting: null,
    atBound: 'the next waits for its answer',
    metric: '-',
  },
  {
    edge: 'orders of one stream connection that are not dealt with',
    bound: 'bytes, 256 more for each',
    setting: 'STREAM_WINDOW_BYTES',
    atBound: "the peer's orders wait in its own queue; one that sends them all the same is cut off",
    metric: 'orderflow_stream_closed_total{reason="window"}',
  },
  {
    edge: 'stream connections of one peer to this node',
    bound: '18',
    setting: null,
    atBound: 'the oldest is closed',
    metric: 'orderflow_stream_closed_total{reason="superseded"}',
  },
  {
    edge: 'frames of one peer that have begun and not ended, on all its streams',
    bound: 'the largest order and 2.25 MiB',
    setting: null,
    atBound: 'the connection that holds the most of the others is closed',
    metric: 'orderflow_stream_closed_total{reason="superseded"}',
  },
  {
    edge: 'frames of all peers that have begun and not ended',
    bound: 'bytes; at least as many as of one peer',
    setting: 'MAX_PENDING_BYTES',
    atBound: 'the connection that holds the most of the others is closed',
    metric: 'orderflow_stream_closed_total{reason="superseded"}',
  },
  {
    edge: 'one frame of a stream, first byte to last',
    bound: '5 s and 1 s more for each 256 KiB',
    setting: null,
    atBound: 'the connection is closed',
    metric: 'orderflow_stream_closed_total{reason="slow"}',
  },
  {
    edge: 'frames of a stream that carry no orders',
    bound: '2,000 per second',
    setting: null,
    atBound: 'the connection is closed',
    metric: 'orderflow_stream_closed_total{reason="flood"}',
  },
  {
    edge: 'a stream on which nothing is heard',
    bound: '4 s',
    setting: null,
    atBound: 'the connection is closed; the orders without an acknowledgement are sent again',
    metric: 'orderflow_stream_closed_total{reason="silent"}',
  },
  {
    edge: 'the archive',
    bound: 'bytes',
    setting: 'ARCHIVE_MAX_BYTES',
    atBound: 'new user orders get -32005 and /readyz is 503 until there is room; orders of peers go on',
    metric: 'orderflow_archive_accepting',
  },
  {
    edge: 'orders that the brokers of the archive do not have yet',
    bound: 'bytes',
    setting: 'ARCHIVE_UNSHIPPED_MAX_BYTES',
    atBound:
      'new user orders get -32005 and /readyz is 503 until it is three quarters of that; orders of peers go on',
    metric: 'orderflow_archive_unshipped_bytes',
  },
  {
    edge: 'orders that the brokers of the archive do not have yet',
    bound: 'age',
    setting: 'ARCHIVE_UNSHIPPED_MAX_SEC',
    atBound: 'the same',
    metric: 'orderflow_archive_unshipped_seconds',
  },
];
