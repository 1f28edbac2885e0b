/**
 * The shards of a node, each on a thread of its own, and the node's side of what they share: their orders go to the one
 * archive here, the hub's list and the certificate go to them, and their metrics are added up.
 *
 * A thread that ends without being asked to is started again. Its connections are lost, and what waited in it for
 * builder and peers; what it had acknowledged is in the archive, and the dedupe window is in shared memory
 * (pipeline/shared/window.ts says what becomes of the orders it was working on).
 */
import { Worker } from 'node:worker_threads';
import type { Logger } from 'pino';
import type { ArchivableOrder } from '../egress/archive/index.ts';
import { backoffMs } from '../egress/backoff.ts';
import type { Identity } from '../identity/identity.ts';
import type { Peer } from '../identity/peer.ts';
import type { PeerRegistry } from '../identity/registry.ts';
import type { ListenAddress } from '../ingress/listeners.ts';
import type { Readiness } from '../ingress/rpc-endpoint.ts';
import { grownIn, type MetricsSnapshot, sumOf } from '../metrics/merge.ts';
import { Listed, OrderedList } from '../pipeline/ordered-list.ts';
import { SharedWindow } from '../pipeline/shared/window.ts';
import { packSettings, type Settings } from '../settings.ts';
import { AnswerWriter } from './answer-ring.ts';
import { within } from './closers.ts';
import {
  archiveRings,
  type FromShard,
  ownerOf,
  type ShardStart,
  type SharedMemory,
  type ToShard,
  TRUNK_OWNER,
} from './messages.ts';
import { type BatchedOrder, type TakeOrder, unpackOrders } from './order-batch.ts';
import { RingReader } from './order-ring.ts';

export interface ShardThreadsOptions {
  readonly settings: Settings;
  readonly shards: number;
  /** Of each API of each shard. */
  readonly maxConnections: number;
  /** With their ports; nobody else listens there. */
  readonly userListen: ListenAddress;
  readonly systemListen: ListenAddress;
}

/** What of the node's archive is needed here. */
export interface SharedArchive {
  /** The order's canonical form is valid during the call. */
  append(order: ArchivableOrder, done: (error: Error | null) => void): void;
  readonly refusal: string;
}

export interface ShardThreadsModules {
  readonly log: Logger;
  readonly identity: Identity;
  readonly peersOfHub: PeerRegistry;
  /** Null in sender mode. */
  readonly archive: SharedArchive | null;
  readonly memory: SharedMemory;
  /** Unix µs. */
  readonly clock: () => number;
  /** Of the node. */
  readonly readiness: () => Readiness;
  readonly restarted: () => void;
}

/** An order between a thread and the archive. */
class OnTheWay extends Listed {
  /** Its dedupe key. */
  readonly key: string;

  constructor(key: string) {
    super();
    this.key = key;
  }
}

interface Member {
  readonly index: number;
  readonly worker: Worker;
  /** Settled when it listens, or could not. */
  readonly started: PromiseWithResolvers<void>;
  readonly ended: Promise<void>;
  listening: boolean;
  running: boolean;
  builderUp: boolean;
  /** Its metrics when they were last looked at. */
  snapshot: MetricsSnapshot | null;
  readonly asked: Map<number, (snapshot: MetricsSnapshot) => void>;
  drained: ((leftBehind: ReadonlyMap<string, number>) => void) | null;
  /** Its orders on their way to the archive. */
  readonly inArchive: OrderedList<OnTheWay>;
  /** Its orders for the archive. */
  readonly ring: RingReader;
  readonly take: TakeOrder;
  readonly answers: AnswerWriter;
  /** Has it answers that are told when this turn is done? */
  answering: boolean;
  /** What the ring of answers has no room for. */
  durable: number[];
  failed: [number: number, message: string][];
}

const RESTART = { baseMs: 100, maxMs: 5_000 };
/** One that lived so long did not fail at its start. */
const PROVEN_MS = 10_000;
/** A thread that is busy answers late; then its last metrics stand in. */
const METRICS_MS = 2_000;
const READINESS_MS = 100;
/** Beyond its grace a thread that does not end is ended. */
const END_MS = 3_000;
/** What a thread took in its last second may not have left it. */
const LAST_US = 1_000_000;
/** As the shared window names a key. */
const KEY_DIGITS = 32;

