/** The v1 stand-in itself, and a node of ours beside it in both directions. */

import { readFileSync } from 'node:fs';
import https from 'node:https';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createCredentials } from '../../identity/certificate.ts';
import { createSigner } from '../../identity/signature.ts';
import { keccak256Hex } from '../../pipeline/keccak.ts';
import type { AdmittedOrder } from '../../pipeline/order.ts';
import { createPeers, type Peers } from '../peers.ts';
import { startJsonRpcSink } from './json-rpc-sink.ts';
import { Recorder } from './recorder.ts';
import { startV1Peer, type V1Peer } from './v1-peer.ts';

const OWN = await createCredentials({ names: ['localhost', '127.0.0.1'], validityDays: 1, now: Date.now() });
const KEY = Buffer.alloc(32, 7);
const SIGNER = createSigner(KEY);
const BUNDLE =
  '{"method":"eth_sendBundle","params":[{"txs":["0x00"],"blockNumber":"0x1","version":"v2"}],"id":0,"jsonrpc":"2.0"}';

function admit(body: string): AdmittedOrder {
  const canonical = Buffer.from(body);
  const canonicalHash = keccak256Hex(canonical);
  return {
    order: {
      method: 'eth_sendBundle',
      canonical,
      hash: null,
      key: canonicalHash,
      signer: SIGNER.addressLower,
    },
    side: 'user',
    caller: 'user',
    receivedAtUs: Date.now() * 1000,
  };
}

async function startPeer(): Promise<V1Peer> {
  const peer = await startV1Peer({ name: 'v1', maxBodyBytes: 1_000 });
  onTestFinished(() => peer.close());
  return peer;
}

function startOurs(): { peers: Peers; events: Recorder } {
  const events = new Recorder();
  const peers = createPeers(
    { reconnect: { baseMs: 10, maxMs: 40 }, retry: { baseMs: 10, maxMs: 40 } },
    {
      events,
      signer: SIGNER,
      tlsIdentity: () => ({ cert: OWN.certificatePem, key: OWN.privateKeyPem }),
    },
  );
  onTestFinished(() => peers.close(0));
  return { peers, events };
}

describe('our orders at a v1 peer', () => {
  test('are taken when we are listed', async () => {
    const peer = await startPeer();
    peer.setPeers([{ name: 'ours', address: SIGNER.addressLower }]);
    const { peers, events } = startOurs();
    peers.update([peer.target()]);
    peers.send(admit(BUNDLE));
    const [order] = await peer.received(1);
    expect({ body: order?.body.toString(), peer: order?.peer }).toEqual({ body: BUNDLE, peer: 'ours' });
    await events.until(() => events.accepted.length === 1);
  });

  test('are kept and tried again until it has learnt of us', async () => {
    const peer = await startPeer();
    const { peers, events } = startOurs();
    peers.update([peer.target()]);
    for (let i = 0; i < 50; i++) peers.send(admit(BUNDLE.replace('"0x1"', `"0x${(i + 1).toString(16)}"`)));
    await events.until(() => (events.failureCounts('v1').unknown_peer ?? 0) >= 10);
    peer.setPeers([{ name: 'ours', address: SIGNER.addressLower }]);
    await events.until(() => events.accepted.length === 50);
    expect({ drops: events.drops, taken: peer.orders.length }).toEqual({ drops: [], taken: 50 });
  });

  test('survive its restart with a new key', async () => {
    const peer = await startPeer();
    const before = peer.address;
    peer.setPeers([{ name: 'ours', address: SIGNER.addressLower }]);
    const { peers, events } = startOurs();
    peers.update([peer.target()]);
    peers.send(admit(BUNDLE));
    await events.until(() => events.accepted.length === 1);
    const restarted = peer.restart();
    peers.send(admit(BUNDLE.replace('0x1', '0x2')));
    await restarted;
    expect(peer.address).not.toBe(before);
    peers.update([peer.target()]);
    await events.until(() => events.accepted.length === 2);
    expect(events.drops).toEqual([]);
  });
});

describe('a v1 peer as the sender', () => {
  test('sends without a client certificate to a server whose certificate is listed and names it', async () => {
    const sink = await startJsonRpcSink({ tls: { cert: OWN.certificatePem, key: OWN.privateKeyPem } });
    onTestFinished(() => sink.close());
    const peer = await startPeer();
    const server = { host: '127.0.0.1', port: sink.port, certificatePem: OWN.certificatePem };
    for (let i = 0; i < 3; i++) expect((await peer.send(server, BUNDLE)).status).toBe(200);
    const [request] = sink.requests;
    expect(request).toMatchObject({ clientCertificate: undefined, servername: undefined });
    expect(request?.headers['x-flashbots-signature']).toBe(peer.sign(Buffer.from(BUNDLE)));
    expect(sink.accepted, 'kept alive').toBe(1);
    const byName = { ...server, host: 'localhost', connectTo: '127.0.0.1' };
    await peer.send(byName, BUNDLE);
    expect(sink.requests[3]?.servername).toBe('localhost');
  });

  test('refuses a certificate that is not listed, and one that does not name the server', async () => {
    const sink = await startJsonRpcSink({ tls: { cert: OWN.certificatePem, key: OWN.privateKeyPem } });
    onTestFinished(() => sink.close());
    const peer = await startPeer();
    const { certificatePem } = peer.credentials;
    await expect(peer.send({ host: '127.0.0.1', port: sink.port, certificatePem }, BUNDLE)).rejects.toThrow();
    const elsewhere = { host: 'elsewhere.example', port: sink.port, connectTo: '127.0.0.1' };
    await expect(peer.send({ ...elsewhere, certificatePem: OWN.certificatePem }, BUNDLE)).rejects.toThrow(
      'certificate is not valid for elsewhere.example',
    );
    expect(sink.count).toBe(0);
  });
});

