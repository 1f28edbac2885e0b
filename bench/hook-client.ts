/** The bench's side of hook.ts: one connection per thread of the node under test. */
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import type { Profiler } from 'node:inspector';
import { connect, type Socket } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { createInterface } from 'node:readline';

export interface LoopFigures {
  /** How late the event loop was for a timer, milliseconds. */
  readonly delay: { readonly [key in 'p50' | 'p90' | 'p99' | 'p999' | 'max']: number };
  /** Each garbage collection that stopped the thread, milliseconds. */
  readonly pausesMs: readonly number[];
}

export interface HeldFigures {
  /** Open handles, requests and timers by kind, as process.getActiveResourcesInfo names them. */
  readonly resources: Readonly<Record<string, number>>;
  /** Heap and buffers after a full garbage collection. */
  readonly liveBytes: number;
}

export interface HookAnswers {
  readonly loop: LoopFigures;
  readonly held: HeldFigures;
  readonly profile: null;
  readonly profiled: Profiler.Profile;
}
export type HookQuestion = keyof HookAnswers;

export interface Hook {
  /** One answer per thread of the node, the main thread first. @throws what the hook threw. */
  ask<K extends HookQuestion>(question: K): Promise<HookAnswers[K][]>;
  close(): void;
}

/** Flags and environment that load the hook into a node. */
export function hookedWith(path: string): { execArgv: string[]; env: Record<string, string> } {
  return {
    execArgv: ['--import', new URL('./hook.ts', import.meta.url).href],
    env: { ORDERFLOW_BENCH_HOOK: path },
  };
}

/**
 * Connects to every thread of a node that was started with `hookedWith(path)` and is ready.
 * @throws when there is none
 */
export async function connectHook(path: string): Promise<Hook> {
  const prefix = `${basename(path)}.`;
  const names = (await readdir(dirname(path))).filter((name) => name.startsWith(prefix));
  names.sort((a, b) => Number(a.slice(prefix.length)) - Number(b.slice(prefix.length)));
  if (names.length === 0) throw new Error('the node did not load the hook');
  const threads = await Promise.all(names.map((name) => connectThread(join(dirname(path), name))));
  return {
    ask: (question) => Promise.all(threads.map((thread) => thread.ask(question))),
    close() {
      for (const { socket } of threads) socket.destroy();
    },
  };
}

interface Thread {
  readonly socket: Socket;
  ask<K extends HookQuestion>(question: K): Promise<HookAnswers[K]>;
}

async function connectThread(path: string): Promise<Thread> {
  const socket = connect(path);
  await once(socket, 'connect');
  const waiting: { resolve: (answer: unknown) => void; reject: (error: Error) => void }[] = [];
  createInterface({ input: socket }).on('line', (line) => {
    const { answer, error } = JSON.parse(line) as { answer?: unknown; error?: string };
    if (error === undefined) waiting.shift()?.resolve(answer);
    else waiting.shift()?.reject(new Error(error));
  });
  socket.on('error', () => {});
  socket.once('close', () => {
    for (const { reject } of waiting.splice(0)) reject(new Error('the node under test has ended'));
  });
  return {
    socket,
    ask(question) {
      const { promise, resolve, reject } = Promise.withResolvers<unknown>();
      if (socket.destroyed) reject(new Error('the node under test has ended'));
      else {
        waiting.push({ resolve, reject });
        socket.write(`${question}\n`);
      }
      return promise as Promise<never>;
    },
  };
}
