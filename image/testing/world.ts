/** One machine after the other in a development network, with what a test outside asks of it. */
import { spawn } from 'node:child_process';
import { hash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request as httpsRequest } from 'node:https';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createUserClient, type UserClient } from '../../devnet/client.ts';
import { answerProblem } from '../../devnet/once.ts';
import type { GeneratedOrder, OrderSource } from '../../devnet/orders.ts';
import type { RuntimeRegisters } from '../measure/event-log.ts';
import type { Measurement } from '../measure/measurements.ts';
import { makeDataDisk } from '../vm/boot.ts';
import { type Machine, type MachineOptions, startMachine } from '../vm/machine.ts';
import { registersOfMachine } from '../vm/quotes.ts';
import { FORWARDED, type StandIns, startStandIns } from '../vm/stand-ins.ts';

/** Guards against a hang alone: some 50 s to readiness on an idle machine, and a busy one only takes longer. */
export const HANG_S = 900;
const DATA_DISK_BYTES = 512 * 1024 * 1024;
const AGAIN_MS = 250;
const NEXT_ORDER_S = 60;
const PASSWORD = 'a password of the operator';
/** Without a password, with a wrong one, too many attempts. */
const REFUSALS = [401, 403, 429, 503];

/** What the operator's log says of a boot that is through. */
export const BOOTED = ['time', 'config', 'disk', 'node'].map((step) => `boot ${step} done`);

/** Tries again until it does not throw. */
export async function eventually<T>(attempt: () => Promise<T>, seconds = HANG_S): Promise<T> {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }
}

/** What a forwarded port says to a request before it is closed or has been silent for a while. */
export function answerOf(port: number): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const socket = connect({ host: '127.0.0.1', port });
  let received = '';
  socket.setTimeout(3000, () => resolve(received));
  socket.on('connect', () => socket.write('GET / HTTP/1.0\r\n\r\n'));
  socket.on('data', (chunk) => {
    received += chunk.toString();
  });
  socket.on('close', () => resolve(received));
  socket.on('error', () => resolve(received));
  return promise.finally(() => socket.destroy());
}

interface ListedNode {
  readonly name: string;
  readonly orderflow_proxy?: { readonly tls_cert?: string; readonly ecdsa_pubkey_address?: string };
}

export interface WorldOptions {
  /** Root of the tools tree. */
  readonly tools: string;
  /** Folder of the image. */
  readonly image: string;
  /** What the hub hands to it. */
  readonly configuration: unknown;
  /** The image tells nothing of itself: its registers are taken to be those that it must show. */
  readonly silent?: boolean;
}

function registersOfImage(image: string): RuntimeRegisters {
  const all = JSON.parse(readFileSync(join(image, 'measurements.json'), 'utf8')) as Measurement[];
  const tdx = all.find(({ attestation_type: type }) => type === 'dcap-tdx');
  return {
    rtmr1: tdx?.measurements['2']?.expected ?? '',
    rtmr2: tdx?.measurements['3']?.expected ?? '',
  };
}

export class World {
  readonly #options: WorldOptions;
  #configuration: unknown;
  readonly folder = mkdtempSync(join(tmpdir(), 'image-world-'));
  #standIns: StandIns | undefined;
  #machine: Machine | undefined;
  #started = 0;

  constructor(options: WorldOptions) {
    this.#options = options;
    this.#configuration = options.configuration;
    makeDataDisk(this.dataDisk, DATA_DISK_BYTES);
  }

  get dataDisk(): string {
    return join(this.folder, 'data.raw');
  }

