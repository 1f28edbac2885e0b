/**
 * The node under test: this project's (or another checkout's) as a process of the bench, or any other node, which
 * somebody starts with the environment that is printed for him.
 */
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { get } from 'node:http';
import { get as getSecurely } from 'node:https';
import { dirname, join } from 'node:path';
import type { ChildGuard } from '../devnet/guard.ts';
import { connectionsOf, parseMetrics, sumOf } from '../devnet/metrics.ts';
import { startNodeProcess } from '../devnet/node-process.ts';
import { connectHook, type Hook, hookedWith } from './hook-client.ts';
import type { LoadTarget } from './load-connection.ts';

export type Transport = 'http' | 'https' | 'h2';

/** What a node needs to know of the bench around it. */
export interface Surroundings {
  readonly builderUrl: string;
  /** The base URL of BuilderHub for this node. */
  readonly hubUrl: string;
  readonly peers: number;
  /** Do they take the order stream? */
  readonly streams: boolean;
}

export interface Subject {
  readonly target: LoadTarget;
  /** Null where nobody told. */
  readonly pid: number | null;
  /** Null for a node that is not ours. */
  readonly hook: Hook | null;
  /** Directory of the project that runs, for profiles. */
  readonly root: string;
  stop(): Promise<void>;
}

export interface OwnNodeOptions {
  readonly transport: Transport;
  /** Settings by environment name, over the bench's own. */
  readonly env: Readonly<Record<string, string>>;
  /** The node's program; the project's main.ts unless set. */
  readonly entry?: string;
  /** Empty, for data, logs and the hook's sockets. */
  readonly directory: string;
  readonly guard: ChildGuard;
}

export interface ForeignNodeOptions {
  /** http:// or https://. */
  readonly url: string;
  readonly h2: boolean;
  /** PEM file of the certificate to trust; needed for https. */
  readonly certificateFile?: string;
  /** To read its CPU time and memory. */
  readonly pid?: number;
  /** A shell command that starts it, with the printed environment set. */
  readonly startCommand?: string;
  /** Tells the person who waits. */
  readonly say: (text: string) => void;
}

const CONNECT_TIMEOUT_MS = 30_000;
const FOREIGN_TIMEOUT_MS = 300_000;
const LOOK_MS = 100;
const PROJECT = dirname(import.meta.dirname);

/** Starts a node with the hook in it; it is connected to all its peers when this resolves. */
export async function startOwnNode(around: Surroundings, options: OwnNodeOptions): Promise<Subject> {
  const any = '127.0.0.1:0';
  const hookPath = join(options.directory, 'hook');
  const hooked = hookedWith(hookPath);
  const node = await startNodeProcess({
    name: 'node',
    guard: options.guard,
    logFile: join(options.directory, 'node.log'),
    ...(options.entry !== undefined && { entry: options.entry }),
    execArgv: hooked.execArgv,
    env: {
      USER_LISTEN_ADDR: any,
      SYSTEM_LISTEN_ADDR: any,
      CERT_LISTEN_ADDR: any,
      METRICS_ADDR: any,
      USER_TLS: options.transport === 'http' ? 'off' : 'on',
      BUILDER_ENDPOINT: around.builderUrl,
      BUILDER_READY_ENDPOINT: around.builderUrl,
      BUILDER_CONFIGHUB_ENDPOINT: around.hubUrl,
      PEER_POLL_SEC: '1',
      DATA_DIR: join(options.directory, 'data'),
      ...options.env,
      ...hooked.env,
    },
  });
  try {
    await peersConnected(node.addresses.metrics, around);
    const hook = await connectHook(hookPath);
    const { hostname, port } = new URL(`http://${node.addresses.user}`);
    const target: LoadTarget = { host: hostname, port: Number(port) };
    return {
      target:
        options.transport === 'http'
          ? target
          : {
              ...target,
              certificate: await textAt(`http://${node.addresses.cert}/cert`),
              protocol: options.transport === 'h2' ? 'h2' : 'http/1.1',
            },
      pid: node.pid,
      hook,
      root: options.entry === undefined ? PROJECT : dirname(options.entry),
      async stop() {
        hook.close();
        await node.stop();
      },
    };
  } catch (error) {
    await node.stop();
    throw error;
  }
}

/** Streams of a peer: one for small orders and one for large. */
const STREAMS_EACH = 2;

