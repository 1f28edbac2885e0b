/**
 * A node under load: a hub, a builder sink and a number of v1-like peers around it, the load generator in front of
 * it, and what was measured of a run put together.
 *
 * CPU is counted until the sinks have every order, so that work a node does after its answers is not left out.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ChildGuard, startGuard } from '../devnet/guard.ts';
import type { OrderSettings } from '../devnet/orders.ts';
import { type Credentials, createCredentials } from '../identity/certificate.ts';
import { type DevelopmentHub, startHub } from '../identity/hub/hub.ts';
import { createSigner } from '../identity/signature.ts';
import { type Child, startChild } from './child.ts';
import type { HeldFigures } from './hook-client.ts';
import { type LatencyFigures, latencyFigures } from './latency.ts';
import type { LoadCalls } from './load.ts';
import { type Burst, joined, type OpenLoop, type RunResult } from './load-generator.ts';
import { type ProcessFigures, processFigures, residentBytes, threadTimesBetween } from './process-figures.ts';
import { figuresOf, type RunFigures, type Used } from './run-figures.ts';
import { type Arrivals, SinkProcesses } from './sink-processes.ts';
import { stagesOf } from './stages.ts';
import {
  attachForeignNode,
  type ForeignNodeOptions,
  type Subject,
  type Surroundings,
  startOwnNode,
  type Transport,
} from './subject.ts';

/** What a peer speaks: v1's requests alone, or the order stream too. */
export type PeerKind = 'v1' | 'stream';

/** Processes that serve all rigs of a bench, one at a time. */
export interface Lab {
  readonly load: Child<LoadCalls>;
  /** A second generator, for clients that must not feel what the first one is busy with. */
  readonly steady: Child<LoadCalls>;
  readonly sinks: SinkProcesses;
  readonly guard: ChildGuard;
  /** Makes a set of orders in a generator, once per name. @returns mean bytes of a body. */
  prepare(set: string, settings: OrderSettings, count: number, where?: 'load' | 'steady'): Promise<number>;
  close(): Promise<void>;
}

export interface RigOptions {
  readonly peers: number;
  /** What the peers speak; v1 unless set. */
  readonly peerKind?: PeerKind;
  readonly transport: Transport;
  readonly connections: number;
  /** Orders under way per connection. */
  readonly inFlight: number;
  /** Orders that one run can have at most. */
  readonly orders: number;
  readonly env: Readonly<Record<string, string>>;
  readonly entry?: string;
  /** Instead of a node of ours. */
  readonly foreign?: ForeignNodeOptions;
}

/** Orders of a prepared set. */
export interface Part {
  readonly set: string;
  readonly from: number;
  readonly count: number;
}

/** Connection c sends orders `from + c * each` and on of the set. */
export interface Crowd extends Burst {
  readonly set: string;
  readonly from: number;
}

export interface BurstOptions extends Crowd {
  /** What the second generator sends meanwhile: the orders behind the burst's. */
  readonly steady: { readonly count: number; readonly rate: number; readonly connections: number };
}

export interface BurstFigures {
  /** Burst and steady orders together. */
  readonly all: RunFigures;
  readonly burstToBuilder: LatencyFigures;
  readonly burstToAnswer: LatencyFigures;
  /** Of the steady orders that were due while the burst lasted. */
  readonly steadyToBuilder: LatencyFigures;
  readonly steadyToAnswer: LatencyFigures;
}

export interface Rig {
  readonly subject: Subject;
  /** Open loop, or closed where it is null. */
  run(part: Part, loop: OpenLoop | null): Promise<RunFigures>;
  /** New connections at once, to warm up what takes them. */
  crowd(crowd: Crowd): Promise<void>;
  /** New connections at once, beside those that are open. */
  burst(options: BurstOptions): Promise<BurstFigures>;
  /** Closed loop under a CPU profiler. @returns microseconds per order by stage, other threads by their names. */
  profile(part: Part): Promise<Map<string, number>>;
  /** Null for a node that is not ours. */
  held(): Promise<HeldFigures | null>;
  /** Null where the node's process is not known. */
  process(): Promise<ProcessFigures | null>;
  close(): Promise<void>;
}

const NODE_NAME = 'node';
const SAMPLE_MS = 250;
const PROBE_ATTEMPTS = 60;

/** Starts the load generator's and the sinks' processes. */
export function openLab(): Lab {
  const guard = startGuard();
  const load = startChild<LoadCalls>(new URL('./load.ts', import.meta.url));
  const steady = startChild<LoadCalls>(new URL('./load.ts', import.meta.url));
  const sinks = new SinkProcesses();
  const made = new Map<string, { readonly count: number; readonly meanBytes: number }>();
  return {
    load,
    steady,
    sinks,
    guard,
    async prepare(set, settings, count, where = 'load') {
      const key = `${where} ${set}`;
      const known = made.get(key);
      if (known !== undefined && known.count >= count) return known.meanBytes;
      const { meanBytes } = await (where === 'load' ? load : steady).call('prepare', set, settings, count);
      made.set(key, { count, meanBytes });
      return meanBytes;
    },
    async close() {
      await Promise.all([load.close(), steady.close(), sinks.close()]);
      await guard.close();
    },
  };
}

