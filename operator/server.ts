/**
 * The operator API as a service: the event log and its FIFO, actions, uploads, access, and the one server in front
 * of them.
 */
import { readFile } from 'node:fs/promises';
import type { Credentials } from '../identity/certificate.ts';
import type { Timer } from '../identity/timer.ts';
import { BodyReader } from '../ingress/body-reader.ts';
import { getRequestListener } from '../ingress/hono-node.ts';
import { listenHttp, type TlsIdentity, type UncleanAnswers } from '../ingress/http-server.ts';
import type { ListenAddress } from '../ingress/listeners.ts';
import { createClock } from '../pipeline/clock.ts';
import { MAX_PASSWORD_BYTES, openAccess } from './access.ts';
import { Actions } from './actions.ts';
import type { Compat } from './answers.ts';
import { createApp } from './app.ts';
import type { AppReports } from './app-context.ts';
import { BootSteps } from './boot-steps.ts';
import type { OperatorConfig } from './config.ts';
import { openEventFile } from './event-file.ts';
import { EventLog, type EventSource, MAX_MESSAGE_CHARACTERS } from './event-log.ts';
import { startEventPipe } from './event-pipe.ts';
import { openTlsFiles } from './tls-files.ts';
import { Uploads } from './uploads.ts';

export interface OperatorOptions {
  readonly config: OperatorConfig;
  readonly compat: Compat;
  /** Runs actions that are command lines. */
  readonly shell: string;
  /** This process's. */
  readonly env: NodeJS.ProcessEnv;
  /** Of the certificate; the machine's time unless set. */
  readonly timer?: Timer | undefined;
}

/** What the service reports. Names are configured ones; nothing here is a password, a hash or a file's content. */
export interface OperatorReports extends AppReports {
  event(source: EventSource): void;
  eventFileFailed(error: Error): void;
  pipeFailed(error: Error): void;
  action(name: string, failure: string | null, seconds: number, stdout: string): void;
  /** A certificate was made because there was none. */
  certificateMade(path: string): void;
  /** Another certificate is shown from now on. */
  certificateChanged(notAfter: Date): void;
  /** The files of certificate and key cannot be used, or not be renewed; what was shown is still shown. */
  certificateFailed(error: Error): void;
  connectionEvicted(): void;
}

export interface OperatorApi {
  readonly address: ListenAddress;
  /** For gauges; `certificateEnds` in Unix ms, null without TLS. */
  state(): { events: number; connections: number; certificateEnds: number | null };
  /** Takes no new requests, waits for what runs, writes what is to be kept. */
  close(): Promise<void>;
}

const HEAD_TIMEOUT_MS = 10_000;
const IDLE_TIMEOUT_MS = 120_000;
/** A browser asks for one thing after another. */
const PIPELINING = 4;
const MAX_BODIES = 64;
const MAX_BODIES_BYTES = 128 * 1024 * 1024;
/** How long a stop waits for actions. */
const ACTIONS_GRACE_MS = 5000;
const BOOT_ID_FILE = '/proc/sys/kernel/random/boot_id';

/** @throws Error naming the file or address that is in the way */
export async function startOperatorApi(
  options: OperatorOptions,
  reports: OperatorReports,
): Promise<OperatorApi> {
  const closers: (() => Promise<unknown>)[] = [];
  const close = async () => {
    for (const closer of closers.splice(0).toReversed()) await closer();
  };
  try {
    return await compose(options, reports, closers, close);
  } catch (error) {
    await close();
    throw error;
  }
}

