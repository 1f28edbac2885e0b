/**
 * The client proxy: plain HTTP in, attested TLS out. Every connection to the target is attested before a request goes
 * over it, and the caller learns from two headers what answered.
 */
import { Agent, type AgentOptions, type IncomingMessage } from 'node:http';
import { createServer, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Attestation } from '../identity/attestation/appraiser.ts';
import {
  AttestationError,
  type AttestedClientModules,
  connectAttested,
} from '../identity/attestation/attested-client.ts';
import { measurementHeaders } from '../identity/attestation/measurements.ts';
import { OVERLOAD, type ProxyBounds, type ProxyEvents, type RunningProxy } from './bounds.ts';
import {
  type Failure,
  type ForwardOptions,
  forward,
  type ProxyRequest,
  type ProxyResponse,
} from './forward.ts';
import { httpOnSockets } from './http.ts';

export interface ClientProxyOptions {
  readonly listen: { readonly host: string; readonly port: number };
  /** https:// */
  readonly target: URL;
  readonly bounds: ProxyBounds;
}

export interface ClientProxyEvents extends ProxyEvents {
  connected?(milliseconds: number, attested: boolean): void;
  /** A connection to the target that could not be had; `refused` is the check when one failed. */
  connectFailed?(refused: string | undefined, reason: string): void;
}

export interface ClientProxyModules extends AttestedClientModules {
  readonly events?: ClientProxyEvents | undefined;
}

/** @throws Error when the address cannot be listened on */
export async function startClientProxy(
  options: ClientProxyOptions,
  modules: ClientProxyModules,
): Promise<RunningProxy> {
  const { bounds, target } = options;
  const events = modules.events ?? {};
  const attestations = new WeakMap<object, Attestation>();
  const { trust } = modules;
  const isListed = (socket: object): boolean => {
    const attestation = attestations.get(socket);
    return attestation === undefined || trust.by !== 'attestation' || trust.appraiser.stillLists(attestation);
  };
  const agent = new AttestedAgent(
    { keepAlive: true, maxSockets: bounds.maxUpstream, maxFreeSockets: 16 },
    isListed,
    async () => {
      const started = performance.now();
      try {
        const { socket, attestation } = await connectAttested(
          {
            host: target.hostname.replace(/^\[(.*)\]$/u, '$1'),
            port: target.port === '' ? 443 : Number(target.port),
            timeoutMs: bounds.handshakeTimeoutMs,
          },
          modules,
        );
        if (attestation !== undefined) attestations.set(socket, attestation);
        events.connected?.(performance.now() - started, attestation !== undefined);
        return socket;
      } catch (error) {
        events.connectFailed?.(
          error instanceof AttestationError ? error.refused : undefined,
          error instanceof Error ? error.message : String(error),
        );
        throw error;
      }
    },
  );
  const forwardOptions: ForwardOptions = {
    target,
    maxBodyBytes: bounds.maxBodyBytes,
    idleTimeoutMs: bounds.idleTimeoutMs,
  };
  const tellCaller = ({ socket }: IncomingMessage): Record<string, string> => {
    const attestation = attestations.get(socket);
    return attestation === undefined ? {} : measurementHeaders(attestation.measurements);
  };
  const turns = new Turns(bounds.maxUpstream);
  const answer = async (request: ProxyRequest, response: ProxyResponse): Promise<void> => {
    const started = performance.now();
    let gone = false;
    response.once('close', () => {
      gone = true;
    });
    await turns.take();
    let failure: Failure | undefined;
    try {
      // Who has gone meanwhile costs no connection.
      if (gone) return;
      agent.endUnlisted();
      failure = await forward(request, response, forwardOptions, { agent, tellTarget: {}, tellCaller });
    } finally {
      turns.giveBack();
    }
    events.request?.(response.statusCode, performance.now() - started, failure?.reason);
  };
  const http = httpOnSockets(bounds, {
    onRequest(request, response) {
      answer(request, response).catch((error: unknown) => {
        events.fault?.(error);
        response.destroy();
      });
    },
    onOverload: (status) => events.request?.(status, 0, OVERLOAD),
  });
  const open = new Set<Socket>();
  const server = createServer({ noDelay: true }, (socket) => {
    socket.on('error', () => undefined);
    open.add(socket);
    socket.once('close', () => open.delete(socket));
    http.serve(socket, NOTHING_KNOWN);
  });
  server.maxConnections = bounds.maxConnections;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.listen.port, options.listen.host, resolve);
  });
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : options.listen.port;
  return {
    address: { host: options.listen.host, port },
    connections: () => open.size,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      await http.drain(bounds.drainTimeoutMs);
      agent.destroy();
      for (const socket of open) socket.destroy();
      await closed;
    },
  };
}

/**
 * So many at a time, the others wait in order of arrival. Node's pool counts a connection once it is there, and these
 * take a while: a burst would have one for each request.
 */
class Turns {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  take(): Promise<void> {
    if (this.#free > 0) {
      this.#free--;
      return Promise.resolve();
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  giveBack(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free++;
    else next();
  }
}

/** Callers of the client proxy are told apart by nothing. */
const NOTHING_KNOWN = {};

/** Node's pool of kept-alive connections, with ours in it, as long as the policy lists what is on their other side. */
class AttestedAgent extends Agent {
  readonly #isListed: (socket: object) => boolean;
  readonly #connect: () => Promise<Duplex>;

  constructor(options: AgentOptions, isListed: (socket: object) => boolean, connect: () => Promise<Duplex>) {
    super(options);
    this.#isListed = isListed;
    this.#connect = connect;
    // Before the pool gives it to a request that waits, or keeps it.
    this.prependListener('free', (socket: Duplex) => {
      if (!isListed(socket)) socket.destroy();
    });
  }

  /** Ends kept connections that the policy of now would not take; requests then get others. */
  endUnlisted(): void {
    for (const socket of Object.values(this.freeSockets).flatMap((sockets) => sockets ?? [])) {
      if (!this.#isListed(socket)) socket.destroy();
    }
  }

  override createConnection(
    _options: object,
    callback: (error: Error | null, socket: Duplex) => void,
  ): undefined {
    void this.#answer(callback);
  }

  async #answer(callback: (error: Error | null, socket: Duplex) => void): Promise<void> {
    let socket: Duplex;
    try {
      socket = await this.#connect();
    } catch (error) {
      // The signature wants a socket also with an error; Node does not look at it.
      (callback as (error: unknown) => void)(error);
      return;
    }
    callback(null, socket);
  }
}
