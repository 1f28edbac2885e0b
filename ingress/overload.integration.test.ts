/**
 * Floods over real sockets against the real ingress, in front of a pipeline that takes a millisecond of a played clock
 * for each order: the flood is many times what it can work off on any machine, since its clients send on with each answer.
 */
import { once } from 'node:events';
import { connect as connectH2 } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { Worker } from 'node:worker_threads';
import { expect, onTestFinished, test, vi } from 'vitest';
import { createCredentials } from '../identity/certificate.ts';
import { encodeResult } from '../pipeline/json-rpc.ts';
import type { Arrival } from '../pipeline/submission.ts';
import { BodyReader } from './body-reader.ts';
import { FairQueue } from './fair-queue.ts';
import { listenHttp, type TlsIdentity } from './http-server.ts';
import { plainEndpoint, type RpcEndpointModules, rpcListener } from './rpc-endpoint.ts';

/** Of the played clock, for an order. */
const ORDER_MS = 1;
const PADDING = ' '.repeat(2000);
const NEVER = new Int32Array(new SharedArrayBuffer(4));

interface Answer {
  readonly id: number;
  readonly status: number;
  readonly head: string;
  readonly body: string;
}

interface Setup {
  readonly maxWaitMs?: number;
  readonly tls?: TlsIdentity | null;
  /** Plain connections are read by Node's HTTP server. */
  readonly nodesOwn?: boolean;
}

/** The ingress of a user API, and a pipeline that works off what it is handed and answers each with its body's id. */
async function startSlowNode({ maxWaitMs = 10, tls = null, nodesOwn = false }: Setup = {}) {
  const clock = { ms: 1 };
  const handed: Arrival[] = [];
  const taken: number[] = [];
  const rejected: string[] = [];
  const sleepers = new Set<() => void>();
  /** Works nothing off while it is true. */
  const stuck = { yes: false };
  /** How long the thread is busy with something else after answers, ms of the real clock. */
  const distraction = { ms: 0 };
  const workOff = () => {
    for (const arrival of handed.splice(0)) {
      clock.ms += ORDER_MS;
      const { id } = JSON.parse(arrival.body.toString()) as { id: number };
      taken.push(id);
      arrival.respond(200, encodeResult(String(id), 'null'), false);
    }
    // After the answers, which are written in a tick of this turn.
    if (distraction.ms > 0) process.nextTick(() => Atomics.wait(NEVER, 0, 0, distraction.ms));
    for (const wake of sleepers) wake();
  };
  const turns: (() => void)[] = [];
  const queue = new FairQueue<Arrival>(
    { maxBytes: 1e8, maxWaitMs, maxBurstWaitMs: 1000 },
    {
      submit: (arrival) => void handed.push(arrival),
      schedule: (turn) => {
        turns.push(turn);
        setImmediate(onTurn);
      },
      now: () => clock.ms,
    },
  );
  function onTurn(): void {
    if (stuck.yes) return;
    workOff();
    for (const turn of turns.splice(0)) turn();
  }
  const bodies = new BodyReader({
    maxBodyBytes: 100_000,
    maxTotalBytes: 1e8,
    maxBodies: 1000,
    timeoutMs: 60_000,
  });
  const options = { side: 'user', maxBodyBytes: 100_000, readyText: 'ready' } as const;
  const modules: RpcEndpointModules = {
    bodies,
    clock: () => clock.ms * 1000,
    queue,
    readiness: null,
    certificateOf: () => undefined,
    rejected: (_side, kind) => void rejected.push(kind),
  };
  const server = await listenHttp(
    {
      listen: { host: '127.0.0.1', port: 0 },
      listeners: 1,
      tls,
      requestClientCertificate: false,
      headTimeoutMs: 60_000,
      requestTimeoutMs: 60_000,
      writeTimeoutMs: 60_000,
      idleTimeoutMs: 60_000,
      maxConnections: 1000,
      pipelining: 64,
    },
    {
      onRequest: rpcListener(options, modules),
      plain: nodesOwn ? undefined : plainEndpoint(options, bodies, modules),
      onEvicted: () => undefined,
    },
  );
  onTestFinished(async () => {
    bodies.close();
    await server.close();
  });
  return {
    port: server.address.port,
    queue,
    distraction,
    /** Ids of the orders that were worked off. */
    taken,
    rejected,
    stick() {
      stuck.yes = true;
    },
    unstick() {
      stuck.yes = false;
      setImmediate(onTurn);
    },
    /** Resolves when so much of the played time has gone by. */
    sleep(ms: number): Promise<void> {
      const until = clock.ms + ms;
      return new Promise((resolve) => {
        const wake = () => {
          if (clock.ms < until) return;
          sleepers.delete(wake);
          resolve();
        };
        sleepers.add(wake);
      });
    },
  };
}

