/**
 * Typed calls to a child process over Node's IPC channel (structured clone, so typed arrays cross as they are).
 * The child ends when its parent does.
 */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** What a child can be asked; arguments and results are anything that structured clone takes. */
type Calls = Record<string, (...args: never[]) => unknown>;

export interface Child<C extends Calls> {
  readonly pid: number;
  /** @throws what the child's function threw, or that the child has ended. */
  call<K extends keyof C & string>(name: K, ...args: Parameters<C[K]>): Promise<Awaited<ReturnType<C[K]>>>;
  close(): Promise<void>;
}

interface Question {
  readonly id: number;
  readonly name: string;
  readonly args: unknown[];
}
interface Answer {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: string;
}

/**
 * Parent side: starts a module that calls `serveParent`.
 * @param execPath the program that gets `execArgv` and the module; Node unless set
 */
export function startChild<C extends Calls>(
  module: URL,
  execArgv: string[] = [],
  execPath = process.execPath,
): Child<C> {
  const child = fork(fileURLToPath(module), { serialization: 'advanced', execArgv, execPath });
  const open = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  let nextId = 0;
  let gone = false;

  child.on('message', (message) => {
    const { id, result, error } = message as Answer;
    const call = open.get(id);
    open.delete(id);
    if (error === undefined) call?.resolve(result);
    else call?.reject(new Error(error));
  });
  const ended = new Promise<void>((resolve) => {
    child.once('exit', (code, signal) => {
      gone = true;
      for (const call of open.values())
        call.reject(new Error(`${module.pathname} ended with ${code ?? signal}`));
      open.clear();
      resolve();
    });
  });

  return {
    pid: child.pid ?? 0,
    call(name, ...args) {
      const { promise, resolve, reject } = Promise.withResolvers<unknown>();
      if (gone) reject(new Error(`${module.pathname} has ended`));
      const question: Question = { id: nextId++, name, args };
      open.set(question.id, { resolve, reject });
      if (!gone) child.send(question);
      return promise as Promise<never>;
    },
    async close() {
      if (child.connected) child.disconnect();
      await ended;
    },
  };
}

/** Child side: answers the parent's calls, and ends this process when the parent is gone. */
export function serveParent(calls: Calls): void {
  process.on('message', (message) => {
    const { id, name, args } = message as Question;
    void Promise.try(() => calls[name]?.(...(args as never[]))).then(
      (result) => process.send?.({ id, result } satisfies Answer),
      (error: unknown) =>
        process.send?.({ id, error: error instanceof Error ? error.message : String(error) }),
    );
  });
  process.once('disconnect', () => process.exit(0));
}