/** Starts them; they listen when this resolves. @throws Error when one could not start */
export async function startShardThreads(
  options: ShardThreadsOptions,
  modules: ShardThreadsModules,
): Promise<ShardThreads> {
  const threads = new ShardThreads(options, modules);
  try {
    await threads.start();
  } catch (error) {
    await threads.close();
    throw error;
  }
  return threads;
}

export class ShardThreads {
  readonly #options: ShardThreadsOptions;
  readonly #modules: ShardThreadsModules;
  readonly #window: SharedWindow;
  readonly #members: Member[] = [];
  readonly #timer: NodeJS.Timeout;
  readonly #restarts = new Set<NodeJS.Timeout>();
  /** Failures in a row, by index. */
  readonly #failures: number[] = [];
  /** What threads that failed had counted. */
  #grown: Promise<MetricsSnapshot> = Promise.resolve({ metrics: [], summaries: [] });
  #told = '';
  #asks = 0;
  /** Orders of all threads that the archive has not settled. */
  #inArchive = 0;
  #starting = true;
  #ending = false;
  #closed: Promise<void> | null = null;

  /** Use startShardThreads. */
  constructor(options: ShardThreadsOptions, modules: ShardThreadsModules) {
    const { memory, clock, identity, peersOfHub } = modules;
    this.#options = options;
    this.#modules = modules;
    const windowUs = options.settings.dedupeSec * 1e6;
    this.#window = new SharedWindow({ memory: memory.window, owner: TRUNK_OWNER, windowUs, clock });
    this.#timer = setInterval(() => this.tellReadiness(), READINESS_MS).unref();
    identity.onChange(({ certificatePem, privateKeyPem }) =>
      this.#broadcast({ kind: 'credentials', credentials: { certificatePem, privateKeyPem } }),
    );
    peersOfHub.changes.subscribe(() => this.#broadcast({ kind: 'peers', peers: this.#peers() }));
  }

  async start(): Promise<void> {
    for (let index = 0; index < this.#options.shards; index++) this.#begin(index);
    await Promise.all(this.#members.map(({ started }) => started.promise));
    this.#starting = false;
  }

  /** How many take orders. */
  get listening(): number {
    return this.#members.filter((member) => member.listening).length;
  }

  /** Has each that takes orders a connection to the builder? */
  get builderUp(): boolean {
    return this.#members.every((member) => member.builderUp || !member.listening);
  }

  /** The node's readiness may have changed. */
  tellReadiness(): void {
    const readiness = this.#modules.readiness();
    const text = JSON.stringify(readiness);
    if (text === this.#told) return;
    this.#told = text;
    this.#broadcast({ kind: 'readiness', readiness });
  }

  /** The archive takes orders again, or refuses them for one more reason. */
  tellGate(): void {
    const { archive } = this.#modules;
    if (archive !== null) this.#broadcast({ kind: 'gate', refusal: archive.refusal });
    this.tellReadiness();
  }

  /** @returns what they have counted, and what those that failed had. */
  async metrics(): Promise<MetricsSnapshot[]> {
    const snapshots = await Promise.all(this.#members.map((member) => this.#snapshot(member)));
    return [await this.#grown, ...snapshots.filter((snapshot) => snapshot !== null)];
  }

  /** As Shard.drain, all of them. */
  async drain(ms: number): Promise<ReadonlyMap<string, number>> {
    this.#ending = true;
    const leftBehind = new Map<string, number>();
    this.tellReadiness();
    const drains = this.#members.map(async (member) => {
      if (!member.running) return;
      const { promise, resolve } = Promise.withResolvers<ReadonlyMap<string, number>>();
      member.drained = resolve;
      this.#post(member, { kind: 'drain', ms });
      const left = await Promise.race([promise, member.ended]);
      for (const [target, count] of left ?? []) leftBehind.set(target, (leftBehind.get(target) ?? 0) + count);
    });
    await within(ms + END_MS, Promise.all(drains));
    return leftBehind;
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#ending = true;
    clearInterval(this.#timer);
    for (const timer of this.#restarts) clearTimeout(timer);
    await Promise.all(
      this.#members.map(async (member) => {
        this.#post(member, { kind: 'close' });
        const timer = setTimeout(() => void member.worker.terminate(), END_MS);
        await member.ended;
        clearTimeout(timer);
      }),
    );
  }

  #begin(index: number): void {
    const { identity, archive, memory, log } = this.#modules;
    const { settings, ...rest } = this.#options;
    const { certificatePem, privateKeyPem } = identity.current;
    const start: ShardStart = {
      ...rest,
      settings: packSettings(settings),
      index,
      logLevel: log.level,
      orderflowKey: identity.orderflowKey,
      credentials: { certificatePem, privateKeyPem },
      peers: this.#peers(),
      readiness: this.#modules.readiness(),
      refusal: archive?.refusal ?? null,
      memory,
      rings: archiveRings(),
    };
    const worker = new Worker(new URL('./thread-main.ts', import.meta.url), {
      name: `shard-${index + 1}`,
      workerData: start,
    });
    const { promise: ended, resolve: end } = Promise.withResolvers<void>();
    const member: Member = {
      index,
      worker,
      started: Promise.withResolvers(),
      ended,
      listening: false,
      running: true,
      builderUp: false,
      snapshot: null,
      asked: new Map(),
      drained: null,
      inArchive: new OrderedList(),
      ring: new RingReader(start.rings.orders),
      answers: new AnswerWriter(start.rings.answers),
      answering: false,
      take: (order, number) => this.#append(member, order, number),
      durable: [],
      failed: [],
    };
    this.#members[index] = member;
    // It is waited for where the node starts; one that is started again is tried until it runs.
    member.started.promise.catch(() => undefined);
    const begunMs = performance.now();
    worker.on('message', (message: FromShard) => this.#handle(member, message));
    // An 'error' is followed by 'exit'.
    worker.on('error', (error: unknown) => {
      const reason = error instanceof Error ? (error.stack ?? error.message) : String(error);
      log.error({ event: 'shard failed', shard: index + 1, reason }, 'a shard has failed');
    });
    worker.once('exit', () => {
      member.running = false;
      member.listening = false;
      member.started.reject(new Error(`shard ${index + 1} ended while it started`));
      this.#ended(member, performance.now() - begunMs);
      end();
    });
  }

  #ended(member: Member, livedMs: number): void {
    const { index, snapshot } = member;
    const { log, clock, restarted } = this.#modules;
    // What it had told before its end is taken as if it lived.
    member.ring.readAll(member.take);
    const inArchive = new Set([...member.inArchive].map(({ key }) => key.slice(0, KEY_DIGITS)));
    this.#window.abandoned(ownerOf(index), clock() - LAST_US, (key) => inArchive.has(key));
    if (this.#ending || this.#starting) return;
    restarted();
    if (snapshot !== null) {
      const grown = this.#grown;
      this.#grown = grown.then((before) => sumOf([before, grownIn(snapshot)]));
      // Its numbers are in the sum now.
      member.snapshot = null;
    }
    const failures = livedMs < PROVEN_MS ? (this.#failures[index] ?? 0) + 1 : 1;
    this.#failures[index] = failures;
    const waitMs = backoffMs(failures, RESTART);
    log.error({ event: 'shard ended', shard: index + 1, waitMs }, 'a shard has ended; starting it again');
    const timer = setTimeout(() => {
      this.#restarts.delete(timer);
      if (!this.#ending) this.#begin(index);
    }, waitMs);
    this.#restarts.add(timer);
  }

  #handle(member: Member, message: FromShard): void {
    switch (message.kind) {
      case 'orders':
        this.gather();
        return;
      case 'append':
        // What is in the ring came before.
        member.ring.readAll(member.take);
        unpackOrders(message.batch, member.take);
        return;
      case 'builder':
        member.builderUp = message.up;
        this.tellReadiness();
        return;
      case 'listening':
        member.listening = true;
        member.started.resolve();
        this.#catchUp(member);
        return;
      case 'failed':
        this.#modules.log.error(
          { event: 'shard failed', shard: member.index + 1, reason: message.message },
          'a shard could not start',
        );
        member.started.reject(new Error(message.message));
        return;
      case 'log':
        this.#log(member, message.line);
        return;
      case 'refresh':
        void this.#modules.peersOfHub.refresh().then(() => this.#post(member, { kind: 'refreshed' }));
        return;
      case 'metrics':
        member.snapshot = message.snapshot;
        member.asked.get(message.id)?.(message.snapshot);
        member.asked.delete(message.id);
        return;
      case 'drained':
        member.drained?.(message.leftBehind);
    }
  }

  /** What has changed while it started. */
  #catchUp(member: Member): void {
    const { identity, archive, readiness } = this.#modules;
    const { certificatePem, privateKeyPem } = identity.current;
    this.#post(member, { kind: 'credentials', credentials: { certificatePem, privateKeyPem } });
    this.#post(member, { kind: 'peers', peers: this.#peers() });
    this.#post(member, { kind: 'readiness', readiness: readiness() });
    if (archive !== null) this.#post(member, { kind: 'gate', refusal: archive.refusal });
  }

  /**
   * Takes what is in the rings: when a thread says so and, because none does while orders are with the archive, when the
   * archive begins a commit, and when it has settled one.
   */
  gather(): void {
    for (const { ring, take } of this.#members) ring.readAll(take);
    if (this.#inArchive > 0) return;
    // Nothing is under way: whoever has an order next has to say so.
    for (const { ring, take } of this.#members) {
      while (!ring.sleep()) ring.readAll(take);
    }
  }

  #append(member: Member, { order, receivedAtUs }: BatchedOrder, number: number): void {
    const { archive } = this.#modules;
    if (archive === null) throw new Error('a sender archives nothing');
    const owner = ownerOf(member.index);
    const { key } = order;
    const way = key === null ? null : new OnTheWay(key);
    if (way !== null) member.inArchive.add(way);
    this.#inArchive += 1;
    archive.append({ order, receivedAtUs }, (error) => {
      this.#inArchive -= 1;
      if (way !== null) {
        this.#window.settled(way.key, owner, error === null);
        member.inArchive.delete(way);
      }
      this.#settled(member, number, error);
    });
  }

  /** The answers of one commit go together. */
  #settled(member: Member, number: number, error: Error | null): void {
    if (!member.answering) {
      member.answering = true;
      queueMicrotask(() => this.#answer(member));
    }
    if (error !== null) member.failed.push([number, error.message]);
    else if (!member.answers.write(number)) member.durable.push(number);
  }

  #answer(member: Member): void {
    member.answering = false;
    this.gather();
    if (member.answers.tell()) this.#post(member, { kind: 'answers' });
    const { durable, failed } = member;
    if (durable.length === 0 && failed.length === 0) return;
    member.durable = [];
    member.failed = [];
    this.#post(member, { kind: 'archived', durable, failed });
  }

  #log({ index }: Member, line: string): void {
    const { log } = this.#modules;
    const { level, time: _, msg, ...fields } = JSON.parse(line) as Record<string, unknown>;
    const name = log.levels.labels[Number(level)] as 'debug' | 'info' | 'warn' | 'error';
    log[name]({ ...fields, shard: index + 1 }, String(msg));
  }

  async #snapshot(member: Member): Promise<MetricsSnapshot | null> {
    if (!member.listening) return member.snapshot;
    const { promise, resolve } = Promise.withResolvers<MetricsSnapshot>();
    const id = this.#asks++;
    member.asked.set(id, resolve);
    this.#post(member, { kind: 'metrics', id });
    await within(METRICS_MS, Promise.race([promise, member.ended]));
    member.asked.delete(id);
    return member.snapshot;
  }

  #peers(): readonly Peer[] {
    return this.#modules.peersOfHub.peers;
  }

  #broadcast(message: ToShard): void {
    for (const member of this.#members) if (member.listening) this.#post(member, message);
  }

  #post(member: Member, message: ToShard): void {
    if (member.running) member.worker.postMessage(message);
  }
}
