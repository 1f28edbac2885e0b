/**
 * The development hub's second listener: TLS with a regular certificate, where nodes attest themselves, as at
 * BuilderHub behind its proxy but in one program. Who calls is its address, and what it runs is what it has proven;
 * headers that claim either are not looked at.
 */
import { createServer } from 'node:http';
import type { Socket } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import type { Appraiser } from '../attestation/appraiser.ts';
import type { TlsCredentials } from '../attestation/attested-certificate.ts';
import { listenAttested, type Peer } from '../attestation/attested-server.ts';
import { answerBinding, BINDING_PATH } from '../attestation/binding.ts';
import { measurementHeaders } from '../attestation/measurements.ts';
import { createHubApp } from './app.ts';
import type { HubState } from './state.ts';

export interface AttestedHubOptions {
  readonly listen: { readonly host: string; readonly port: number };
  readonly certificate: TlsCredentials;
  /** Without a policy: which image may do what is decided by the hub's measurements, request by request. */
  readonly appraiser: Appraiser;
  readonly refused?: ((reason: string) => void) | undefined;
}

export interface AttestedHub {
  /** Base URL. */
  readonly url: string;
  close(): Promise<void>;
}

const IDLE_TIMEOUT_MS = 60_000;
const NOBODY: Peer = { attestation: undefined, binding: undefined };

/** @throws Error when the address cannot be listened on */
export async function startAttestedHub(state: HubState, options: AttestedHubOptions): Promise<AttestedHub> {
  const peers = new WeakMap<Socket, Peer>();
  const app = createHubApp(state, {
    adminPassword: undefined,
    nodes: {
      provenBy({ socket }) {
        const { attestation, binding } = peers.get(socket) ?? NOBODY;
        if (attestation === undefined || binding?.held === false) return {};
        const caller = (socket.remoteAddress ?? '').replace(/^::ffff:/u, '');
        return { ...measurementHeaders(attestation.measurements), 'x-forwarded-for': caller };
      },
    },
  });
  const answer = getRequestListener(app.fetch, { overrideGlobalObjects: false });
  const server = createServer((request, response) => {
    if (request.url === BINDING_PATH) {
      void answerBinding(request, response, peers.get(request.socket)?.binding).then((refusal) => {
        if (refusal !== undefined) options.refused?.(`${refusal.refused}: ${refusal.reason}`);
      });
      return;
    }
    // The hub's own administration is not for nodes.
    if (request.url?.startsWith('/api/l1-builder/') !== true) {
      response.writeHead(403).end();
      return;
    }
    void answer(request, response);
  });
  const listener = await listenAttested(
    {
      listen: options.listen,
      alpn: ['http/1.1'],
      maxConnections: 256,
      maxHandshakes: 32,
      handshakeTimeoutMs: 20_000,
    },
    {
      certificates: () => options.certificate,
      appraiser: options.appraiser,
      events: {
        refused: ({ refused, reason }) => options.refused?.(`${refused}: ${reason}`),
        fault: (error) => options.refused?.(`fault: ${String(error)}`),
      },
      onConnection(socket, peer) {
        peers.set(socket, peer);
        socket.setTimeout(IDLE_TIMEOUT_MS, () => socket.destroy());
        server.emit('connection', socket);
      },
    },
  );
  const { host, port } = listener.address;
  return {
    url: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
    close: () => listener.close(),
  };
}