async function compose(
  { config, compat, shell, env, timer }: OperatorOptions,
  reports: OperatorReports,
  closers: (() => Promise<unknown>)[],
  close: () => Promise<void>,
): Promise<OperatorApi> {
  const { general } = config;
  const now = () => performance.now();
  const access = await openAccess(
    {
      path: general.basic_auth_secret_path,
      firstHash: general.basic_auth_secret_hash,
      salt: general.basic_auth_secret_salt,
      newHashes: general.password_hash,
      rules: general.password_rules,
      withoutPassword: general.without_password,
      failuresPerMinute: general.failed_logins_per_minute,
    },
    { now },
  );
  const tls = general.tls_enabled
    ? await openTlsFiles(
        {
          certPath: general.tls_cert_path,
          keyPath: general.tls_key_path,
          createIfMissing: general.tls_create_if_missing,
          hosts: general.tls_cert_hosts,
        },
        {
          timer,
          events: {
            changed: ({ notAfter }) => reports.certificateChanged(notAfter),
            failed: (error) => reports.certificateFailed(error),
          },
        },
      )
    : null;
  if (tls !== null) closers.push(() => tls.files.close());
  if (tls?.made === true) reports.certificateMade(general.tls_cert_path);

  const file =
    general.events_file === ''
      ? null
      : await openEventFile(
          { path: general.events_file, bootId: await readBootId() },
          { onError: (error) => reports.eventFileFailed(error) },
        );
  if (file !== null) closers.push(() => file.close());
  const log = new EventLog(
    { maxEntries: general.log_max_entries },
    { now: createClock(), file, onEvent: (source) => reports.event(source) },
  );
  const bootSteps = new BootSteps(general.boot_steps);
  for (const event of file?.stored.slice(file.storedThisBoot) ?? []) bootSteps.observe(event);
  log.onEvent((event) => bootSteps.observe(event));
  if (general.pipe_file !== '') {
    const pipe = await startEventPipe(
      {
        path: general.pipe_file,
        mode: general.pipe_mode,
        fragmentMs: general.pipe_fragment_ms,
        maxLineBytes: MAX_MESSAGE_CHARACTERS,
      },
      {
        onLine: (line) => void log.add(line, 'pipe'),
        onError: (error) => reports.pipeFailed(error),
      },
    );
    closers.push(() => pipe.close());
  }

  const uploads = new Uploads(config.uploads);
  closers.push(() => uploads.close());
  const actions = new Actions(
    {
      actions: config.actions,
      shell,
      env: general.action_environment === 'inherited' ? env : minimalEnvironment(env),
    },
    {
      log,
      onEnd: (name, failure, seconds, stdout) => reports.action(name, failure, seconds, stdout),
    },
  );
  const largestUpload = Math.max(0, ...[...config.uploads.values()].map(({ maxBytes }) => maxBytes));
  const readTimeoutMs = orForever(general.http_read_timeout_ms);
  const bodies = new BodyReader({
    maxBodyBytes: Math.max(largestUpload, 8 * MAX_PASSWORD_BYTES),
    maxTotalBytes: MAX_BODIES_BYTES,
    maxBodies: MAX_BODIES,
    timeoutMs: readTimeoutMs,
  });
  closers.push(async () => bodies.close());
  const app = createApp(
    { compat, livezOpen: general.livez_open, pprof: general.pprof },
    { access, actions, bodies, bootSteps, log, uploads, reports, now },
  );
  const server = await listenHttp(
    {
      listen: general.listen_addr,
      listeners: 1,
      tls: tls === null ? null : tlsOf(tls.files.current),
      requestClientCertificate: false,
      headTimeoutMs: Math.min(HEAD_TIMEOUT_MS, readTimeoutMs),
      requestTimeoutMs: general.http_read_timeout_ms,
      writeTimeoutMs: orForever(general.http_write_timeout_ms),
      idleTimeoutMs: IDLE_TIMEOUT_MS,
      maxConnections: general.max_connections,
      pipelining: PIPELINING,
    },
    {
      onRequest: getRequestListener(app.fetch, {
        overrideGlobalObjects: false,
        autoCleanupIncoming: false,
        // HTTP/1.0 clients may leave the host out; nothing here depends on it.
        hostname: 'localhost',
      }),
      onEvicted: () => reports.connectionEvicted(),
      unclean: UNCLEAN,
    },
  );
  tls?.files.onChange((credentials) => server.setTls(tlsOf(credentials)));
  closers.push(async () => {
    server.stopAccepting();
    // Who waits for an action gets its answer.
    await actions.close(ACTIONS_GRACE_MS);
    await server.close();
  });
  return {
    address: server.address,
    state: () => ({
      events: log.length,
      connections: server.connections.size,
      certificateEnds: tls?.files.current.notAfter.getTime() ?? null,
    }),
    close,
  };
}

function tlsOf({ certificatePem, privateKeyPem }: Credentials): TlsIdentity {
  return { certificate: certificatePem, key: privateKeyPem };
}

/** As the deployed program answers. */
const UNCLEAN: UncleanAnswers = {
  http(code) {
    if (code === 'HPE_HEADER_OVERFLOW') return rawAnswer('431 Request Header Fields Too Large');
    return rawAnswer(code === 'ERR_HTTP_REQUEST_TIMEOUT' ? '408 Request Timeout' : '400 Bad Request');
  },
  plainHttp: 'HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n',
};

function rawAnswer(status: string): string {
  return `HTTP/1.1 ${status}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: ${status.length}\r\n\r\n${status}`;
}

/** 0 means none. */
function orForever(ms: number): number {
  return ms === 0 ? Number.POSITIVE_INFINITY : ms;
}

function minimalEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return { PATH: env.PATH ?? '/usr/bin:/bin', LANG: 'C.UTF-8' };
}

/** One that cannot be told is a new one at each start of this process. */
async function readBootId(): Promise<string> {
  const text = await readFile(BOOT_ID_FILE, 'utf8').catch(() => crypto.randomUUID());
  return text.trim();
}
