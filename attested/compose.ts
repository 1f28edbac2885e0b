/**
 * One proxy from its settings: what it trusts, what it proves, its health and its metrics. The composition root of the
 * attested programs, and the only place here that knows a logger or a metrics library.
 */
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { Logger } from 'pino';
import { Appraiser } from '../identity/attestation/appraiser.ts';
import { CertificateMaker, type TlsCredentials } from '../identity/attestation/attested-certificate.ts';
import type { ServerTrust } from '../identity/attestation/attested-client.ts';
import { INTEL_SGX_ROOT, keyFingerprint } from '../identity/attestation/certificates.ts';
import { CollateralSource } from '../identity/attestation/collateral-source.ts';
import { PolicyFile } from '../identity/attestation/policy-file.ts';
import { provisioningService } from '../identity/attestation/provisioning-service.ts';
import {
  boundedQuotes,
  hasTsm,
  QUOTE_BOUNDS,
  type QuoteSource,
  remoteQuotes,
  tsmQuotes,
} from '../identity/attestation/quote-source.ts';
import type { TcbStatus } from '../identity/attestation/tcb-documents.ts';
import { CredentialFiles } from '../identity/credential-files.ts';
import { systemTimer, type Timer } from '../identity/timer.ts';
import type { RunningProxy } from './bounds.ts';
import { type AttestedMetrics, attestedMetrics } from './metrics.ts';
import { startClientProxy } from './proxy-client.ts';
import { startServerProxy } from './proxy-server.ts';
import type { ProxySettings, Role } from './settings.ts';

export interface RunningProgram {
  readonly address: { readonly host: string; readonly port: number };
  readonly healthAddress: { readonly host: string; readonly port: number } | undefined;
  /** Names what is missing; empty when nothing is. */
  missing(): string[];
  close(): Promise<void>;
}

type Closer = () => Promise<void> | void;

/** How often a root that proves nothing is named. */
const MOCK_REMINDER_MS = 60_000;

/**
 * @param timer of the files that are read again
 * @throws Error naming the file, address or machine in the way
 */
export async function startProgram(
  role: Role,
  settings: ProxySettings,
  log: Logger,
  timer: Timer = systemTimer,
): Promise<RunningProgram> {
  const closers: Closer[] = [];
  try {
    return await compose(role, settings, log, closers, timer);
  } catch (error) {
    for (const close of closers.toReversed()) await close();
    throw error;
  }
}

