/**
 * A node that speaks as v1 does, for tests: the system API of a v1 node, with its checks in its order and
 * its words (protocol sections 2, 3 and 5), and a v1 node's way of sending to others.
 *
 * As in v1: no client certificate is asked for or shown; the order signature alone says who calls; a
 * caller that is not listed is refused; everything that passes is answered `null`; a new key with each
 * start. Its signatures are made and checked with @noble/curves, so that they prove something about ours.
 *
 * Limits: orders are not decoded (the origin node did), so of the rules of section 4 it knows the number of
 * params and that a bundle on the system side has a version. It does not deduplicate: it records all.
 *
 * @example
 * const peer = await startV1Peer({ name: 'v1' });
 * peer.setPeers([{ name: 'ours', address: signer.addressLower }]);
 * peers.update([peer.target()]);
 * peers.send(order);
 * const [first] = await peer.received(1);
 */
import { X509Certificate } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import https from 'node:https';
import { isIP } from 'node:net';
import { secp256k1 } from '@noble/curves/secp256k1.js';
import { type Credentials, createCredentials } from '../../identity/certificate.ts';
import { keccak256 } from '../../pipeline/keccak.ts';
import type { Address } from '../../pipeline/order.ts';
import { UNKNOWN_PEER_MESSAGE } from '../answer.ts';
import type { PeerTarget } from '../peers.ts';

export interface V1PeerOptions {
  readonly name: string;
  /** Default 0: a free one. */
  readonly port?: number;
  /** Names and addresses in its certificate; default localhost and 127.0.0.1. It listens on 127.0.0.1. */
  readonly hosts?: readonly string[];
  readonly maxBodyBytes?: number;
  /** Secret key of the first start, 32 bytes; default a random one. */
  readonly key?: Uint8Array;
}

/** An order that passed all checks. */
export interface V1Order {
  readonly body: Buffer;
  /** Listed name of the signer. */
  readonly peer: string;
  readonly receivedAtMs: number;
}

export interface V1Caller {
  readonly name: string;
  readonly address: Address;
}

/** A node to send to, as v1 takes it from BuilderHub. */
export interface V1Server {
  /** What `dns_name` or `ip` says; the certificate must be valid for it. */
  readonly host: string;
  readonly port: number;
  readonly certificatePem: string;
  /** Where to connect when that is not the host, as a name in a test resolves to nothing. */
  readonly connectTo?: string;
}

export interface V1Answer {
  readonly status: number;
  readonly body: string;
}

export interface V1Peer {
  readonly name: string;
  readonly port: number;
  /** Of the key of this start. */
  readonly address: Address;
  readonly credentials: Credentials;
  readonly orders: readonly V1Order[];
  /** Answers given by error message; `null` results are not in it. */
  readonly refusals: ReadonlyMap<string, number>;
  /** Who may call. Nobody at first. */
  setPeers(peers: readonly V1Caller[]): void;
  /** @returns all orders, once there are `count` of them. */
  received(count: number): Promise<readonly V1Order[]>;
  /** Itself as others see it. */
  target(): PeerTarget;
  /** Its entry in BuilderHub's list (protocol section 6). */
  hubEntry(): object;
  /** @returns the value of `X-Flashbots-Signature` by its key */
  sign(body: Uint8Array): string;
  /**
   * Sends a request as v1 does, kept alive between calls.
   * @throws Error when the server's certificate is not the listed one, or not valid for the host
   */
  send(server: V1Server, body: string | Uint8Array): Promise<V1Answer>;
  /** Stops, and starts on the same port with a new key, the same certificate and list. */
  restart(): Promise<void>;
  close(): Promise<void>;
}

const MAX_BODY_BYTES = 30 * 1024 * 1024;
const SIGNATURE_HEADER = 'x-flashbots-signature';
const NO_ID = 'null';

/** Params that a method takes. */
const METHODS: Readonly<Record<string, number>> = {
  eth_sendBundle: 1,
  mev_sendBundle: 1,
  eth_cancelBundle: 1,
  eth_sendRawTransaction: 1,
  bid_subsidiseBlock: 1,
};

/** Starts listening. Rejects when the port is taken. */
export async function startV1Peer(options: V1PeerOptions): Promise<V1Peer> {
  const names = options.hosts ?? ['localhost', '127.0.0.1'];
  const credentials = await createCredentials({ names, validityDays: 1, now: Date.now() });
  const peer = new V1Node(options, credentials);
  await peer.listen(options.port ?? 0);
  return peer;
}

interface Waiter {
  readonly count: number;
  readonly resolve: (orders: readonly V1Order[]) => void;
}

class V1Node implements V1Peer {
  readonly name: string;
  readonly credentials: Credentials;
  readonly orders: V1Order[] = [];
  readonly refusals = new Map<string, number>();
  port = 0;
  readonly #maxBodyBytes: number;
  #key: Uint8Array;
  #listed = new Map<Address, string>();
  #waiters: Waiter[] = [];
  #server: https.Server | null = null;
  readonly #agent = new https.Agent({ keepAlive: true });

