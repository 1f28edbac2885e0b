/**
 * `npm run bench:attested`: what attestation costs. Handshakes per second and latency per request of plain TLS, of a
 * server that attests itself, and of both sides attested, each measured in turn in the same run so that the ratios hold
 * on a busy machine.
 *
 * Both ends run in this process, and the quotes come from a mock machine: some 0.3 ms of signing in place of the
 * milliseconds that the TDX module takes, which are to be added once for each quote.
 */
import { createServer, request } from 'node:http';
import { createServer as createHttpsServer, Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { AddressInfo } from 'node:net';
import { connect } from 'node:tls';
import { parseArgs } from 'node:util';
import { PROXY_BOUNDS } from '../attested/bounds.ts';
import { startClientProxy } from '../attested/proxy-client.ts';
import { startServerProxy } from '../attested/proxy-server.ts';
import { type AttestedClientModules, connectAttested } from '../identity/attestation/attested-client.ts';
import { mockAppraiser, mockSide } from '../identity/attestation/testing/mock-world.ts';
import { createCredentials } from '../identity/certificate.ts';
import { surroundings, surroundingsLine } from './report.ts';

const { values } = parseArgs({
  options: {
    handshakes: { type: 'string', default: '300' },
    requests: { type: 'string', default: '3000' },
    concurrency: { type: 'string', default: '8' },
  },
});
const [handshakes, requests, concurrency] = [values.handshakes, values.requests, values.concurrency].map(
  Number,
);
const ANY = { host: '127.0.0.1', port: 0 };

interface Figures {
  readonly perSecond: number;
  readonly p50: number;
  readonly p99: number;
}

/** Runs `work` so often, so many at a time. */
async function measure(count: number, parallel: number, work: () => Promise<void>): Promise<Figures> {
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

function show(what: string, { perSecond, p50, p99 }: Figures, base: Figures): void {
  const ratio = (p50 / base.p50).toFixed(1);
  process.stdout.write(
    `  ${what.padEnd(44)}${perSecond.toFixed(0).padStart(7)}/s   p50 ${p50.toFixed(2).padStart(7)} ms   ` +
      `p99 ${p99.toFixed(2).padStart(7)} ms   ${ratio} × plain\n`,
  );
}

process.stdout.write(`${surroundingsLine(surroundings('none'))}\n`);

const { certificatePem: cert, privateKeyPem: key } = await createCredentials({
  names: ['127.0.0.1'],
  validityDays: 1,
  now: Date.now(),
});
const target = createServer((_, response) => response.end('target'));
const plain = createHttpsServer({ cert, key }, (_, response) => response.end('target'));
await Promise.all(
  [target, plain].map((server) => new Promise<void>((done) => server.listen(0, '127.0.0.1', done))),
);
const targetUrl = new URL(`http://127.0.0.1:${(target.address() as AddressInfo).port}`);
const plainPort = (plain.address() as AddressInfo).port;

const [side, own] = await Promise.all([mockSide('a'), mockSide('b')]);
const serverOptions = { listen: ANY, target: targetUrl, bounds: PROXY_BOUNDS };
const one = await startServerProxy(serverOptions, { certificates: side.certificates, appraiser: undefined });
const both = await startServerProxy(serverOptions, {
  certificates: side.certificates,
  appraiser: await mockAppraiser(own.machine, 'b'),
});
const trust = { by: 'attestation', appraiser: await mockAppraiser(side.machine, 'a') } as const;

function attestedHandshake(port: number, modules: AttestedClientModules): () => Promise<void> {
  return async () => {
    const { socket } = await connectAttested({ host: '127.0.0.1', port, timeoutMs: 20_000 }, modules);
    socket.destroy();
  };
}

function plainHandshake(): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port: plainPort, ca: cert }, () => {
      socket.destroy();
      resolve();
    });
    socket.on('error', reject);
  });
}

process.stdout.write(`\nhandshakes, ${handshakes} each, ${concurrency} at a time\n`);
const base = await measure(handshakes ?? 0, concurrency ?? 1, plainHandshake);
show('plain TLS, certificate checked', base, base);
const oneWay = attestedHandshake(one.address.port, { trust, own: undefined });
show('server attests, client verifies', await measure(handshakes ?? 0, concurrency ?? 1, oneWay), base);
const twoWays = attestedHandshake(both.address.port, { trust, own });
show('both attest and verify, with binding', await measure(handshakes ?? 0, concurrency ?? 1, twoWays), base);

function get(host: { port: number }, agent?: HttpsAgent): () => Promise<void> {
  return () =>
    new Promise((resolve, reject) => {
      const options = { host: '127.0.0.1', port: host.port, path: '/' };
      const outgoing = agent === undefined ? request(options) : httpsRequest({ ...options, agent });
      outgoing.on('error', reject);
      outgoing.on('response', (response) => response.resume().on('end', resolve));
      outgoing.end();
    });
}

const clientOptions = { listen: ANY, bounds: PROXY_BOUNDS };
const [oneClient, bothClient] = await Promise.all([
  startClientProxy(
    { ...clientOptions, target: new URL(`https://127.0.0.1:${one.address.port}`) },
    { trust, own: undefined },
  ),
  startClientProxy(
    { ...clientOptions, target: new URL(`https://127.0.0.1:${both.address.port}`) },
    { trust, own },
  ),
]);
const agent = new HttpsAgent({ keepAlive: true, ca: cert, maxSockets: 1 });
process.stdout.write(`\nrequests on kept connections, ${requests} each, one at a time\n`);
const direct = await measure(requests ?? 0, 1, get({ port: plainPort }, agent));
show('plain TLS, no proxy', direct, direct);
show(
  'client proxy, server proxy; server attests',
  await measure(requests ?? 0, 1, get(oneClient.address)),
  direct,
);
show(
  'client proxy, server proxy; both attest',
  await measure(requests ?? 0, 1, get(bothClient.address)),
  direct,
);

agent.destroy();
await Promise.all([oneClient.close(), bothClient.close(), one.close(), both.close()]);
for (const maker of [side.certificates, own.certificates]) maker.close();
for (const server of [target, plain]) {
  server.closeAllConnections();
  server.close();
}