async function compose(
  role: Role,
  settings: ProxySettings,
  log: Logger,
  closers: Closer[],
  timer: Timer,
): Promise<RunningProgram> {
  const metrics = attestedMetrics(role, {
    connections: () => proxy?.connections() ?? 0,
    ready: () => missing().length === 0,
    collateralUntil: () => trust?.collateral.validUntil(),
  });
  let proxy: RunningProxy | undefined;
  let certificates: CertificateMaker | undefined;
  let closing = false;
  const missing = (): string[] => [
    ...(closing ? ['shutting down'] : []),
    ...(proxy === undefined ? ['not started'] : []),
    ...(certificates?.ready === false ? ['no attested certificate'] : []),
  ];

  // Who the others must be.
  const trust =
    settings.policyFile === undefined ? undefined : await openTrust(settings, log, metrics, closers);

  // Who we are.
  const quotes = await openQuotes(role, settings, metrics);
  const given = settings.certificate;
  if (given === undefined && (role === 'server' || quotes !== undefined)) {
    certificates = await CertificateMaker.create(
      {},
      {
        quotes,
        events: {
          renewed: () => log.debug({ event: 'certificate renewed' }, 'the attested certificate is new'),
          renewalFailed: (reason) =>
            log.error({ event: 'no certificate', reason }, 'no attested certificate'),
        },
      },
    );
    closers.push(() => certificates?.close());
    // A machine that cannot attest shows it at once; the server serves as soon as it can.
    await certificates.standing().catch(() => undefined);
  }

  const health =
    settings.health === undefined ? undefined : await startHealth(settings.health, missing, metrics);
  if (health !== undefined) {
    closers.push(() => health.close());
    log.info(
      { event: 'health', address: `${health.address.host}:${health.address.port}` },
      'health and metrics',
    );
  }
  const common = { listen: settings.listen, target: settings.target, bounds: settings.bounds };
  const events = {
    request(status: number, ms: number, failure: string | undefined): void {
      metrics.request(status, ms);
      if (failure !== undefined)
        log.info(
          { event: 'not forwarded', status, reason: failure },
          'a request got no answer of the target',
        );
    },
    fault(error: unknown): void {
      log.error(
        { event: 'fault', reason: error instanceof Error ? error.stack : String(error) },
        'a defect of the proxy',
      );
    },
  };
  if (role === 'server') {
    const shown = given === undefined ? certificates : await openCertificate(given, log, closers, timer);
    if (shown === undefined) throw new Error('the server has no certificate');
    proxy = await startServerProxy(common, {
      certificates: shown,
      appraiser: trust?.appraiser,
      events: {
        ...events,
        handshake: (ms, attested) => metrics.handshake(ms, attested),
        refused({ refused, reason }) {
          metrics.refused(refused);
          log.warn({ event: 'refused', check: refused, reason }, 'a caller is refused');
        },
      },
    });
  } else {
    proxy = await startClientProxy(common, {
      trust: await serverTrust(settings, trust?.appraiser),
      own: certificates === undefined || quotes === undefined ? undefined : { certificates, quotes },
      events: {
        ...events,
        connected: (ms, attested) => metrics.handshake(ms, attested),
        connectFailed(refused, reason) {
          metrics.refused(refused ?? 'unreachable');
          log.warn({ event: 'no connection', check: refused, reason }, 'no connection to the target');
        },
      },
    });
  }
  const { address } = proxy;
  closers.push(() => proxy?.close());
  log.info({ event: 'listening', role, address: `${address.host}:${address.port}` }, 'the proxy runs');
  return {
    address,
    healthAddress: health?.address,
    missing,
    async close() {
      closing = true;
      for (const close of closers.toReversed()) await close();
      log.info({ event: 'stopped' }, 'the proxy has stopped');
    },
  };
}

interface Trust {
  readonly appraiser: Appraiser;
  readonly collateral: CollateralSource;
}

async function openTrust(
  settings: ProxySettings,
  log: Logger,
  metrics: AttestedMetrics,
  closers: Closer[],
): Promise<Trust> {
  const policy = await PolicyFile.open(settings.policyFile ?? '', {
    loaded: ({ entries, unsupported }) => {
      log.info({ event: 'policy', entries: entries.length }, 'the policy is in force');
      for (const { id, registers } of entries)
        if (registers.size === 0) log.warn({ event: 'policy', id }, 'an entry takes every image');
      for (const { id, reason } of unsupported)
        log.warn({ event: 'policy', id, reason }, 'an entry matches nothing');
    },
    refused: (reason) =>
      log.error({ event: 'policy', reason }, 'the changed policy is not taken: the old one stays'),
  });
  closers.push(() => policy.close());
  const { roots, acceptedTcb } = await openRoots(settings, log, metrics, closers);
  const collateral = new CollateralSource(
    { directory: settings.collateralDir, roots },
    {
      fetch: provisioningService({ url: settings.pccsUrl }),
      events: {
        fetched: (kind, validUntil) =>
          log.info(
            { event: 'collateral', kind, validUntil: new Date(validUntil).toISOString() },
            'new collateral',
          ),
        fetchFailed: (kind, reason) => {
          metrics.collateralFailed();
          log.warn({ event: 'collateral', kind, reason }, 'collateral could not be fetched');
        },
      },
    },
  );
  closers.push(() => collateral.close());
  const appraiser = new Appraiser(
    { roots, acceptedTcb },
    { collateral, policy: () => policy.current, now: Date.now },
  );
  return { appraiser, collateral };
}