  constructor(options: V1PeerOptions, credentials: Credentials) {
    this.name = options.name;
    this.#key = options.key ?? secp256k1.utils.randomSecretKey();
    this.#maxBodyBytes = options.maxBodyBytes ?? MAX_BODY_BYTES;
    this.credentials = credentials;
  }

  get address(): Address {
    return addressOf(secp256k1.getPublicKey(this.#key, false));
  }

  setPeers(peers: readonly V1Caller[]): void {
    this.#listed = new Map(peers.map((peer) => [peer.address, peer.name]));
  }

  received(count: number): Promise<readonly V1Order[]> {
    if (this.orders.length >= count) return Promise.resolve(this.orders);
    return new Promise((resolve) => this.#waiters.push({ count, resolve }));
  }

  target(): PeerTarget {
    const { certificateDer, fingerprint } = this.credentials;
    return {
      name: this.name,
      address: this.address,
      host: '127.0.0.1',
      port: this.port,
      servername: undefined,
      certificate: certificateDer,
      fingerprint,
    };
  }

  hubEntry(): object {
    return {
      name: this.name,
      ip: '127.0.0.1',
      dns_name: `127.0.0.1:${this.port}`,
      orderflow_proxy: { ecdsa_pubkey_address: this.address },
      instance: { tls_cert: this.credentials.certificatePem },
    };
  }

  sign(body: Uint8Array): string {
    // Recovery id ‖ r ‖ s.
    const signature = secp256k1.sign(signedDigest(body), this.#key, { prehash: false, format: 'recovered' });
    const v = (signature[0] ?? 0) + 27;
    return `${this.address}:0x${Buffer.from(signature.subarray(1)).toString('hex')}${v.toString(16)}`;
  }

  send(server: V1Server, body: string | Uint8Array): Promise<V1Answer> {
    const bytes = Buffer.from(body);
    if (!isValidFor(server.certificatePem, server.host)) {
      return Promise.reject(new Error(`certificate is not valid for ${server.host}`));
    }
    return new Promise((resolve, reject) => {
      const request = https.request(
        {
          agent: this.#agent,
          host: server.connectTo ?? server.host,
          port: server.port,
          method: 'POST',
          path: '/',
          // Go's way: the listed certificate is the pool of roots, and it must name the host.
          ca: server.certificatePem,
          servername: isIP(server.host) === 0 ? server.host : '',
          headers: {
            'Content-Type': 'application/json',
            'Content-Length': bytes.length,
            'X-Flashbots-Signature': this.sign(bytes),
          },
        },
        (response) => {
          let text = '';
          response.setEncoding('utf8').on('data', (piece: string) => {
            text += piece;
          });
          response.on('end', () => resolve({ status: response.statusCode ?? 0, body: text }));
          response.on('error', reject);
        },
      );
      request.on('error', reject).end(bytes);
    });
  }

  async restart(): Promise<void> {
    const { port } = this;
    await this.#stop();
    this.#key = secp256k1.utils.randomSecretKey();
    await this.listen(port);
  }

  async close(): Promise<void> {
    this.#agent.destroy();
    await this.#stop();
  }

  listen(port: number): Promise<void> {
    const server = https.createServer(
      { cert: this.credentials.certificatePem, key: this.credentials.privateKeyPem, noDelay: true },
      (request, response) => this.#serve(request, response),
    );
    this.#server = server;
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, '127.0.0.1', () => {
        const address = server.address();
        this.port = typeof address === 'object' && address !== null ? address.port : 0;
        resolve();
      });
    });
  }

  #stop(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#server === null) resolve();
      else {
        this.#server.close(() => resolve());
        this.#server.closeAllConnections();
        this.#server = null;
      }
    });
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    if (request.method === 'GET' && request.url === '/livez') {
      answerText(response, 200, '');
      return;
    }
    if (request.method !== 'POST') {
      answerText(response, 405, 'only POST method is allowed');
      return;
    }
    if (request.headers['content-type'] !== 'application/json') {
      answerText(response, 415, 'header Content-Type must be application/json');
      return;
    }
    const pieces: Buffer[] = [];
    let length = 0;
    request.on('data', (piece: Buffer) => {
      length += piece.length;
      if (length <= this.#maxBodyBytes) pieces.push(piece);
    });
    request.on('error', () => {});
    request.on('end', () => {
      const answer =
        length > this.#maxBodyBytes
          ? this.#error(NO_ID, -32600, `request body is too big, max size: ${this.#maxBodyBytes}`)
          : this.#answer(Buffer.concat(pieces), request.headers[SIGNATURE_HEADER]);
      response.writeHead(200, { 'Content-Type': 'application/json' });
      response.end(`${answer}\n`);
    });
  }

  /** @returns JSON */
  #answer(body: Buffer, header: string | string[] | undefined): string {
    if (typeof header !== 'string' || header === '')
      return this.#error(NO_ID, -32600, 'no signature provided');
    const verdict = verify(header, body);
    if ('reason' in verdict) {
      return this.#error(NO_ID, -32600, `invalid signature provided: ${verdict.reason}`);
    }
    const call = readCall(body);
    if (call === null) return this.#error(NO_ID, -32700, 'request is no JSON object');
    const { id, method, params } = call;
    if (call.jsonrpc !== '2.0') return this.#error(id, -32700, 'invalid jsonrpc version');
    if (!call.idValid) return this.#error(NO_ID, -32700, 'invalid id type');
    const takes = typeof method === 'string' ? METHODS[method] : undefined;
    if (takes === undefined) return this.#error(id, -32601, 'method not found');
    if (params.length > takes) return this.#error(id, -32000, 'too much arguments');
    const name = this.#listed.get(verdict.address);
    if (name === undefined) return this.#error(id, -32000, UNKNOWN_PEER_MESSAGE);
    const [param] = params;
    if (method === 'eth_sendBundle' && isRecord(param) && !('version' in param)) {
      return this.#error(id, -32000, 'version field should be set');
    }
    this.orders.push({ body, peer: name, receivedAtMs: performance.timeOrigin + performance.now() });
    const due = this.#waiters.filter((waiter) => waiter.count <= this.orders.length);
    this.#waiters = this.#waiters.filter((waiter) => waiter.count > this.orders.length);
    for (const waiter of due) waiter.resolve(this.orders);
    return `{"jsonrpc":"2.0","id":${id},"result":null}`;
  }

  #error(id: string, code: number, message: string): string {
    this.refusals.set(message, (this.refusals.get(message) ?? 0) + 1);
    return `{"jsonrpc":"2.0","id":${id},"error":${JSON.stringify({ code, message })}}`;
  }
}

