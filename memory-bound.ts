/**
 * How much memory a node's settings allow it: the sum of what every bound lets be held at the same moment, which is what an
 * attacker can make of it. A node with `MEMORY_CEILING_BYTES` does not start with settings that allow more.
 *
 * What a thing costs was measured (Node 26, x64) and rounded up; node.memory.integration.test.ts fills a whole node.
 */
import { QUEUE_RESERVE_BYTES } from './egress/peers.ts';
import { connectionsWithin } from './ingress/open-files.ts';
import type { Settings } from './settings.ts';

/** A part of the sum. */
export interface MemoryShare {
  readonly what: string;
  /** Settings that bound it, by environment name; empty where it is fixed. */
  readonly settings: readonly string[];
  readonly bytes: number;
}

const KIB = 1024;
const MIB = 1024 * KIB;

/** Node and the program with nothing to do, and its young generation in use (devnet/node-process.ts). */
const AT_REST_BYTES = 192 * MIB;
/** Each shard has a heap and compiled code of its own when there are several, and memory between it and the archive. */
const SHARD_BYTES = 127 * MIB;
/** An open connection, most of it TLS's and HTTP/2's. */
const CONNECTION_BYTES = 60 * KIB;
/** Heads of the requests whose bodies are being read: 8,192 of 8 KiB. */
const HEADS_BYTES = 64 * MIB;
/** Answers that the clients of one API do not read. */
const UNREAD_BYTES = 64 * MIB;
/** Appended and not durable yet, and the batch that is under way to the brokers. */
const ARCHIVE_BYTES = 128 * MIB;
/** The text, fields and canonical form of an order that is being decoded, in its bodies. */
const DECODING = 4;
/** A key of the dedupe window, with its part of what a chunk of them takes (digest-ring.ts). */
const KEY_BYTES = 64;
const SHARED_KEY_BYTES = 84;
/** A connection to a peer that takes nothing: what is written to it and not sent. */
const PEER_CONNECTION_BYTES = 512 * KIB;
/** Orders of the greatest length under way to a peer that takes nothing, encrypted for it: a request and one on its stream. */
const LARGEST_UNDER_WAY = 2;
/** So many peers are counted on; what waits for peers is bounded for all of them together. */
const PEERS = 16;
/** What V8 has not collected yet, of all this. */
const GARBAGE = 1 / 3;

/**
 * @param shards of the node, see shards/count.ts
 * @param openFiles the process's limit, see open-files.ts
 * @returns the parts, largest first
 */
export function memoryShares(settings: Settings, shards: number, openFiles: number): MemoryShare[] {
  const { maxRequestBodySizeBytes: largest } = settings;
  const sender = settings.mode === 'sender';
  const apis = sender ? 1 : 2;
  /** Every shard has room for the largest order at least. */
  const amongShards = (bytes: number) => Math.max(bytes, shards * Math.min(bytes, largest));
  const pending = amongShards(settings.maxPendingBytes);
  const connections = apis * connectionsWithin(openFiles, settings.maxConnections);
  const peerConnections = PEERS * Math.max(settings.connPerPeer, shards);
  const parts: [what: string, settings: string[], bytes: number][] = [
    ['the program', ['SHARDS'], AT_REST_BYTES + (shards > 1 ? shards * SHARD_BYTES : 0)],
    ['connections', ['MAX_CONNECTIONS'], connections * CONNECTION_BYTES],
    // Being read and waiting for their turn; on the system API unknown peers', and frames of streams.
    ['requests', ['MAX_PENDING_BYTES'], (sender ? 2 : 4) * pending + HEADS_BYTES],
    ['orders being decoded', ['MAX_REQUEST_BODY_SIZE_BYTES', 'SHARDS'], DECODING * shards * largest],
    ['answers that nobody reads', [], apis * UNREAD_BYTES],
    ['the dedupe window', ['DEDUPE_KEYS'], settings.dedupeKeys * (shards > 1 ? SHARED_KEY_BYTES : KEY_BYTES)],
    [
      'orders for the builder',
      ['BUILDER_QUEUE_BYTES'],
      sender ? 0 : amongShards(settings.builderQueueBytes) + shards * largest,
    ],
    [
      'orders for the peers',
      ['PEERS_QUEUE_BYTES', 'CONN_PER_PEER', 'MAX_REQUEST_BODY_SIZE_BYTES'],
      amongShards(settings.peersQueueBytes) +
        peerConnections * PEER_CONNECTION_BYTES +
        PEERS * (QUEUE_RESERVE_BYTES * shards + LARGEST_UNDER_WAY * largest),
    ],
    ['the archive', [], sender ? 0 : ARCHIVE_BYTES],
  ];
  const held = parts.reduce((sum, [, , bytes]) => sum + bytes, 0);
  parts.push(['garbage', [], held * GARBAGE]);
  return parts.map(([what, by, bytes]) => ({ what, settings: by, bytes })).sort((a, b) => b.bytes - a.bytes);
}

/** @returns why a node with these settings may come to need more than its ceiling; null when it may not. */
export function memoryProblem(settings: Settings, shards: number, openFiles: number): string | null {
  const ceiling = settings.memoryCeilingBytes;
  const shares = memoryShares(settings, shards, openFiles);
  const most = shares.reduce((sum, { bytes }) => sum + bytes, 0);
  if (ceiling === 0 || most <= ceiling) return null;
  const listed = shares.map(({ what, settings: by, bytes }) => {
    const names = by.length === 0 ? '' : ` (${by.join(', ')})`;
    return `${what}${names} ${inMiB(bytes)}`;
  });
  return `MEMORY_CEILING_BYTES: is ${inMiB(ceiling)}, and the settings allow ${inMiB(most)}: ${listed.join(', ')}`;
}

function inMiB(bytes: number): string {
  return `${Math.ceil(bytes / MIB)} MiB`;
}