/** Intel's root, or, loudly, one that proves nothing. */
async function openRoots(
  { mockRootFile, acceptedTcb }: ProxySettings,
  log: Logger,
  metrics: AttestedMetrics,
  closers: Closer[],
): Promise<{ roots: ReadonlySet<string>; acceptedTcb: ReadonlySet<TcbStatus> }> {
  if (mockRootFile === undefined) return { roots: new Set([INTEL_SGX_ROOT]), acceptedTcb };
  const fingerprint = keyFingerprint(await readCertificate('dev-mock-root', mockRootFile));
  const shout = (): void => {
    log.error(
      { event: 'mock root', fingerprint },
      "A MOCK ROOT IS TRUSTED INSTEAD OF INTEL'S: ATTESTATION PROVES NOTHING",
    );
  };
  shout();
  metrics.mockRoot();
  const timer = setInterval(shout, MOCK_REMINDER_MS).unref();
  closers.push(() => clearInterval(timer));
  return { roots: new Set([fingerprint]), acceptedTcb };
}

/** @throws Error naming the setting */
async function readCertificate(flag: string, path: string): Promise<X509Certificate> {
  try {
    return new X509Certificate(await readFile(path));
  } catch (error) {
    const reason = error instanceof Error && 'syscall' in error ? error.message : 'it is no certificate';
    throw new Error(`--${flag} ${path}: ${reason}`, { cause: error });
  }
}

async function openQuotes(
  role: Role,
  { own, dummyUrl }: ProxySettings,
  metrics: AttestedMetrics,
): Promise<QuoteSource | undefined> {
  if (own === 'none') return undefined;
  if (own !== 'dummy' && !(await hasTsm())) {
    throw new Error(
      `this machine is no TD that can attest (no /sys/kernel/config/tsm/report); --${role}-attestation-type none proves nothing`,
    );
  }
  const source = boundedQuotes(dummyUrl === undefined ? tsmQuotes() : remoteQuotes(dummyUrl), QUOTE_BOUNDS);
  return {
    async quote(reportData) {
      const started = performance.now();
      try {
        const quote = await source.quote(reportData);
        metrics.quote('made', performance.now() - started);
        return quote;
      } catch (error) {
        metrics.quote('failed', performance.now() - started);
        throw error;
      }
    },
  };
}

/** The regular certificate, read again when it has been replaced. */
async function openCertificate(
  { certFile, keyFile }: NonNullable<ProxySettings['certificate']>,
  log: Logger,
  closers: Closer[],
  timer: Timer,
): Promise<() => TlsCredentials> {
  const files = await CredentialFiles.open(
    { certPath: certFile, keyPath: keyFile },
    {
      timer,
      events: {
        changed: ({ notAfter }) =>
          log.info(
            { event: 'certificate', notAfter: notAfter.toISOString() },
            'another certificate is shown',
          ),
        failed: ({ message }) =>
          log.error(
            { event: 'certificate', reason: message },
            'certificate and key cannot be used; what was shown is still shown',
          ),
      },
    },
  );
  closers.push(() => files.close());
  return () => ({ cert: files.current.certificatePem, key: files.current.privateKeyPem });
}

async function serverTrust(
  { caFile, anyServer }: ProxySettings,
  appraiser: Appraiser | undefined,
): Promise<ServerTrust> {
  if (appraiser !== undefined) return { by: 'attestation', appraiser };
  if (anyServer) return { by: 'nothing' };
  if (caFile === undefined) return { by: 'authorities', ca: undefined };
  // One that cannot be read would refuse every server later, with words of OpenSSL's.
  await readCertificate('tls-ca-certificate', caFile);
  return { by: 'authorities', ca: await readFile(caFile, 'utf8') };
}

/** Anything but /readyz and /metrics is 200, which probes of the deployed proxies rely on. */
async function startHealth(
  listen: { readonly host: string; readonly port: number },
  missing: () => string[],
  metrics: AttestedMetrics,
): Promise<{ address: { host: string; port: number }; close: () => Promise<void> }> {
  const server = createServer({ headersTimeout: 10_000, requestTimeout: 10_000 }, (request, response) => {
    if (request.url === '/metrics') {
      metrics.text().then(
        (text) => response.setHeader('content-type', metrics.contentType).end(text),
        () => response.writeHead(500).end(),
      );
      return;
    }
    const reasons = request.url === '/readyz' ? missing() : [];
    response.writeHead(
      reasons.length === 0 ? 200 : 503,
      reasons.length === 0 ? {} : { 'x-not-ready': reasons.join(', ') },
    );
    response.end();
  });
  server.maxConnections = 256;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(listen.port, listen.host, resolve);
  });
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : listen.port;
  return {
    address: { host: listen.host, port },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
