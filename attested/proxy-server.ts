/**
 * The server proxy: attested TLS before a plain HTTP target. Tells the target what the caller has proven, and the
 * caller nothing that it has not asked for.
 */
import { Agent } from 'node:http';
import type { Appraiser } from '../identity/attestation/appraiser.ts';
import type { CertificateMaker, TlsCredentials } from '../identity/attestation/attested-certificate.ts';
import {
  type AttestedServer,
  type AttestedServerEvents,
  listenAttested,
  type Peer,
} from '../identity/attestation/attested-server.ts';
import { answerBinding, BINDING_PATH, endConnection } from '../identity/attestation/binding.ts';
import { measurementHeaders } from '../identity/attestation/measurements.ts';
import { OVERLOAD, type ProxyBounds, type ProxyEvents, type RunningProxy } from './bounds.ts';
import { type ForwardOptions, forward, type ProxyRequest, type ProxyResponse } from './forward.ts';
import { httpOnSockets } from './http.ts';

export interface ServerProxyOptions {
  readonly listen: { readonly host: string; readonly port: number };
  /** http:// */
  readonly target: URL;
  readonly bounds: ProxyBounds;
}

export interface ServerProxyModules {
  readonly certificates: CertificateMaker | (() => TlsCredentials);
  /** Demands and appraises client certificates; undefined demands none. */
  readonly appraiser: Appraiser | undefined;
  readonly events?: (ProxyEvents & AttestedServerEvents) | undefined;
}

/** @throws Error when the address cannot be listened on */
export async function startServerProxy(
  options: ServerProxyOptions,
  modules: ServerProxyModules,
): Promise<RunningProxy> {
  const { bounds, target } = options;
  const agent = new Agent({ keepAlive: true, maxSockets: bounds.maxUpstream, maxFreeSockets: 16 });
  const forwardOptions: ForwardOptions = {
    target,
    maxBodyBytes: bounds.maxBodyBytes,
    idleTimeoutMs: bounds.idleTimeoutMs,
  };

  const answer = async (request: ProxyRequest, response: ProxyResponse, peer: Peer): Promise<void> => {
    const started = performance.now();
    if (request.url === BINDING_PATH && request.method === 'POST') {
      const refusal = await answerBinding(request, response, peer.binding);
      if (refusal !== undefined) modules.events?.refused?.(refusal);
      return;
    }
    if (peer.binding?.held === false) {
      modules.events?.refused?.({ refused: 'binding', reason: 'a request came before the binding' });
      response.statusCode = 403;
      response.end(() => endConnection(request));
      return;
    }
    if (peer.attestation !== undefined && modules.appraiser?.stillLists(peer.attestation) === false) {
      modules.events?.refused?.({ refused: 'measurements', reason: 'the policy lists the image no longer' });
      response.statusCode = 403;
      response.end(() => endConnection(request));
      return;
    }
    const tellTarget =
      peer.attestation === undefined ? {} : measurementHeaders(peer.attestation.measurements);
    const failure = await forward(request, response, forwardOptions, {
      agent,
      tellTarget,
      tellCaller: () => ({}),
    });
    modules.events?.request?.(response.statusCode, performance.now() - started, failure?.reason);
  };
  const http = httpOnSockets<Peer>(bounds, {
    onRequest(request, response, peer) {
      answer(request, response, peer).catch((error: unknown) => {
        modules.events?.fault?.(error);
        response.destroy();
      });
    },
    onOverload: (status) => modules.events?.request?.(status, 0, OVERLOAD),
  });
  const server: AttestedServer = await listenAttested(
    {
      listen: options.listen,
      alpn: ['h2', 'http/1.1'],
      maxConnections: bounds.maxConnections,
      maxHandshakes: bounds.maxHandshakes,
      handshakeTimeoutMs: bounds.handshakeTimeoutMs,
    },
    {
      certificates: modules.certificates,
      appraiser: modules.appraiser,
      events: modules.events,
      onConnection: (socket, peer) => http.serve(socket, peer),
    },
  );
  return {
    address: server.address,
    connections: () => server.connections,
    async close() {
      server.stopAccepting();
      await http.drain(bounds.drainTimeoutMs);
      agent.destroy();
      await server.close();
    },
  };
}
