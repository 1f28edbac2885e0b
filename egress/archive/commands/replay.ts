/** `archive replay`: sends archived orders to a builder again, at the pace at which they came or at another. */
import { Agent, type RequestOptions, request } from 'node:http';
import { Agent as SecureAgent, request as secureRequest } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { asError } from '../failure.ts';
import { type Command, EXIT, parseOptions, UsageError } from './command.ts';
import { findingLine, INSPECT_HELP, INSPECT_OPTIONS, openReading, plural } from './reading.ts';
import { parseSelection, SELECT_HELP, SELECT_OPTIONS } from './select.ts';
import { WHERE_HELP, WHERE_OPTIONS, whereOf } from './where.ts';

const OPTIONS = {
  ...WHERE_OPTIONS,
  ...SELECT_OPTIONS,
  ...INSPECT_OPTIONS,
  to: { type: 'string' },
  speed: { type: 'string' },
  connections: { type: 'string' },
} as const;

const DEFAULT_CONNECTIONS = 8;
const MAX_CONNECTIONS = 256;
const TIMEOUT_MS = 30_000;
/** An answer longer than this is no builder's. */
const MAX_ANSWER_BYTES = 1024 * 1024;
/** Failures that are printed; further ones are counted. */
const PRINTED = 10;

export const replayCommand: Command = {
  name: 'replay',
  summary: 'send archived orders to a builder again, at real or scaled speed',
  help: `Usage: npm run archive -- replay --to URL [options]

Sends each archived order to a builder's JSON-RPC endpoint, byte for byte as the node sent it, in the order and at the pace in
which they were received. Checks on the way what verify checks; altered records are not sent.

  --to URL          the builder, http:// or https://
  --speed FACTOR    1 = as received (default), 10 = ten times as fast, 0.5 = half, max = as fast as the builder answers
  --connections N   orders on their way at once (default ${DEFAULT_CONNECTIONS}, at most ${MAX_CONNECTIONS}; with 1 each waits for the answer to the one before)
${WHERE_HELP}
${SELECT_HELP}
${INSPECT_HELP}

Exit code: 0 all were taken, 1 interrupted, or the builder refused some, or a problem was found (printed), 2 wrong usage.`,

  async run(args, surroundings) {
    const values = parseOptions(args, OPTIONS);
    const selection = parseSelection(values, surroundings.now());
    const url = parseUrl(values.to);
    const speed = parseSpeed(values.speed);
    const connections = parseConnections(values.connections);
    const where = await whereOf(values, surroundings);
    const { stderr, signal } = surroundings;
    const reading = await openReading(
      {
        where,
        selection,
        inspect: values['no-inspect'] !== true,
        onFinding: (finding) => {
          if (finding.kind === 'problem') stderr.write(findingLine(finding));
        },
      },
      surroundings,
    );
    const builder = new Builder(url, connections);
    const pace = new Pace(speed);
    let sent = 0;
    let failed = 0;
    const underWay = new Set<Promise<void>>();
    const send = async (body: Buffer, place: string) => {
      const problem = await builder.post(body);
      if (problem === null) {
        sent += 1;
        return;
      }
      failed += 1;
      if (failed <= PRINTED) stderr.write(`FAILED  ${place}: ${problem}\n`);
      if (failed === PRINTED) stderr.write('further failures are counted only\n');
    };
    try {
      for await (const record of reading.records()) {
        if (signal.aborted) break;
        if (!selection.matches(record)) continue;
        await pace.wait(record.receivedAtUs, signal);
        if (signal.aborted) break;
        const { nodeId, epoch, sequence } = record;
        // The value is valid until the next record is read; sending takes longer.
        const place = `sequence ${sequence} of epoch ${epoch} of node ${nodeId}`;
        const sending = send(Buffer.from(record.value), place).finally(() => underWay.delete(sending));
        underWay.add(sending);
        if (underWay.size >= connections) await Promise.race(underWay);
      }
      await Promise.all(underWay);
    } finally {
      builder.close();
      await reading.end();
    }
    if (signal.aborted) stderr.write('interrupted: not everything was sent\n');
    const { problems } = reading;
    stderr.write(`${plural(sent, 'order')} sent, ${failed} failed, ${plural(problems, 'problem')} found\n`);
    return failed > 0 || problems > 0 || signal.aborted ? EXIT.problem : EXIT.ok;
  },
};

