/**
 * Loaded into a node under test (`--import`): says how its event loop and its garbage collector fare, what keeps it
 * busy, and what it holds open. It costs the node nothing between two questions but a native histogram timer and a
 * callback per garbage collection.
 *
 * Asked over a Unix socket per thread, `ORDERFLOW_BENCH_HOOK` with `.THREAD` behind it; one JSON line per question.
 * Flags for --import are inherited by worker threads, so each shard answers for itself.
 */
import { Session } from 'node:inspector/promises';
import { createServer, type Socket } from 'node:net';
import { monitorEventLoopDelay, PerformanceObserver } from 'node:perf_hooks';
import { createInterface } from 'node:readline';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { threadId } from 'node:worker_threads';
import type { HookAnswers, HookQuestion } from './hook-client.ts';

const path = process.env.ORDERFLOW_BENCH_HOOK;
const DELAY_RESOLUTION_MS = 5;
const PROFILE_INTERVAL_US = 250;

if (path !== undefined) listen(`${path}.${threadId}`);

function listen(socketPath: string): void {
  const delay = monitorEventLoopDelay({ resolution: DELAY_RESOLUTION_MS });
  delay.enable();
  let pausesMs: number[] = [];
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) pausesMs.push(duration);
  }).observe({ entryTypes: ['gc'] });
  let session: Session | null = null;

  const answers: { [K in HookQuestion]: () => Promise<HookAnswers[K]> | HookAnswers[K] } = {
    /** Since the last time. The histogram's times include the resolution itself, which is taken off. */
    loop() {
      const ms = (nanoseconds: number) => Math.max(0, nanoseconds / 1e6 - DELAY_RESOLUTION_MS);
      const answer = {
        delay: {
          p50: ms(delay.percentile(50)),
          p90: ms(delay.percentile(90)),
          p99: ms(delay.percentile(99)),
          p999: ms(delay.percentile(99.9)),
          max: ms(delay.max),
        },
        pausesMs,
      };
      delay.reset();
      pausesMs = [];
      return answer;
    },
    /** Handles and requests by kind, and the heap after a full collection: stops the node for some 10 ms. */
    held() {
      setFlagsFromString('--expose-gc');
      (runInNewContext('gc') as () => void)();
      const resources: Record<string, number> = {};
      for (const kind of process.getActiveResourcesInfo()) resources[kind] = (resources[kind] ?? 0) + 1;
      const { heapUsed, external } = process.memoryUsage();
      return { resources, liveBytes: heapUsed + external };
    },
    async profile() {
      session = new Session();
      session.connect();
      await session.post('Profiler.enable');
      await session.post('Profiler.setSamplingInterval', { interval: PROFILE_INTERVAL_US });
      await session.post('Profiler.start');
      return null;
    },
    async profiled() {
      if (session === null) throw new Error('no profile was begun');
      const { profile } = await session.post('Profiler.stop');
      session.disconnect();
      session = null;
      return profile;
    },
  };

  async function answer(socket: Socket, question: string): Promise<void> {
    try {
      const ask = answers[question as HookQuestion];
      socket.write(`${JSON.stringify({ answer: await ask() })}\n`);
    } catch (error) {
      socket.write(`${JSON.stringify({ error: String(error) })}\n`);
    }
  }
  const server = createServer((socket) => {
    socket.on('error', () => {});
    createInterface({ input: socket }).on('line', (question) => void answer(socket, question));
    socket.unref();
  });
  server.listen(socketPath);
  server.unref();
}