describe('its checks, in their order', () => {
  interface Sent {
    readonly method?: string;
    readonly path?: string;
    readonly type?: string;
    readonly body?: string;
    readonly signature?: string | null;
  }

  function post(peer: V1Peer, sent: Sent): Promise<{ status: number; body: string }> {
    const body = sent.body ?? BUNDLE;
    const signature = sent.signature === undefined ? SIGNER.sign(Buffer.from(body)) : sent.signature;
    return new Promise((resolve, reject) => {
      const request = https.request(
        {
          host: '127.0.0.1',
          port: peer.port,
          method: sent.method ?? 'POST',
          path: sent.path ?? '/',
          rejectUnauthorized: false,
          agent: false,
          headers: {
            'Content-Type': sent.type ?? 'application/json',
            ...(signature === null ? {} : { 'X-Flashbots-Signature': signature }),
          },
        },
        (response) => {
          let text = '';
          response.setEncoding('utf8').on('data', (piece: string) => {
            text += piece;
          });
          response.on('end', () => resolve({ status: response.statusCode ?? 0, body: text }));
        },
      );
      request.on('error', reject).end(sent.method === 'GET' ? undefined : body);
    });
  }

  function rpc(code: number, message: string, id = 'null'): { status: number; body: string } {
    return {
      status: 200,
      body: `{"jsonrpc":"2.0","id":${id},"error":${JSON.stringify({ code, message })}}\n`,
    };
  }

  const stranger = createSigner(Buffer.alloc(32, 9));

  test.each<[string, Sent, { status: number; body: string }]>([
    ['livez', { method: 'GET', path: '/livez' }, { status: 200, body: '' }],
    ['another method', { method: 'PUT' }, { status: 405, body: 'only POST method is allowed\n' }],
    [
      'another type',
      { type: 'text/plain', signature: null },
      { status: 415, body: 'header Content-Type must be application/json\n' },
    ],
    [
      'too big, before the signature',
      { body: 'x'.repeat(1_001), signature: null },
      rpc(-32600, 'request body is too big, max size: 1000'),
    ],
    ['no signature, before JSON', { body: '{', signature: null }, rpc(-32600, 'no signature provided')],
    ['no separator', { signature: '0x00' }, rpc(-32600, 'invalid signature provided: missing separator')],
    [
      'another body',
      { signature: SIGNER.sign(Buffer.from('{}')) },
      rpc(-32600, 'invalid signature provided: signing address mismatch'),
    ],
    ['no JSON', { body: '{' }, rpc(-32700, 'request is no JSON object')],
    ['a batch', { body: '[]' }, rpc(-32700, 'request is no JSON object')],
    ['another version', { body: '{"id":1,"jsonrpc":"1.0"}' }, rpc(-32700, 'invalid jsonrpc version', '1')],
    ['an id of another type', { body: '{"id":{},"jsonrpc":"2.0"}' }, rpc(-32700, 'invalid id type')],
    [
      'an unknown method, its id to the last digit',
      { body: '{"id":12345678901234567890,"jsonrpc":"2.0","method":"x"}' },
      rpc(-32601, 'method not found', '12345678901234567890'),
    ],
    [
      'too many params',
      { body: '{"id":"a","jsonrpc":"2.0","method":"eth_sendBundle","params":[{},{}]}' },
      rpc(-32000, 'too much arguments', '"a"'),
    ],
    [
      'a stranger',
      { signature: stranger.sign(Buffer.from(BUNDLE)) },
      rpc(-32000, "unknown peers can't send to the system address", '0'),
    ],
    [
      'no version',
      { body: BUNDLE.replace(',"version":"v2"', '') },
      rpc(-32000, 'version field should be set', '0'),
    ],
    ['a good order', {}, { status: 200, body: '{"jsonrpc":"2.0","id":0,"result":null}\n' }],
  ])('%s', async (_name, sent, answer) => {
    const peer = await startPeer();
    peer.setPeers([{ name: 'ours', address: SIGNER.addressLower }]);
    expect(await post(peer, sent)).toEqual(answer);
  });
});

test("its signatures are the reference's, byte for byte", async () => {
  const { accepted, nodeKey } = readVectors();
  const peer = await startV1Peer({ name: 'v1', key: Buffer.from(nodeKey.slice(2), 'hex') });
  onTestFinished(() => peer.close());
  expect(accepted.length).toBeGreaterThan(100);
  for (const { canonical, signature } of accepted) {
    expect(peer.sign(Buffer.from(canonical))).toBe(signature.toLowerCase());
  }
});

interface OrderVectors {
  readonly nodeKey: string;
  readonly accepted: readonly { readonly canonical: string; readonly signature: string }[];
}

function readVectors(): OrderVectors {
  return JSON.parse(readFileSync(new URL('../../testing/vectors/orders.json', import.meta.url), 'utf8'));
}