function parseUrl(text: string | undefined): URL {
  if (text === undefined) throw new UsageError('--to: the URL of a builder is missing');
  const url = URL.parse(text);
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw new UsageError(`--to: '${text}' is no http:// or https:// URL`);
  }
  return url;
}

/** @returns the factor; infinity: as fast as it goes. */
function parseSpeed(text: string | undefined): number {
  if (text === undefined) return 1;
  if (text === 'max') return Number.POSITIVE_INFINITY;
  const speed = /^\d{1,6}(?:\.\d{1,6})?$/.test(text) ? Number(text) : 0;
  if (speed > 0) return speed;
  throw new UsageError(`--speed: '${text}' is neither a number above 0 nor max`);
}

function parseConnections(text: string | undefined): number {
  const connections = Number(text ?? DEFAULT_CONNECTIONS);
  if (Number.isInteger(connections) && connections >= 1 && connections <= MAX_CONNECTIONS) return connections;
  throw new UsageError(`--connections: '${text}' is no number from 1 to ${MAX_CONNECTIONS}`);
}

/** Waits until an order is due, counted from the first one. */
class Pace {
  readonly #speed: number;
  #firstUs: number | null = null;
  #startedAt = 0;

  constructor(speed: number) {
    this.#speed = speed;
  }

  async wait(receivedAtUs: number, signal: AbortSignal): Promise<void> {
    if (this.#firstUs === null) {
      this.#firstUs = receivedAtUs;
      this.#startedAt = performance.now();
    }
    const due = this.#startedAt + (receivedAtUs - this.#firstUs) / 1000 / this.#speed;
    // A timer holds 24 days at most.
    for (let left = due - performance.now(); left >= 1; left = due - performance.now()) {
      await sleep(Math.min(left, 86_400_000), undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
    }
  }
}

/** A builder's endpoint. */
class Builder {
  readonly #url: URL;
  readonly #options: RequestOptions;
  readonly #request: typeof request;
  readonly #agent: Agent;

  constructor(url: URL, connections: number) {
    const agentOptions = { keepAlive: true, maxSockets: connections };
    const secure = url.protocol === 'https:';
    this.#url = url;
    this.#request = secure ? secureRequest : request;
    this.#agent = secure ? new SecureAgent(agentOptions) : new Agent(agentOptions);
    this.#options = { method: 'POST', agent: this.#agent, timeout: TIMEOUT_MS };
  }

  /** Sends one order. @returns null when the builder took it, else why it did not; never rejects. */
  post(body: Buffer): Promise<string | null> {
    const headers = { 'content-type': 'application/json', 'content-length': body.length };
    const { promise, resolve } = Promise.withResolvers<string | null>();
    const sending = this.#request(this.#url, { ...this.#options, headers }, (response) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > MAX_ANSWER_BYTES) sending.destroy(new Error('the answer is too long'));
        else chunks.push(chunk);
      });
      response.once('end', () => resolve(problemOf(response.statusCode ?? 0, Buffer.concat(chunks))));
      response.once('error', (error) => resolve(error.message));
    });
    sending.once('timeout', () => sending.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
    sending.once('error', (error) => resolve(error.message));
    sending.end(body);
    return promise;
  }

  close(): void {
    this.#agent.destroy();
  }
}

/** @returns why an answer is no success, or null. The builder's own text may quote the order and is left out. */
function problemOf(status: number, body: Buffer): string | null {
  if (status !== 200) return `HTTP status ${status}`;
  let answer: unknown;
  try {
    answer = JSON.parse(body.toString());
  } catch (error) {
    return `the answer is no JSON: ${asError(error).name}`;
  }
  const failure = typeof answer === 'object' && answer !== null && 'error' in answer ? answer.error : null;
  if (failure === null || failure === undefined) return null;
  const code = typeof failure === 'object' && 'code' in failure ? failure.code : null;
  return `JSON-RPC error ${typeof code === 'number' ? code : 'without a code'}`;
}
