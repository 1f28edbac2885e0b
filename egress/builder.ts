/**
 * The local builder: every order goes to rbuilder's JSON-RPC server first, at once and unsigned
 * (architecture: builder first). `send` puts the order's bytes on a socket in the same call while a
 * connection has room; else the order waits, bounded by bytes and age.
 *
 * Four connections, all kept open: rbuilder answers a pipelined connection in order, so on a single one an
 * order would be read behind the handling of the one before it. An order goes to the connection with the
 * fewest outstanding, which at the network's 500 orders/s is an idle one.
 */
import net from 'node:net';
import { type Clock, createClock } from '../pipeline/clock.ts';
import type { AdmittedOrder } from '../pipeline/order.ts';
import type { DeliveryEvents, OutgoingRequest, TargetState } from './delivery.ts';
import type { Dialler } from './pipelined-connection.ts';
import { Target, type TargetOptions } from './target.ts';
import { mergeTargetOptions } from './target-options.ts';

/** What is reported about the builder; the target's name is {@link BUILDER_TARGET}. */
export type BuilderEvents = DeliveryEvents;

/** The builder's name as a target, as on operators' dashboards (metrics: `local-builder` is a peer there). */
export const BUILDER_TARGET = 'local-builder';

export interface BuilderOptions extends Partial<TargetOptions> {
  /** `http://host:port/path`. */
  readonly endpoint: URL;
}

export interface Builder {
  /** Sends an order, synchronously. Its fate is told through the events. */
  send(admitted: AdmittedOrder): void;
  /** What is sent from now on leaves together, with `uncork`. */
  cork(): void;
  uncork(): void;
  /** Is a connection open? */
  readonly up: boolean;
  state(): TargetState;
  /** Waits at most so long until all orders are answered; the rest is dropped (`shutdown`). */
  close(deadlineMs: number): Promise<void>;
}

/**
 * An order older than a slot cannot win that slot's auction, but may the next: two slots and some. A node that stops
 * bears with its own builder longer than with a peer.
 */
const DEFAULTS = { connections: 4, warmConnections: 4, queueAgeMs: 30_000, closeStallMs: 3_000 };

/**
 * Connects to the builder and keeps connected.
 * @throws Error when the endpoint is not an http URL
 */
export function createBuilder(
  options: BuilderOptions,
  modules: { readonly events: BuilderEvents; readonly now?: Clock },
): Builder {
  const { endpoint, ...targetOptions } = options;
  if (endpoint.protocol !== 'http:') throw new Error('builder endpoint must be an http:// URL');
  const headStart =
    `POST ${endpoint.pathname}${endpoint.search} HTTP/1.1\r\nHost: ${endpoint.host}\r\n` +
    'Content-Type: application/json\r\nContent-Length: ';
  const target = new Target(
    BUILDER_TARGET,
    { headStart, dialler: tcpDialler(endpoint) },
    mergeTargetOptions(DEFAULTS, targetOptions),
    { events: modules.events, now: modules.now ?? createClock() },
  );
  return {
    send: (admitted) => target.send(new BuilderRequest(admitted)),
    cork: () => target.cork(),
    uncork: () => target.uncork(),
    get up() {
      return target.up;
    },
    state: () => target.state(),
    close: (deadlineMs) => target.close(deadlineMs),
  };
}

function tcpDialler(endpoint: URL): Dialler {
  const host = endpoint.hostname.replace(/^\[(.*)\]$/, '$1');
  const port = Number(endpoint.port || 80);
  return {
    dial: (onread) => net.connect({ host, port, onread }),
    readyEvent: 'connect',
    refuse: () => null,
  };
}

class BuilderRequest implements OutgoingRequest {
  readonly admitted: AdmittedOrder;
  readonly bornMs = performance.now();

  constructor(admitted: AdmittedOrder) {
    this.admitted = admitted;
  }

  headerEnd(): string {
    return `${this.admitted.order.canonical.length}\r\n\r\n`;
  }

  record(): null {
    return null;
  }
}