  get machine(): Machine {
    if (this.#machine === undefined) throw new Error('no machine runs');
    return this.#machine;
  }

  get standIns(): StandIns {
    if (this.#standIns === undefined) throw new Error('nothing is outside');
    return this.#standIns;
  }

  /** Starts what is outside. */
  async open(): Promise<void> {
    this.#standIns = await startStandIns({ ...this.#options, configuration: this.#configuration });
    this.#attach();
  }

  /** From now on the hub hands out this configuration. */
  async configure(configuration: unknown): Promise<void> {
    this.#configuration = configuration;
    await this.#standIns?.configure(configuration);
  }

  /** Ends what is outside. */
  async shut(): Promise<void> {
    await this.#standIns?.close();
    this.#standIns = undefined;
  }

  async boot(options: Partial<MachineOptions> = {}): Promise<void> {
    this.#started = performance.now();
    this.#machine = await startMachine({
      tools: this.#options.tools,
      disk: join(this.#options.image, 'disk.raw'),
      dataDisk: this.dataDisk,
      forwards: FORWARDED,
      ...options,
    });
    this.#attach();
  }

  #attach(): void {
    const { image, silent } = this.#options;
    if (this.#machine === undefined || this.#standIns === undefined) return;
    this.#standIns.quotes.attach(
      silent === true ? Promise.resolve(registersOfImage(image)) : registersOfMachine(this.#machine),
    );
  }

  /** Waits until a user outside sees that the node is ready. */
  async serving(): Promise<void> {
    await eventually(async () => {
      const user = await this.client();
      try {
        const status = await user.status('/readyz');
        if (status !== 200) throw new Error(`the node answers ${status}`);
      } finally {
        user.close();
      }
    });
    console.log(`ready for orders after ${((performance.now() - this.#started) / 1000).toFixed(1)} s`);
  }

  /** Waits until the node is ready, and both nodes know each other. */
  async ready(): Promise<void> {
    await this.serving();
    // An order goes to the peers that are known when it comes, and peers are asked for now and then.
    await eventually(async () => {
      const { host, port } = this.standIns.node.addresses.metrics ?? { host: '', port: 0 };
      const outside = await (await fetch(`http://${host}:${port}/metrics`)).text();
      const inside = await this.machine.report<string>('get', 'http://127.0.0.1:8090/metrics');
      for (const text of [outside, inside]) {
        if (!/^orderflow_peers 1$/mu.test(text)) throw new Error('the nodes do not know each other');
      }
    });
  }

  /** What the hub lists of a node. @throws Error while it has not registered */
  async listed(name: string): Promise<{ certificate: string; address: string }> {
    const answer = await fetch(`${this.standIns.hub.url}/api/internal/l1-builder/v1/builders`);
    const entry = ((await answer.json()) as ListedNode[]).find((one) => one.name === name)?.orderflow_proxy;
    if (entry?.tls_cert === undefined) throw new Error(`${name} has not registered`);
    return { certificate: entry.tls_cert, address: entry.ecdsa_pubkey_address ?? '' };
  }

  /** A wallet's client of the machine's edge, which knows the certificate that the hub lists. */
  async client(): Promise<UserClient> {
    const { certificate } = await this.listed('vm');
    return createUserClient(`https://localhost:${FORWARDED[443]}`, certificate);
  }

  /**
   * Sends user orders through 443 until one has reached the builder inside, the builder outside, and the archive. A
   * busy machine misses deadlines of the nodes, which then tell the sender so or drop a connection: what is shown
   * here is that the way is open, so the next order is sent.
   * @returns the digest of its canonical form
   */
  async orderComesThrough(orders: OrderSource): Promise<string> {
    const deadline = performance.now() + HANG_S * 1000;
    for (;;) {
      try {
        return await this.#oneOrder(orders.next());
      } catch (error) {
        if (performance.now() > deadline) throw error;
        console.log(`one more order: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  }

  async #oneOrder(order: GeneratedOrder): Promise<string> {
    const user = await this.client();
    try {
      const problem = answerProblem(order, await user.send(order));
      if (problem !== null) throw new Error(problem);
    } finally {
      user.close();
    }
    const digest = hash('sha256', order.canonical);
    await this.takenInside(digest, NEXT_ORDER_S);
    await eventually(async () => {
      const taken = this.standIns.builder.records().map(({ sha256 }) => sha256);
      if (!taken.includes(digest)) throw new Error('the builder outside has not got the order');
    }, NEXT_ORDER_S);
    await eventually(async () => {
      const archive = '/var/lib/persistent/orderflow-proxy/archive';
      if (!(await this.machine.report<string[]>('archived', archive)).includes(digest))
        throw new Error('the order is not in the archive');
    });
    return digest;
  }

  /** Waits until the builder inside has taken the order. @param digest of its canonical form */
  async takenInside(digest: string, seconds: number): Promise<void> {
    await this.machine.waitFor(new RegExp(`builder-standin: order .* sha256 ${digest}`, 'u'), seconds);
  }

  /**
   * Asks the operator API as its operator. Its certificate is the machine's own, so it is not checked here. A password
   * is set as often as there is none: the API starts anew when the configuration comes.
   * @param body is posted
   */
  operator(path: string, body?: string): Promise<OperatorAnswer> {
    const upload = body === undefined ? {} : { body };
    return eventually(async () => {
      const answer = await askOperator(path, { password: PASSWORD, ...upload });
      if (!REFUSALS.includes(answer.status)) return answer;
      await askOperator('/api/v1/set-basic-auth', { body: PASSWORD });
      throw new Error(`the operator API answers ${answer.status}`);
    });
  }

  /**
   * Waits until the operator's log shows all of these: what a step reports takes a moment to get there.
   * @returns the log
   */
  logged(...texts: readonly string[]): Promise<string> {
    return eventually(async () => {
      const { status, text } = await this.operator('/logs');
      const missing = texts.filter((one) => !text.includes(one));
      if (status !== 200 || missing.length > 0)
        throw new Error(`the operator's log (${status}) lacks ${missing.join(', ')}:\n${text}`);
      return text;
    });
  }

  /** Asks the operator API without credentials. */
  stranger(path: string): Promise<OperatorAnswer> {
    return eventually(() => askOperator(path, {}));
  }

  async close(): Promise<void> {
    await this.#machine?.kill();
    await this.shut();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export interface OperatorAnswer {
  readonly status: number;
  readonly text: string;
}

function askOperator(path: string, options: { password?: string; body?: string }): Promise<OperatorAnswer> {
  const { password, body } = options;
  const { promise, resolve, reject } = Promise.withResolvers<OperatorAnswer>();
  const request = httpsRequest(
    {
      host: '127.0.0.1',
      port: FORWARDED[3535],
      path,
      method: body === undefined ? 'GET' : 'POST',
      rejectUnauthorized: false,
      agent: false,
      ...(password === undefined ? {} : { auth: `admin:${password}` }),
    },
    (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }),
      );
    },
  );
  request.on('error', reject);
  request.end(body);
  return promise;
}

export interface ProgramEnd {
  readonly status: number | null;
  readonly output: string;
  readonly errors: string;
}

export interface ProgramOptions {
  /** Beside that of this process. */
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
}

/** Runs a program of this project to its end. */
export function outputOf(
  program: string,
  args: readonly string[],
  { env = {}, input = '' }: ProgramOptions = {},
): Promise<ProgramEnd> {
  const child = spawn(process.execPath, [join(import.meta.dirname, '../..', program), ...args], {
    env: { ...process.env, ...env },
  });
  // It may end without having read all of it.
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const { promise, resolve, reject } = Promise.withResolvers<ProgramEnd>();
  let output = '';
  let errors = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    errors += chunk.toString();
  });
  child.once('error', reject);
  child.once('close', (status) => resolve({ status, output, errors }));
  return promise;
}