interface Call {
  /** JSON text as it was sent: a large integer keeps its digits. */
  readonly id: string;
  readonly idValid: boolean;
  readonly jsonrpc: unknown;
  readonly method: unknown;
  readonly params: readonly unknown[];
}

function readCall(body: Buffer): Call | null {
  let call: unknown;
  let numberText: string | undefined;
  try {
    call = JSON.parse(body.toString(), (key: string, value: unknown, context?: { source?: string }) => {
      if (key === 'id' && typeof value === 'number') numberText = context?.source;
      return value;
    });
  } catch {
    return null;
  }
  if (!isRecord(call)) return null;
  const { id = null, jsonrpc, method, params = [] } = call;
  if (!Array.isArray(params)) return null;
  const idText = typeof id === 'number' ? numberText : JSON.stringify(id);
  const idValid = id === null || typeof id === 'string' || typeof id === 'number';
  return { id: idText ?? NO_ID, idValid, jsonrpc, method, params };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** As Go's http.Error writes it. */
function answerText(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8' });
  response.end(text === '' ? '' : `${text}\n`);
}

/** EIP-191 over the text `0x` + hex of keccak256(body): protocol section 3. */
function signedDigest(body: Uint8Array): Buffer {
  return keccak256(`\x19Ethereum Signed Message:\n660x${keccak256(body).toString('hex')}`);
}

function addressOf(publicKey: Uint8Array): Address {
  return `0x${keccak256(publicKey.subarray(1)).toString('hex', 12)}`;
}

function verify(header: string, body: Uint8Array): { address: Address } | { reason: string } {
  const [claimed = '', hex, more] = header.split(':');
  if (hex === undefined || more !== undefined) return { reason: 'missing separator' };
  if (!/^0x[0-9a-fA-F]{130}$/.test(hex)) return { reason: 'invalid signature length' };
  const bytes = Buffer.from(hex.slice(2), 'hex');
  const v = bytes[64] ?? 0;
  const recovery = v >= 27 ? v - 27 : v;
  if (recovery > 1) return { reason: 'invalid recovery id' };
  let publicKey: Uint8Array;
  try {
    const recovered = Uint8Array.of(recovery, ...bytes.subarray(0, 64));
    const compressed = secp256k1.recoverPublicKey(recovered, signedDigest(body), { prehash: false });
    publicKey = secp256k1.Point.fromBytes(compressed).toBytes(false);
  } catch {
    return { reason: 'recovery failed' };
  }
  const address = addressOf(publicKey);
  return address === claimed.toLowerCase() ? { address } : { reason: 'signing address mismatch' };
}

/** Go takes names and addresses from the SAN alone, never from the common name. */
function isValidFor(certificatePem: string, host: string): boolean {
  const certificate = new X509Certificate(certificatePem);
  const name =
    isIP(host) === 0 ? certificate.checkHost(host, { subject: 'never' }) : certificate.checkIP(host);
  return name !== undefined;
}
