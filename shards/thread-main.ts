/** A shard on a thread of its own. Started and spoken to by threads.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import { pino } from 'pino';
import { collectDefaultMetrics, Registry } from 'prom-client';
import { SPOOL_DEFAULTS } from '../egress/archive/index.ts';
import { createSigner } from '../identity/signature.ts';
import { snapshotOf } from '../metrics/merge.ts';
import { createSharedClock } from '../pipeline/shared/clock.ts';
import { SharedNonces } from '../pipeline/shared/nonces.ts';
import { SharedLimiter } from '../pipeline/shared/rate-limit.ts';
import { SharedWindow } from '../pipeline/shared/window.ts';
import { unpackSettings } from '../settings.ts';
import { ArchiveLink, CredentialsLink, PeersLink } from './links.ts';
import { type FromShard, ownerOf, type ShardStart, type ToShard } from './messages.ts';
import { type Shard, startShard } from './shard.ts';

if (parentPort === null) throw new Error('this file is started as a thread');
const port = parentPort;
const start = workerData as ShardStart;
const { memory, shards } = start;
const settings = unpackSettings(start.settings);
const post = (message: FromShard, transfer: ArrayBuffer[] = []) => port.postMessage(message, transfer);

const owner = ownerOf(start.index);
const clock = createSharedClock(memory.clock);
const registry = new Registry();
collectDefaultMetrics({ register: registry });
const log = pino({ level: start.logLevel, base: {} }, { write: (line) => post({ kind: 'log', line }) });
const peers = new PeersLink(post, start.peers);
const credentials = new CredentialsLink(start.credentials);
const archive =
  start.refusal === null
    ? null
    : new ArchiveLink(post, start.rings, start.refusal, SPOOL_DEFAULTS.maxPendingBytes / shards);
const window = new SharedWindow({
  memory: memory.window,
  owner,
  windowUs: settings.dedupeSec * 1e6,
  clock: clock.read,
});
let { readiness } = start;
let shard: Shard | null = null;

async function handle(message: ToShard): Promise<void> {
  switch (message.kind) {
    case 'answers':
      archive?.wake();
      return;
    case 'archived':
      archive?.archived(message);
      return;
    case 'gate':
      archive?.gate(message.refusal);
      return;
    case 'peers':
      peers.update(message.peers);
      return;
    case 'refreshed':
      peers.refreshed();
      return;
    case 'credentials':
      credentials.current = message.credentials;
      return;
    case 'readiness':
      readiness = message.readiness;
      return;
    case 'metrics':
      post({ kind: 'metrics', id: message.id, snapshot: await snapshotOf(registry, true) });
      return;
    case 'drain':
      post({ kind: 'drained', leftBehind: (await shard?.drain(message.ms)) ?? new Map() });
      return;
    case 'close':
      await shard?.close();
      window.close();
      port.close();
  }
}

// A failure is the thread's end, and told there.
port.on('message', (message: ToShard) => void handle(message));

try {
  shard = await startShard(
    {
      settings,
      shards,
      maxConnections: start.maxConnections,
      userListen: start.userListen,
      systemListen: start.systemListen,
    },
    {
      log,
      registry,
      clock: clock.give,
      now: clock.read,
      signer: createSigner(start.orderflowKey),
      credentials,
      peersOfHub: peers,
      archive,
      window,
      nonces: new SharedNonces(memory.nonces, owner),
      limiter: new SharedLimiter(memory.limiter, settings.maxUserRps),
      readiness: () => readiness,
      otherServers: () => [],
      onBuilder: (up) => post({ kind: 'builder', up }),
    },
  );
  post({ kind: 'builder', up: shard.builderUp });
  post({ kind: 'listening' });
} catch (error) {
  post({ kind: 'failed', message: error instanceof Error ? error.message : String(error) });
  port.close();
}
