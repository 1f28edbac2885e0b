/**
 * `npm run operator-api`: the operator API as a process. SIGTERM or SIGINT ends it once what runs is done; a second
 * one at once. Exit codes: 0 after an end, 1 when it could not start, as the deployed system-api.
 */
import { open } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { Registry } from 'prom-client';
import { startMetricsServer } from './ingress/plain-servers.ts';
import { createLogger } from './log.ts';
import { operatorMetrics } from './metrics/operator-metrics.ts';
import type { Compat } from './operator/answers.ts';
import { type OperatorConfig, readConfig } from './operator/config.ts';
import { hashPassword } from './operator/password.ts';
import { type OperatorApi, startOperatorApi } from './operator/server.ts';
import { operatorReports } from './operator-reports.ts';

const HELP = `Usage: npm run operator-api -- --config FILE [options]
       npm run operator-api -- hash-password < FILE

The operator's window into the machine: event log, actions, file uploads, a page.

  --config FILE        TOML; its keys are in operator/README.md
  --compat 0.7         answers with the empty bodies of system-api v0.7.0
  --listen-addr ADDR   over general.listen_addr
  --pipe-file FILE     over general.pipe_file
  --help               this text

  hash-password        reads a password from standard input, up to its first line break, and prints the line
                       for general.basic_auth_secret_hash

  SHELL_TO_USE         (environment) shell of actions that are command lines; default /bin/ash
  MAX_EVENTS           (environment) general.log_max_entries where the file has none
`;

const MAX_CONFIG_BYTES = 1024 * 1024;
const DEFAULT_SHELL = '/bin/ash';

function fail(error: unknown): never {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}

function readOptions() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      config: { type: 'string' },
      compat: { type: 'string' },
      'listen-addr': { type: 'string' },
      'pipe-file': { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  const [command, ...rest] = positionals;
  if (rest.length > 0 || (command !== undefined && command !== 'hash-password')) {
    throw new Error(`${positionals.join(' ')}: no such command; --help shows what there is`);
  }
  if (values.compat !== undefined && values.compat !== '0.7') {
    throw new Error(`--compat: ${JSON.stringify(values.compat)} is not allowed; allowed is 0.7`);
  }
  const compat: Compat = values.compat ?? 'none';
  return { ...values, compat, command };
}

type Options = ReturnType<typeof readOptions>;

async function readConfigFile(options: Options): Promise<OperatorConfig> {
  const overrides = {
    listenAddr: options['listen-addr'],
    pipeFile: options['pipe-file'],
    maxEvents: process.env.MAX_EVENTS === '' ? undefined : process.env.MAX_EVENTS,
  };
  if (options.config === undefined) return readConfig('', overrides);
  try {
    return readConfig(await readBounded(options.config), overrides);
  } catch (error) {
    throw new Error(`${options.config}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}

async function readBounded(path: string): Promise<string> {
  const file = await open(path);
  try {
    const { size } = await file.stat();
    if (size > MAX_CONFIG_BYTES) throw new Error(`is larger than ${MAX_CONFIG_BYTES} bytes`);
    return await file.readFile('utf8');
  } finally {
    await file.close();
  }
}

async function printHash(): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  const [password = ''] = Buffer.concat(chunks).toString('utf8').split(/\r?\n/);
  if (password === '') throw new Error('standard input: is empty; the password is expected there');
  process.stdout.write(`${await hashPassword(Buffer.from(password))}\n`);
}

async function serve(options: Options): Promise<void> {
  const config = await readConfigFile(options);
  const { general } = config;
  const log = createLogger({ json: general.log_json, debug: general.log_debug, service: 'operator-api' });
  let api: OperatorApi | null = null;
  let stopping = false;
  const started = Promise.withResolvers<void>();
  const stop = async (signal: string) => {
    if (stopping) process.exit(1);
    stopping = true;
    log.info({ event: 'stopping', signal }, 'stopping');
    await started.promise;
    await api?.close();
    process.exit(0);
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      stop(signal).catch(fail);
    });
  }
  const registry = new Registry();
  const metrics = operatorMetrics(registry, {
    events: () => api?.state().events ?? 0,
    connections: () => api?.state().connections ?? 0,
    certificateEnds: () => api?.state().certificateEnds ?? null,
  });
  api = await startOperatorApi(
    {
      config,
      compat: options.compat,
      shell: process.env.SHELL_TO_USE || DEFAULT_SHELL,
      env: process.env,
    },
    operatorReports(log, metrics),
  );
  if (general.metrics_addr !== null) {
    const server = await startMetricsServer(general.metrics_addr, {
      contentType: registry.contentType,
      text: () => registry.metrics(),
    });
    logListening('metrics', server.address);
  }
  started.resolve();
  logListening('operator', api.address);

  function logListening(server: string, { host, port }: { host: string; port: number }): void {
    const address = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
    log.info({ event: 'listening', server, address }, `${server} API listens`);
  }
}

try {
  const options = readOptions();
  if (options.help) process.stdout.write(HELP);
  else if (options.command === 'hash-password') await printHash();
  else await serve(options);
} catch (error) {
  fail(error);
}