async function peersConnected(metricsAddress: string, { peers, streams }: Surroundings): Promise<void> {
  const deadline = performance.now() + CONNECT_TIMEOUT_MS;
  for (;;) {
    const samples = parseMetrics(await textAt(`http://${metricsAddress}/metrics`));
    const connected = connectionsOf(samples).filter(({ connections }) => connections > 0).length;
    const streaming = sumOf(samples, 'orderflow_stream_connections', { direction: 'out' }) / STREAMS_EACH;
    if (connected >= peers && (!streams || streaming >= peers)) return;
    if (performance.now() > deadline)
      throw new Error(
        `the node is connected to ${connected} of ${peers} peers, to ${streaming} by the stream`,
      );
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

/** Environment of any node of the network, in the names that all of them know (protocol section 1). */
function environmentFor(url: string, around: Surroundings): Record<string, string> {
  const { hostname, port, protocol } = new URL(url);
  return {
    USER_LISTEN_ADDR: `${hostname}:${port === '' ? (protocol === 'https:' ? '443' : '80') : port}`,
    USER_TLS: protocol === 'https:' ? 'on' : 'off',
    BUILDER_ENDPOINT: around.builderUrl,
    BUILDER_READY_ENDPOINT: around.builderUrl,
    RPC_ENDPOINT: around.builderUrl,
    BUILDER_CONFIGHUB_ENDPOINT: around.hubUrl,
    BUILDERHUB_ENDPOINT: around.hubUrl,
    TX_VALIDATION: 'strict',
  };
}

/**
 * Prints what a node must be configured with, starts it if told how, and waits until its user API answers.
 * @throws when it does not within five minutes, or ends before
 */
export async function attachForeignNode(
  around: Surroundings,
  options: ForeignNodeOptions,
  guard: ChildGuard,
): Promise<Subject> {
  const { url, say } = options;
  const env = environmentFor(url, around);
  const certificate =
    options.certificateFile === undefined ? undefined : await readFile(options.certificateFile, 'utf8');
  const { hostname, port, protocol } = new URL(url);
  if (protocol === 'https:' && certificate === undefined)
    throw new Error('--target with https needs --target-cert FILE');
  say(`\nenvironment of the node at ${url}, with ${around.peers} peers that the hub lists:`);
  for (const [name, value] of Object.entries(env)) say(`  ${name}=${value}`);
  const started = options.startCommand === undefined ? null : startCommand(options.startCommand, env, guard);
  if (started === null) say(`start it now; the bench waits ${FOREIGN_TIMEOUT_MS / 1000} s for ${url}/livez`);
  try {
    await answers(url, certificate, () => started?.ended ?? null);
  } catch (error) {
    await started?.stop();
    throw error;
  }
  return {
    target: {
      host: hostname,
      port: Number(port),
      ...(certificate !== undefined && { certificate }),
      ...(options.h2 && { protocol: 'h2' as const }),
    },
    pid: options.pid ?? started?.pid ?? null,
    hook: null,
    root: PROJECT,
    async stop() {
      await started?.stop();
    },
  };
}

interface Started {
  readonly pid: number | null;
  /** Why it ended, null while it runs. */
  readonly ended: string | null;
  stop(): Promise<void>;
}

/**
 * `exec` in front, so that the process is the node and not a shell. Of the bench's own environment it gets PATH and
 * HOME: a setting that happens to be there must not change what is measured.
 */
function startCommand(command: string, env: Readonly<Record<string, string>>, guard: ChildGuard): Started {
  const { PATH = '', HOME = '' } = process.env;
  const child = spawn('/bin/sh', ['-c', `exec ${command}`], {
    env: { PATH, HOME, ...env },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const { pid } = child;
  if (pid !== undefined) guard.add(pid);
  let ended: string | null = null;
  const closed = new Promise<void>((resolve) => {
    const over = (reason: string) => {
      if (pid !== undefined) guard.remove(pid);
      ended = reason;
      resolve();
    };
    child.once('error', (error) => over(error.message));
    child.once('exit', (code, signal) => over(`ended with ${code ?? signal}`));
  });
  return {
    pid: pid ?? null,
    get ended() {
      return ended;
    },
    async stop() {
      child.kill('SIGTERM');
      const force = setTimeout(() => child.kill('SIGKILL'), 15_000);
      await closed;
      clearTimeout(force);
    },
  };
}

async function answers(
  url: string,
  certificate: string | undefined,
  ended: () => string | null,
): Promise<void> {
  const deadline = performance.now() + FOREIGN_TIMEOUT_MS;
  let last = '';
  while (performance.now() < deadline) {
    try {
      await textAt(new URL('/livez', url).href, certificate);
      return;
    } catch (error) {
      last = error instanceof Error ? error.message : String(error);
    }
    const reason = ended();
    if (reason !== null) throw new Error(`the node at ${url} ${reason}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  throw new Error(`${url} did not answer: ${last}`);
}

/** GET with any status as a success: an older node may not know the path, but it answers. */
function textAt(url: string, certificate?: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const onResponse = (response: NodeJS.ReadableStream) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
      });
      response.once('end', () => resolve(text));
      response.once('error', reject);
    };
    const request = url.startsWith('https:')
      ? getSecurely(url, certificate === undefined ? {} : { ca: certificate }, onResponse)
      : get(url, onResponse);
    request.once('error', reject);
  });
}
