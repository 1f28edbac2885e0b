/** What tests start a server of http-server.ts with: times that none of them reaches by chance. */
import type { HttpServerOptions } from '../http-server.ts';

export const SERVER_OPTIONS: HttpServerOptions = {
  listen: { host: '127.0.0.1', port: 0 },
  listeners: 1,
  tls: null,
  requestClientCertificate: false,
  headTimeoutMs: 10_000,
  requestTimeoutMs: 60_000,
  writeTimeoutMs: 30_000,
  idleTimeoutMs: 60_000,
  maxConnections: 1000,
  pipelining: 64,
};