/** Starts everything of one rig; the node is connected to its peers and to the load generator. */
export async function startRig(lab: Lab, options: RigOptions): Promise<Rig> {
  const { load, sinks } = lab;
  const directory = await mkdtemp(join(tmpdir(), 'orderflow-bench-'));
  const hub = await startHub({ listen: '127.0.0.1:0' });
  let subject: Subject | null = null;
  async function close(): Promise<void> {
    await load.call('disconnect');
    await subject?.stop();
    await sinks.stop();
    await hub.close();
    await rm(directory, { recursive: true, force: true });
  }
  try {
    const builderPort = await startSinks(lab, hub, options);
    const around: Surroundings = {
      builderUrl: `http://127.0.0.1:${builderPort}`,
      hubUrl: `${hub.url}/as/${NODE_NAME}`,
      peers: options.peers,
      streams: options.peerKind === 'stream',
    };
    subject =
      options.foreign === undefined
        ? await startOwnNode(around, { ...options, directory, guard: lab.guard })
        : await attachForeignNode(around, options.foreign, lab.guard);
    await load.call('connect', subject.target, {
      connections: options.connections,
      inFlight: options.inFlight,
    });
    return new StartedRig(lab, subject, options, close);
  } catch (error) {
    await close();
    throw error;
  }
}

interface Measured {
  readonly result: RunResult;
  readonly received: Arrivals;
  readonly figures: RunFigures;
}

class StartedRig implements Rig {
  readonly subject: Subject;
  readonly #lab: Lab;
  readonly #options: RigOptions;
  readonly #close: () => Promise<void>;
  #proven = false;

  constructor(lab: Lab, subject: Subject, options: RigOptions, close: () => Promise<void>) {
    this.#lab = lab;
    this.subject = subject;
    this.#options = options;
    this.#close = close;
  }

  async run(part: Part, loop: OpenLoop | null): Promise<RunFigures> {
    const { set, from, count } = part;
    if (this.#options.foreign !== undefined && !this.#proven) return this.#firstRun(part, loop);
    const { figures } = await this.#measure(part, () => this.#lab.load.call('run', set, from, count, loop));
    return figures;
  }

  async crowd({ set, from, connections, each }: Crowd): Promise<void> {
    const part = { set, from, count: connections * each };
    await this.#measure(part, () => this.#lab.load.call('burst', set, from, { connections, each }));
  }

  async burst({ set, from, connections, each, steady }: BurstOptions): Promise<BurstFigures> {
    const burstOrders = connections * each;
    const part = { set, from, count: burstOrders + steady.count };
    const { load, steady: beside } = this.#lab;
    await beside.call('connect', this.subject.target, { connections: steady.connections, inFlight: 1 });
    const { figures, result, received } = await this.#measure(part, async () => {
      const there = beside.call('run', set, from + burstOrders, steady.count, { rate: steady.rate });
      // The burst comes when half of the steady orders are through: by then who sends them is no newcomer any more.
      await new Promise((resolve) => setTimeout(resolve, (steady.count / steady.rate / 2) * 1000));
      return joined(await load.call('burst', set, from, { connections, each }), await there);
    });
    await beside.call('disconnect');
    const [builder = new Float64Array(part.count)] = received.receivedUs;
    const beganUs = result.dueUs[0] ?? 0;
    const endedUs = result.answeredUs
      .subarray(0, burstOrders)
      .reduce((last, us) => (us > last ? us : last), 0);
    const counts = (index: number, ofBurst: boolean) => {
      const dueUs = result.dueUs[index] ?? 0;
      return ofBurst ? index < burstOrders : index >= burstOrders && dueUs >= beganUs && dueUs <= endedUs;
    };
    const cut = (times: Float64Array, ofBurst: boolean) => times.filter((_, index) => counts(index, ofBurst));
    const latency = (to: Float64Array, ofBurst: boolean) =>
      latencyFigures(cut(result.dueUs, ofBurst), cut(to, ofBurst));
    return {
      all: figures,
      burstToBuilder: latency(builder, true),
      burstToAnswer: latency(result.answeredUs, true),
      steadyToBuilder: latency(builder, false),
      steadyToAnswer: latency(result.answeredUs, false),
    };
  }

  async profile({ set, from, count }: Part): Promise<Map<string, number>> {
    const { hook, root } = this.subject;
    const perOrder = new Map<string, number>();
    if (hook === null) return perOrder;
    const { load, sinks } = this.#lab;
    await sinks.reset();
    const before = await this.process();
    await hook.ask('profile');
    const { answeredUs } = await load.call('run', set, from, count, null);
    const answered = countOf(answeredUs);
    await sinks.settled(answered);
    const profiles = await hook.ask('profiled');
    const after = await this.process();
    const add = (stage: string, us: number) =>
      perOrder.set(stage, (perOrder.get(stage) ?? 0) + us / Math.max(1, answered));
    for (const profile of profiles) for (const [stage, us] of stagesOf(profile, root)) add(stage, us);
    if (before !== null && after !== null) {
      for (const [thread, us] of Object.entries(threadTimesBetween(before, after))) {
        if (thread.startsWith('libuv-worker')) add('disk (thread pool)', us);
        else if (/V8|Worker|Delayed/i.test(thread)) add('V8 helpers', us);
      }
    }
    return perOrder;
  }

  async held(): Promise<HeldFigures | null> {
    const answers = await this.subject.hook?.ask('held');
    if (answers === undefined) return null;
    const resources: Record<string, number> = {};
    for (const answer of answers) {
      for (const [kind, count] of Object.entries(answer.resources))
        resources[kind] = (resources[kind] ?? 0) + count;
    }
    return { resources, liveBytes: answers.reduce((sum, { liveBytes }) => sum + liveBytes, 0) };
  }

  async process(): Promise<ProcessFigures | null> {
    return this.subject.pid === null ? null : processFigures(this.subject.pid);
  }

  close(): Promise<void> {
    return this.#close();
  }

  /** A node that is not ours does not say when it is connected to its peers: single orders find out. */
  async #firstRun(part: Part, loop: OpenLoop | null): Promise<RunFigures> {
    const { load, sinks } = this.#lab;
    let { from } = part;
    for (let attempt = 0; attempt < Math.min(PROBE_ATTEMPTS, part.count - 1); attempt++, from++) {
      await sinks.reset();
      await load.call('run', part.set, from, 1, null);
      await sinks.settled(1);
      const { receivedUs } = await sinks.received(from, 1);
      if (receivedUs.every((times) => !Number.isNaN(times[0]))) {
        this.#proven = true;
        return this.run({ ...part, from: from + 1, count: part.count - (from + 1 - part.from) }, loop);
      }
    }
    throw new Error('the node never brought an order to the builder and to every peer');
  }

  async #measure(part: Part, run: () => Promise<RunResult>): Promise<Measured> {
    const { sinks } = this.#lab;
    const { hook, pid } = this.subject;
    await sinks.reset();
    await hook?.ask('loop');
    const before = await this.#used();
    const memory: [number, number][] = [];
    const startedMs = performance.now();
    const sampler = setInterval(() => {
      // Null when it has ended, which the run itself will tell.
      const bytes = pid === null ? null : residentBytes(pid);
      if (bytes !== null) memory.push([(performance.now() - startedMs) / 1000, bytes]);
    }, SAMPLE_MS);
    try {
      const result = await run();
      await sinks.settled(countOf(result.answeredUs));
      const after = await this.#used();
      const loops = (await hook?.ask('loop')) ?? [];
      const received = await sinks.received(part.from, part.count);
      return { result, received, figures: figuresOf({ result, received, before, after, loops, memory }) };
    } finally {
      clearInterval(sampler);
    }
  }

  async #used(): Promise<Used> {
    const [node, load, cpuUs] = await Promise.all([
      this.process(),
      processFigures(this.#lab.load.pid),
      this.#lab.sinks.cpuUs(),
    ]);
    return { node, load, sinks: { cpuUs } };
  }
}

