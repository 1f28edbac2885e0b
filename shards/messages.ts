/** What a shard's thread and the node's own thread say to each other. */
import type { Credentials } from '../identity/certificate.ts';
import type { Peer } from '../identity/peer.ts';
import type { ListenAddress } from '../ingress/listeners.ts';
import type { Readiness } from '../ingress/rpc-endpoint.ts';
import type { MetricsSnapshot } from '../metrics/merge.ts';
import { clockMemory } from '../pipeline/shared/clock.ts';
import { noncesMemory } from '../pipeline/shared/nonces.ts';
import { limiterMemory } from '../pipeline/shared/rate-limit.ts';
import type { TableMemory } from '../pipeline/shared/table.ts';
import { windowMemory } from '../pipeline/shared/window.ts';
import type { PackedSettings, Settings } from '../settings.ts';
import { answerMemory } from './answer-ring.ts';
import { ringMemory } from './order-ring.ts';

/** What all threads of the node see. */
export interface SharedMemory {
  readonly clock: SharedArrayBuffer;
  readonly window: TableMemory;
  readonly nonces: TableMemory;
  readonly limiter: SharedArrayBuffer;
}

export function sharedMemory(settings: Settings): SharedMemory {
  return {
    clock: clockMemory(),
    window: windowMemory(settings.dedupeKeys),
    nonces: noncesMemory(),
    limiter: limiterMemory(),
  };
}

/** A shard's number in shared tables: the node's own thread has the first. */
export const TRUNK_OWNER = 1;

export function ownerOf(index: number): number {
  return TRUNK_OWNER + 1 + index;
}

export type CredentialsMessage = Pick<Credentials, 'certificatePem' | 'privateKeyPem'>;

/** With what a thread starts. */
export interface ShardStart {
  readonly settings: PackedSettings;
  readonly index: number;
  readonly shards: number;
  readonly maxConnections: number;
  readonly userListen: ListenAddress;
  readonly systemListen: ListenAddress;
  readonly logLevel: string;
  readonly orderflowKey: Uint8Array;
  readonly credentials: CredentialsMessage;
  readonly peers: readonly Peer[];
  readonly readiness: Readiness;
  /** Why the archive takes no orders, empty while it does; null in sender mode. */
  readonly refusal: string | null;
  readonly memory: SharedMemory;
  readonly rings: ArchiveRings;
}

/** Memory of one shard between it and the archive. */
export interface ArchiveRings {
  /** order-ring.ts */
  readonly orders: SharedArrayBuffer;
  /** answer-ring.ts */
  readonly answers: SharedArrayBuffer;
}

export function archiveRings(): ArchiveRings {
  return { orders: ringMemory(), answers: answerMemory() };
}

export type FromShard =
  | { readonly kind: 'listening' }
  /** It could not start. */
  | { readonly kind: 'failed'; readonly message: string }
  | { readonly kind: 'log'; readonly line: string }
  | { readonly kind: 'builder'; readonly up: boolean }
  | { readonly kind: 'refresh' }
  /** Orders for the archive are in the ring, whose reader slept. */
  | { readonly kind: 'orders' }
  /** Orders for the archive that the ring had no room for, behind those in it (order-batch.ts). */
  | { readonly kind: 'append'; readonly batch: ArrayBuffer }
  | { readonly kind: 'metrics'; readonly id: number; readonly snapshot: MetricsSnapshot }
  | { readonly kind: 'drained'; readonly leftBehind: ReadonlyMap<string, number> };

export type ToShard =
  | { readonly kind: 'credentials'; readonly credentials: CredentialsMessage }
  | { readonly kind: 'peers'; readonly peers: readonly Peer[] }
  | { readonly kind: 'refreshed' }
  | { readonly kind: 'readiness'; readonly readiness: Readiness }
  | { readonly kind: 'gate'; readonly refusal: string }
  /** Numbers of durable orders are in the ring, whose reader slept. */
  | { readonly kind: 'answers' }
  /** These are durable, and the ring had no room to say so; of the others it says why not. */
  | {
      readonly kind: 'archived';
      readonly durable: readonly number[];
      readonly failed: readonly (readonly [number: number, message: string])[];
    }
  | { readonly kind: 'metrics'; readonly id: number }
  | { readonly kind: 'drain'; readonly ms: number }
  | { readonly kind: 'close' };
