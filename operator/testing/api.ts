/** Whole operator APIs for tests: real TLS on a free port, a directory of their own, everything ended with the test. */
import { readFile } from 'node:fs/promises';
import type { IncomingHttpHeaders } from 'node:http';
import https from 'node:https';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { Timer } from '../../identity/timer.ts';
import { temporaryDirectory } from '../../testing/directory.ts';
import type { Compat } from '../answers.ts';
import { readConfig } from '../config.ts';
import { type OperatorApi, type OperatorReports, startOperatorApi } from '../server.ts';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export interface CallOptions {
  /** `user:password`. */
  readonly auth?: string | undefined;
  readonly body?: string | Buffer | undefined;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface TestApi {
  readonly handle: OperatorApi;
  readonly directory: string;
  readonly url: string;
  /** Everything reported, in order, as `name:result`. */
  readonly reported: readonly string[];
  /** @param request method and target, such as `GET /livez` */
  call(request: string, options?: CallOptions): Promise<Answer>;
  /** Resolves when a text has been reported so many times since the start. */
  seen(text: string, times?: number): Promise<void>;
}

export interface TestApiOptions {
  /** Of [general], over those for tests. */
  readonly general?: string;
  /** TOML after [general]. */
  readonly tables?: string;
  readonly compat?: Compat;
  readonly shell?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Of an earlier API, to start it again. */
  readonly directory?: string;
  readonly timer?: Timer;
  /** A free port of this machine unless given. */
  readonly listen?: string;
}

/** The configuration that tests share; `DIR` in the given texts stands for the directory. */
export function testConfig(directory: string, general: string, tables: string): string {
  const own = `
listen_addr = "127.0.0.1:0"
tls_cert_path = "DIR/cert.pem"
tls_key_path = "DIR/key.pem"
`;
  const given = /^\s*basic_auth_secret_path/m.test(general)
    ? ''
    : 'basic_auth_secret_path = "DIR/password"\n';
  return `[general]${own}${given}${general}\n${tables}`.replaceAll('DIR', directory);
}

export async function startTestApi(options: TestApiOptions = {}): Promise<TestApi> {
  const directory = options.directory ?? (await temporaryDirectory());
  const reported: string[] = [];
  const waiting = new Set<() => void>();
  const handle = await startOperatorApi(
    {
      config: readConfig(testConfig(directory, options.general ?? '', options.tables ?? ''), {
        listenAddr: options.listen,
      }),
      compat: options.compat ?? 'none',
      shell: options.shell ?? '/bin/bash',
      env: options.env ?? process.env,
      timer: options.timer,
    },
    recorder((text) => {
      reported.push(text);
      for (const look of waiting) look();
    }),
  );
  onTestFinished(() => handle.close());
  const ca = await readFile(join(directory, 'cert.pem'), 'utf8').catch(() => '');
  const until = (met: () => boolean): Promise<void> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const look = () => {
      if (!met()) return;
      waiting.delete(look);
      resolve();
    };
    waiting.add(look);
    look();
    return promise;
  };
  const url = `https://127.0.0.1:${handle.address.port}`;
  return {
    handle,
    directory,
    url,
    reported,
    call: (request, callOptions) => call(url, ca, request, callOptions),
    seen: (text, times = 1) => until(() => reported.filter((one) => one === text).length >= times),
  };
}

/** @returns reports that say what was reported as short texts, errors by their message. */
function recorder(take: (text: string) => void): OperatorReports {
  return {
    answered: (status) => take(`answered:${status}`),
    login: (result) => take(`login:${result}`),
    passwordChanged: (result) => take(`password:${result}`),
    event: (source) => take(`event:${source}`),
    eventFileFailed: (error) => take(`event file:${error.message}`),
    pipeFailed: (error) => take(`pipe:${error.message}`),
    action: (name, failure) => take(`action:${name}:${failure ?? 'done'}`),
    upload: (name, result) => take(`upload:${name}:${result}`),
    certificateMade: () => take('certificate made'),
    certificateChanged: () => take('certificate changed'),
    certificateFailed: (error) => take(`certificate:${error.message}`),
    connectionEvicted: () => take('evicted'),
    fault: (error) => take(`fault:${error.stack}`),
  };
}

/** One request on a connection of its own, trusting exactly the API's certificate. */
function call(url: string, ca: string, request: string, options: CallOptions = {}): Promise<Answer> {
  const space = request.indexOf(' ');
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const sent = https.request(
    new URL(url + request.slice(space + 1)),
    {
      method: request.slice(0, space),
      ca,
      agent: false,
      headers: options.headers ?? {},
      ...(options.auth === undefined ? {} : { auth: options.auth }),
    },
    (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: Buffer.concat(chunks).toString(),
        }),
      );
    },
  );
  sent.on('error', reject);
  sent.end(options.body);
  return promise;
}
