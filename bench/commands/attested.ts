/**
 * `attested`: what attestation costs beside plain TLS, in handshakes and in requests over the two proxies.
 *
 * Limits: both ends run in this process, and the quotes come from a mock machine: some 0.3 ms of signing in place of
 * the milliseconds that the TDX module takes, which are to be added once for each quote.
 */
import { createServer, request } from 'node:http';
import { createServer as createHttpsServer, Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { AddressInfo } from 'node:net';
import { connect } from 'node:tls';
import { PROXY_BOUNDS } from '../../attested/bounds.ts';
import { startClientProxy } from '../../attested/proxy-client.ts';
import { startServerProxy } from '../../attested/proxy-server.ts';
import { type AttestedClientModules, connectAttested } from '../../identity/attestation/attested-client.ts';
import { mockAppraiser, mockSide } from '../../identity/attestation/testing/mock-world.ts';
import { createCredentials } from '../../identity/certificate.ts';
import { COMMON_HELP, COMMON_OPTIONS, optionsOf, publishTo, say, whole } from '../command.ts';
import { surroundings } from '../report.ts';
import { type Figure, runsInWords, type Section, type Table } from '../section.ts';
import { median } from '../statistics.ts';

export const name = 'attested';

export const help = `
what attested TLS costs beside plain TLS: handshakes/s, latency per request

Usage: npm run bench -- attested [options]

  --handshakes N    of each kind (default 300)
  --requests N      of each kind, on kept connections (default 3000)
  --concurrency N   handshakes at a time (default 8)
  --repeats N       passes, the kinds in turns (default 5)
${COMMON_HELP.split('\n')
  .filter((line) => !/--set|--entry|--seed/.test(line))
  .join('\n')}
`;

export interface AttestedPlan {
  readonly handshakes: number;
  readonly requests: number;
  readonly concurrency: number;
  readonly repeats: number;
}

export async function run(args: readonly string[]): Promise<number> {
  const { quick, out, handshakes, requests, concurrency, repeats } = optionsOf(args, {
    quick: COMMON_OPTIONS.quick,
    out: COMMON_OPTIONS.out,
    handshakes: { type: 'string' },
    requests: { type: 'string' },
    concurrency: { type: 'string', default: '8' },
    repeats: { type: 'string' },
  }).values;
  const plan: AttestedPlan = {
    handshakes: whole('--handshakes', handshakes ?? (quick ? '60' : '300')),
    requests: whole('--requests', requests ?? (quick ? '300' : '3000')),
    concurrency: whole('--concurrency', concurrency),
    repeats: whole('--repeats', repeats ?? (quick ? '1' : '5')),
  };
  return publishTo({ ...surroundings('none'), sections: [await measureAttested(plan, say)] }, out);
}

/** One kind of handshake or request, with what each pass has measured. */
interface Kind {
  readonly group: 'handshake' | 'request';
  readonly name: string;
  readonly work: () => Promise<void>;
  readonly runs: Run[];
}

interface Run {
  readonly perSecond: number;
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
}

export async function measureAttested(plan: AttestedPlan, tell: (text: string) => void): Promise<Section> {
  const { kinds, close } = await openKinds();
  try {
    for (let repeat = 1; repeat <= plan.repeats; repeat++) {
      tell(`attested TLS: pass ${repeat} of ${plan.repeats}`);
      for (const { group, work, runs } of kinds) {
        const [count, parallel] =
          group === 'handshake' ? [plan.handshakes, plan.concurrency] : [plan.requests, 1];
        runs.push(await measure(count, parallel, work));
      }
    }
  } finally {
    await close();
  }
  return sectionOf(kinds, plan);
}

/** Runs `work` so often, so many at a time. */
async function measure(count: number, parallel: number, work: () => Promise<void>): Promise<Run> {
  for (let i = 0; i < Math.min(50, count / 10); i++) await work();
  const times: number[] = [];
  let left = count;
  const started = performance.now();
  const worker = async (): Promise<void> => {
    while (left-- > 0) {
      const before = performance.now();
      await work();
      times.push(performance.now() - before);
    }
  };
  await Promise.all(Array.from({ length: parallel }, worker));
  const seconds = (performance.now() - started) / 1000;
  times.sort((a, b) => a - b);
  const at = (share: number): number => times[Math.floor(share * (times.length - 1))] ?? 0;
  return { perSecond: count / seconds, p50: at(0.5), p99: at(0.99) };
}

function sectionOf(kinds: readonly Kind[], plan: AttestedPlan): Section {
  const figures: Figure[] = kinds.flatMap(({ group, name: kind, runs }) => [
    {
      name: `${group}, ${kind}: per second`,
      unit: '/s',
      better: 'higher',
      samples: runs.map(({ perSecond }) => perSecond),
    },
    { name: `${group}, ${kind}: p50`, unit: 'ms', better: 'lower', samples: runs.map(({ p50 }) => p50) },
  ]);
  const tables = (['handshake', 'request'] as const).map((group) => tableOf(group, kinds, plan));
  return {
    id: 'attested',
    title: 'Attested TLS',
    text: [
      `${runsInWords(plan.repeats)}, the kinds in turns. Both ends share one process, and the quotes are a mock machine's: add what the TDX module takes for each.`,
      'Each connection that attests its server costs one quote there; one that attests its client, too, costs a second for its binding. Kept connections cost none.',
    ],
    charts: [],
    tables,
    figures,
    faults: [],
  };
}

function tableOf(group: Kind['group'], kinds: readonly Kind[], plan: AttestedPlan): Table {
  const rows = kinds.filter((kind) => kind.group === group);
  const middle = ({ runs }: Kind, of: (run: Run) => number): number => median(runs.map(of));
  const [first] = rows;
  const base = first === undefined ? Number.NaN : middle(first, ({ p50 }) => p50);
  return {
    title:
      group === 'handshake'
        ? `${plan.handshakes} handshakes, ${plan.concurrency} at a time`
        : `${plan.requests} requests on kept connections, one at a time`,
    headings: ['', 'per second', 'p50 ms', 'p99 ms', '× plain'],
    rows: rows.map((kind) => [
      kind.name,
      middle(kind, ({ perSecond }) => perSecond),
      middle(kind, ({ p50 }) => p50),
      middle(kind, ({ p99 }) => p99),
      middle(kind, ({ p50 }) => p50) / base,
    ]),
  };
}

const ANY = { host: '127.0.0.1', port: 0 };

/** Starts all servers and proxies. */
async function openKinds(): Promise<{ kinds: Kind[]; close: () => Promise<void> }> {
  const { certificatePem: cert, privateKeyPem: key } = await createCredentials({
    names: ['127.0.0.1'],
    validityDays: 1,
    now: Date.now(),
  });
  const target = createServer((_, response) => response.end('target'));
  const plain = createHttpsServer({ cert, key }, (_, response) => response.end('target'));
  const [targetPort, plainPort] = await Promise.all([listen(target), listen(plain)]);

  const [side, own] = await Promise.all([mockSide('a'), mockSide('b')]);
  const serverOptions = {
    listen: ANY,
    target: new URL(`http://127.0.0.1:${targetPort}`),
    bounds: PROXY_BOUNDS,
  };
  const one = await startServerProxy(serverOptions, {
    certificates: side.certificates,
    appraiser: undefined,
  });
  const both = await startServerProxy(serverOptions, {
    certificates: side.certificates,
    appraiser: await mockAppraiser(own.machine, 'b'),
  });
  const trust = { by: 'attestation', appraiser: await mockAppraiser(side.machine, 'a') } as const;
  const clientOf = (port: number, modules: AttestedClientModules) =>
    startClientProxy(
      { listen: ANY, bounds: PROXY_BOUNDS, target: new URL(`https://127.0.0.1:${port}`) },
      modules,
    );
  const [oneClient, bothClient] = await Promise.all([
    clientOf(one.address.port, { trust, own: undefined }),
    clientOf(both.address.port, { trust, own }),
  ]);
  const agent = new HttpsAgent({ keepAlive: true, ca: cert, maxSockets: 1 });
  const handshake = (kind: string, work: () => Promise<void>): Kind => ({
    group: 'handshake',
    name: kind,
    work,
    runs: [],
  });
  const get = (kind: string, port: number, through?: HttpsAgent): Kind => ({
    group: 'request',
    name: kind,
    work: () => getOnce(port, through),
    runs: [],
  });
  return {
    kinds: [
      handshake('plain TLS, certificate checked', () => plainHandshake(plainPort, cert)),
      handshake('server attests, client verifies', () =>
        attestedHandshake(one.address.port, { trust, own: undefined }),
      ),
      handshake('both attest and verify, with binding', () =>
        attestedHandshake(both.address.port, { trust, own }),
      ),
      get('plain TLS, no proxy', plainPort, agent),
      get('both proxies; server attests', oneClient.address.port),
      get('both proxies; both attest', bothClient.address.port),
    ],
    async close() {
      agent.destroy();
      await Promise.all([oneClient.close(), bothClient.close(), one.close(), both.close()]);
      for (const maker of [side.certificates, own.certificates]) maker.close();
      for (const server of [target, plain]) {
        server.closeAllConnections();
        server.close();
      }
    },
  };
}

async function listen(server: ReturnType<typeof createServer>): Promise<number> {
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return (server.address() as AddressInfo).port;
}

async function attestedHandshake(port: number, modules: AttestedClientModules): Promise<void> {
  const { socket } = await connectAttested({ host: '127.0.0.1', port, timeoutMs: 20_000 }, modules);
  socket.destroy();
}

function plainHandshake(port: number, ca: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, ca }, () => {
      socket.destroy();
      resolve();
    });
    socket.on('error', reject);
  });
}

/** Rejects unless the answer is 200: a refusal is quick. */
function getOnce(port: number, agent: HttpsAgent | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, path: '/' };
    const outgoing = agent === undefined ? request(options) : httpsRequest({ ...options, agent });
    outgoing.on('error', reject);
    outgoing.on('response', (response) => {
      if (response.statusCode !== 200) reject(new Error(`status ${response.statusCode}`));
      response.resume().on('end', resolve);
    });
    outgoing.end();
  });
}