/** @returns the builder's port; the peers are registered at the hub. */
async function startSinks(lab: Lab, hub: DevelopmentHub, options: RigOptions): Promise<number> {
  const credentials = await Promise.all(
    Array.from({ length: options.peers }, () =>
      createCredentials({ names: ['127.0.0.1'], validityDays: 1, now: Date.now() }),
    ),
  );
  const { orders } = options;
  const ofRecords = options.peerKind === 'stream' && options.peers > 0;
  const [builderPort = 0, ...peerPorts] = await lab.sinks.start(
    { orders, ofRecords },
    credentials.map(({ privateKeyPem, certificatePem }, index) => ({
      orders,
      ofRecords,
      tls: { key: privateKeyPem, cert: certificatePem },
      ...(ofRecords && { streamKey: peerKey(index) }),
    })),
  );
  hub.addBuilder({ name: NODE_NAME, dns_name: '127.0.0.1' });
  await Promise.all(peerPorts.map((port, index) => registerPeer(hub, index, port, credentials[index])));
  return builderPort;
}

/** Orderflow key of a peer. */
function peerKey(index: number): Uint8Array {
  return Buffer.alloc(32, index + 1);
}

/** Registers a peer at the hub as a v1 node does: an address and a certificate. */
async function registerPeer(
  hub: DevelopmentHub,
  index: number,
  port: number,
  credentials: Credentials | undefined,
): Promise<void> {
  const name = `peer-${index + 1}`;
  hub.addBuilder({ name, dns_name: `127.0.0.1:${port}` });
  const { address } = createSigner(peerKey(index));
  const response = await fetch(
    `${hub.url}/as/${name}/api/l1-builder/v1/register_credentials/orderflow_proxy`,
    {
      method: 'POST',
      body: JSON.stringify({ ecdsa_pubkey_address: address, tls_cert: credentials?.certificatePem }),
    },
  );
  if (!response.ok)
    throw new Error(`the hub does not take ${name}: ${response.status} ${await response.text()}`);
}

function countOf(times: Float64Array): number {
  let count = 0;
  for (const time of times) if (!Number.isNaN(time)) count++;
  return count;
}
