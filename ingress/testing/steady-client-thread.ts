/** The thread of steady-client.ts. */
import { Agent as HttpAgent, request as httpRequest, type RequestOptions } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { parentPort, workerData } from 'node:worker_threads';
import type { RpcAnswer } from '../../devnet/client.ts';
import { answerProblem } from '../../devnet/once.ts';
import { createOrderSource, type GeneratedOrder } from '../../devnet/orders.ts';
import type { Command, SteadyClientOptions, SteadyReport } from './steady-client.ts';

const ANSWER_TIMEOUT_MS = 10_000;

const { url, certificatePem, seed, everyMs } = workerData as SteadyClientOptions;
const source = createOrderSource({ seed });
const target = new URL(url);
const secure = target.protocol === 'https:';
const sockets = { keepAlive: true, maxSockets: 32 };
const agent = secure ? new HttpsAgent({ ...sockets, ca: certificatePem }) : new HttpAgent(sockets);

const latencies: number[] = [];
const problems: string[] = [];
const lateMs: number[] = [];
const underWay = new Set<Promise<void>>();
let answered = 0;
let waiting: { count: number; done: () => void } | null = null;

function post(order: GeneratedOrder): Promise<RpcAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<RpcAnswer>();
  const options: RequestOptions = {
    agent,
    method: 'POST',
    timeout: ANSWER_TIMEOUT_MS,
    headers: {
      'content-type': 'application/json',
      'content-length': order.body.length,
      'x-flashbots-signature': order.signature,
    },
  };
  const request = (secure ? httpsRequest : httpRequest)(target, options, (response) => {
    let text = '';
    response.setEncoding('utf8');
    response.on('data', (chunk: string) => {
      text += chunk;
    });
    response.on('error', reject);
    response.on('end', () => {
      const status = response.statusCode ?? 0;
      if (status === 200) resolve({ status, ...(JSON.parse(text) as Omit<RpcAnswer, 'status'>) });
      else reject(new Error(`status ${status}: ${text.slice(0, 100)}`));
    });
  });
  request.on('error', reject);
  request.on('timeout', () => request.destroy(new Error(`no answer within ${ANSWER_TIMEOUT_MS} ms`)));
  request.end(order.body);
  return promise;
}

async function send(): Promise<void> {
  const order = source.next();
  const startMs = performance.now();
  const problem = await post(order).then(
    (answer) => answerProblem(order, answer),
    (error: unknown) => String(error),
  );
  latencies.push(performance.now() - startMs);
  if (problem !== null) problems.push(`order ${order.sequence} (${order.method}): ${problem}`);
  answered += 1;
  if (waiting !== null && answered >= waiting.count) {
    waiting.done();
    waiting = null;
  }
}

let due = performance.now() + everyMs;
const timer = setInterval(() => {
  const now = performance.now();
  lateMs.push(Math.max(0, now - due));
  due = now + everyMs;
  const sent = send().finally(() => underWay.delete(sent));
  underWay.add(sent);
}, everyMs);

async function report(): Promise<SteadyReport> {
  await Promise.all(underWay);
  return { latencies: latencies.splice(0), problems: problems.splice(0), lateMs: lateMs.splice(0) };
}

async function obey(command: Command): Promise<void> {
  if (command.kind === 'orders') {
    const { promise, resolve } = Promise.withResolvers<void>();
    waiting = { count: answered + command.count, done: resolve };
    await promise;
    parentPort?.postMessage(null);
    return;
  }
  if (command.kind === 'close') clearInterval(timer);
  parentPort?.postMessage(await report());
  if (command.kind === 'close') {
    agent.destroy();
    parentPort?.close();
  }
}

parentPort?.on('message', (command: Command) => void obey(command));
