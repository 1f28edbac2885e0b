/**
 * The two small plain-HTTP servers beside the APIs (protocol section 1): `GET /cert` for the attestation
 * proxy, and `GET /metrics` for Prometheus.
 */
import { Hono } from 'hono';
import { getRequestListener } from './hono-node.ts';
import { type HttpServer, listenHttp } from './http-server.ts';
import type { ListenAddress } from './listeners.ts';

/** Enough for a few scrapers and a proxy; the idle longest goes first. */
const MAX_CONNECTIONS = 256;
/** Nobody pipelines scrapes; each answer is tens of KB. */
const PIPELINING = 2;
const TIMEOUT_MS = 10_000;
const IDLE_TIMEOUT_MS = 60_000;

/** Serves the node's current TLS certificate in PEM on `/cert`. */
export function startCertServer(listen: ListenAddress, certificatePem: () => string): Promise<HttpServer> {
  const app = new Hono();
  app.get('/livez', (c) => c.body(null, 200));
  app.get('/cert', (c) => c.body(certificatePem(), 200, { 'content-type': 'application/octet-stream' }));
  return startPlain(listen, app);
}

/** Serves the exposition text on `/metrics`; who asks while it is being made (some ms) gets the same one. */
export function startMetricsServer(
  listen: ListenAddress,
  metrics: { contentType: string; text: () => Promise<string> },
): Promise<HttpServer> {
  const app = new Hono();
  let making: Promise<string> | null = null;
  const text = (): Promise<string> => {
    making ??= metrics.text().finally(() => {
      making = null;
    });
    return making;
  };
  app.get('/livez', (c) => c.body(null, 200));
  app.get('/metrics', async (c) => c.body(await text(), 200, { 'content-type': metrics.contentType }));
  return startPlain(listen, app);
}

function startPlain(listen: ListenAddress, app: Hono): Promise<HttpServer> {
  return listenHttp(
    {
      listen,
      listeners: 1,
      tls: null,
      requestClientCertificate: false,
      headTimeoutMs: TIMEOUT_MS,
      requestTimeoutMs: TIMEOUT_MS,
      writeTimeoutMs: TIMEOUT_MS,
      idleTimeoutMs: IDLE_TIMEOUT_MS,
      maxConnections: MAX_CONNECTIONS,
      pipelining: PIPELINING,
    },
    {
      onRequest: getRequestListener(app.fetch, { overrideGlobalObjects: false }),
      onEvicted: () => undefined,
    },
  );
}