let nextId = 0;

/** A kept-alive connection; answers come in the order of the requests. */
async function openClient(port: number) {
  const socket: Socket = connect({ port, host: '127.0.0.1', noDelay: true });
  onTestFinished(() => void socket.destroy());
  await once(socket, 'connect');
  const waiting: { id: number; resolve: (answer: Answer) => void }[] = [];
  let text = '';
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
    for (;;) {
      const headEnd = text.indexOf('\r\n\r\n');
      const length = Number(/content-length: (\d+)/i.exec(text.slice(0, headEnd))?.[1]);
      const end = headEnd + 4 + length;
      if (headEnd === -1 || text.length < end) return;
      const head = text.slice(0, headEnd);
      const body = text.slice(headEnd + 4, end);
      text = text.slice(end);
      const { id, resolve } = waiting.shift()!;
      resolve({ id, status: Number(head.slice(9, 12)), head, body });
    }
  });
  return {
    socket,
    send(): Promise<Answer> {
      const id = nextId++;
      const body = JSON.stringify({ id, PADDING });
      return new Promise((resolve) => {
        waiting.push({ id, resolve });
        socket.write(
          `POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
        );
      });
    },
  };
}

/** Sends on with every answer, so many at once on each of its connections, until it is stopped. */
async function flood(port: number, connections: number, inFlight: number) {
  const answers: Answer[] = [];
  const end = new AbortController();
  const clients = await Promise.all(Array.from({ length: connections }, () => openClient(port)));
  const lanes = clients.flatMap((client) =>
    Array.from({ length: inFlight }, async () => {
      while (!end.signal.aborted) answers.push(await client.send());
    }),
  );
  return {
    answers,
    clients,
    async stop() {
      end.abort();
      await Promise.all(lanes);
    },
  };
}

test.each([
  ['on its own way', false],
  ["through Node's HTTP server", true],
])(
  'a flood %s is refused with the reason, a client that sends a little is not; nothing acknowledged is lost',
  async (_way, nodesOwn) => {
    const node = await startSlowNode({ nodesOwn });
    const polite = await openClient(node.port);
    const politeAnswers = [await polite.send()];
    const flooder = await flood(node.port, 16, 16);
    for (let i = 0; i < 40; i += 1) {
      await node.sleep(50);
      politeAnswers.push(await polite.send());
    }
    await flooder.stop();
    expect(politeAnswers.map(({ status }) => status)).toEqual(politeAnswers.map(() => 200));

    const refused = flooder.answers.filter(({ status }) => status !== 200);
    const accepted = flooder.answers.filter(({ status }) => status === 200);
    expect(refused.length).toBeGreaterThan(accepted.length);
    // The flood gets what the other leaves, which is nearly all: 40 × 50 ms of the clock.
    expect(accepted.length).toBeGreaterThan(1900);
    for (const { status, head, body } of refused) {
      expect(status).toBe(429);
      expect(head).toMatch(/\r\nRetry-After: 1(\r\n|$)/i);
      expect(head).not.toMatch(/\r\nConnection: close/i);
      expect(JSON.parse(body)).toEqual({
        jsonrpc: '2.0',
        id: null,
        error: { code: -32005, message: expect.stringContaining('more orders than it can work off') },
      });
    }
    expect(new Set(node.rejected)).toEqual(new Set(['overloaded']));
    expect(node.rejected).toHaveLength(refused.length);

    // What was acknowledged was worked off, and what was refused was not.
    const acknowledged = [...accepted, ...politeAnswers].map(({ id }) => id);
    expect(node.taken.toSorted((a, b) => a - b)).toEqual(acknowledged.toSorted((a, b) => a - b));

    // On the very connections that were refused so much, everything is taken again.
    const after = await Promise.all(flooder.clients.map((client) => client.send()));
    expect(after.map(({ status }) => status)).toEqual(after.map(() => 200));
  },
);

test('an order that was refused is taken when it comes again', async () => {
  const node = await startSlowNode();
  const crowd = await Promise.all(Array.from({ length: 20 }, () => openClient(node.port)));
  node.stick();
  const answers = crowd.flatMap((client) => Array.from({ length: 32 }, () => client.send()));
  const late = openClient(node.port);
  await expect.poll(() => node.rejected.length).toBeGreaterThan(0);
  node.unstick();
  const settled = await Promise.all(answers);
  expect(settled.filter(({ status }) => status === 429)).toHaveLength(node.rejected.length);
  expect((await (await late).send()).status).toBe(200);
});

test('HTTP/2: a refusal ends its stream and not the session', async () => {
  const { certificatePem, privateKeyPem } = await createCredentials({
    names: ['127.0.0.1'],
    validityDays: 1,
    now: Date.now(),
  });
  const node = await startSlowNode({
    maxWaitMs: 1,
    tls: { certificate: certificatePem, key: privateKeyPem },
  });
  const session = connectH2(`https://127.0.0.1:${node.port}`, { ca: certificatePem });
  onTestFinished(() => session.destroy());
  const send = (id: number) =>
    new Promise<{ status: number; retryAfter: unknown }>((resolve, reject) => {
      const stream = session.request({ ':method': 'POST', ':path': '/', 'content-type': 'application/json' });
      let head = { status: 0, retryAfter: undefined as unknown };
      stream.on('response', (headers) => {
        head = { status: Number(headers[':status']), retryAfter: headers['retry-after'] };
      });
      stream.on('error', reject);
      stream.on('close', () => resolve(head));
      stream.resume();
      stream.end(JSON.stringify({ id, PADDING }));
    });
  node.stick();
  const sent = Array.from({ length: 128 }, (_, id) => send(id));
  await expect.poll(() => node.rejected.length).toBeGreaterThan(0);
  node.unstick();
  const answers = await Promise.all(sent);
  const refused = answers.filter(({ status }) => status === 429);
  expect(refused).toHaveLength(node.rejected.length);
  expect(new Set(refused.map(({ retryAfter }) => retryAfter))).toEqual(new Set(['1']));
  expect(answers.filter(({ status }) => status === 200)).toHaveLength(node.taken.length);
  expect((await send(0)).status).toBe(200);
  expect(session.closed).toBe(false);
});

/** Sends orders one at a time over one TLS connection, on a thread of its own, and posts the statuses of the answers. */
const ONE_AT_A_TIME = `
  const { parentPort, workerData: { port, protocol, count } } = require('node:worker_threads');
  const statuses = [];
  const answered = (status, sendNext) => {
    statuses.push(status);
    if (statuses.length < count) sendNext();
    else parentPort.postMessage(statuses);
  };
  const body = () => JSON.stringify({ id: statuses.length });
  if (protocol === 'h2') {
    const session = require('node:http2').connect('https://127.0.0.1:' + port, { rejectUnauthorized: false });
    const send = () => {
      const stream = session.request({ ':method': 'POST', ':path': '/', 'content-type': 'application/json' });
      let status = 0;
      stream.on('response', (headers) => { status = headers[':status']; });
      stream.on('data', () => {});
      stream.on('end', () => answered(status, send));
      stream.end(body());
    };
    send();
  } else {
    const socket = require('node:tls').connect({ port, host: '127.0.0.1', rejectUnauthorized: false });
    const send = () => socket.write(
      'POST / HTTP/1.1\\r\\nHost: x\\r\\nContent-Type: application/json\\r\\nContent-Length: ' + body().length + '\\r\\n\\r\\n' + body(),
    );
    socket.on('data', (chunk) => answered(Number(chunk.toString('latin1', 9, 12)), send));
    send();
  }
`;

test.each([
  ['HTTP/1.1', 'http/1.1', false],
  ["HTTP/1.1 through Node's HTTP server", 'http/1.1', true],
  ['HTTP/2', 'h2', false],
])(
  'over TLS, %s: who sends one at a time is known to, however late the thread sees that its answer has left',
  async (_title, protocol, nodesOwn) => {
    const { certificatePem, privateKeyPem } = await createCredentials({
      names: ['127.0.0.1'],
      validityDays: 1,
      now: Date.now(),
    });
    const node = await startSlowNode({
      nodesOwn,
      tls: { certificate: certificatePem, key: privateKeyPem },
    });
    node.distraction.ms = 10;
    const unanswered: number[] = [];
    const refusal = node.queue.refusal.bind(node.queue);
    vi.spyOn(node.queue, 'refusal').mockImplementation((sender, party, bytes) => {
      unanswered.push(sender.unanswered);
      return refusal(sender, party, bytes);
    });
    const client = new Worker(ONE_AT_A_TIME, {
      eval: true,
      workerData: { port: node.port, protocol, count: 20 },
    });
    onTestFinished(async () => void (await client.terminate()));
    const [statuses] = (await once(client, 'message')) as [number[]];
    expect(statuses).toEqual(Array.from({ length: 20 }, () => 200));
    expect(unanswered).toEqual(Array.from({ length: 20 }, () => 1));
  },
);
