/**
 * Runs one program with fixed arguments, to its end or to a bound: of time or of output. At a bound its whole process
 * group is ended, politely first. It gets no input.
 *
 * Limits: a program that leaves its process group on purpose is not followed; its output is no longer read.
 */
import { type ChildProcess, spawn } from 'node:child_process';

export interface Command {
  /** Program and arguments. */
  readonly argv: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly timeoutMs: number;
  /** Of each of the two outputs. */
  readonly outputBytes: number;
}

export interface CommandResult {
  /** Null when it succeeded, else why it did not, in the words of the deployed program. */
  readonly failure: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** From the polite signal to the other. */
const KILL_AFTER_MS = 2000;
/** From that to giving up on outputs that somebody holds open. */
const ABANDON_AFTER_MS = 1000;

const SIGNAL_NAMES: Readonly<Record<string, string>> = {
  SIGHUP: 'hangup',
  SIGINT: 'interrupt',
  SIGQUIT: 'quit',
  SIGABRT: 'aborted',
  SIGBUS: 'bus error',
  SIGFPE: 'floating point exception',
  SIGKILL: 'killed',
  SIGSEGV: 'segmentation fault',
  SIGPIPE: 'broken pipe',
  SIGTERM: 'terminated',
};

/** @param stop ends it early. Never rejects. */
export function runCommand(command: Command, stop: AbortSignal): Promise<CommandResult> {
  const { promise, resolve } = Promise.withResolvers<CommandResult>();
  const [program = '', ...args] = command.argv;
  const output = { stdout: new Output(command.outputBytes), stderr: new Output(command.outputBytes) };
  const finish = (failure: string | null) =>
    resolve({ failure, stdout: output.stdout.text(), stderr: output.stderr.text() });
  let child: ChildProcess;
  try {
    child = spawn(program, args, {
      detached: true,
      env: command.env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  } catch (error) {
    finish(startFailure(program, error as NodeJS.ErrnoException));
    return promise;
  }

  const timers: NodeJS.Timeout[] = [];
  let ended: string | null = null;
  const end = (reason: string): void => {
    if (ended !== null) return;
    ended = reason;
    signalGroup(child, 'SIGTERM');
    timers.push(
      setTimeout(() => signalGroup(child, 'SIGKILL'), KILL_AFTER_MS),
      setTimeout(() => {
        child.stdout?.destroy();
        child.stderr?.destroy();
      }, KILL_AFTER_MS + ABANDON_AFTER_MS),
    );
  };
  timers.push(setTimeout(() => end(`timed out after ${command.timeoutMs} ms`), command.timeoutMs));
  const onStop = () => end('the server stops');
  stop.addEventListener('abort', onStop);
  if (stop.aborted) onStop();
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]?.on('data', (chunk: Buffer) => {
      if (!output[name].take(chunk)) end(`wrote more than ${command.outputBytes} bytes`);
    });
  }
  child.once('error', (error) => {
    ended ??= startFailure(program, error);
  });
  child.once('close', (code, signal) => {
    for (const timer of timers) clearTimeout(timer);
    stop.removeEventListener('abort', onStop);
    // The leader has gone; what it left behind in its group goes too where it was told to.
    if (ended !== null) signalGroup(child, 'SIGKILL');
    finish(ended ?? exitFailure(code, signal));
  });
  return promise;
}

/** The first bytes of one output. */
class Output {
  readonly #max: number;
  #chunks: Buffer[] = [];
  #bytes = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /** @returns false once there is more than is kept. */
  take(chunk: Buffer): boolean {
    const kept = chunk.subarray(0, this.#max - this.#bytes);
    if (kept.length > 0) this.#chunks.push(kept);
    this.#bytes += kept.length;
    return kept.length === chunk.length;
  }

  text(): string {
    const text = Buffer.concat(this.#chunks).toString('utf8');
    this.#chunks = [];
    return text;
  }
}

/** A group that has gone needs no signal. */
function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') child.kill(signal);
  }
}

function exitFailure(code: number | null, signal: NodeJS.Signals | null): string | null {
  if (signal !== null) return `signal: ${SIGNAL_NAMES[signal] ?? signal}`;
  return code === 0 ? null : `exit status ${code}`;
}

function startFailure(program: string, { code, message }: NodeJS.ErrnoException): string {
  const reasons: Record<string, string> = {
    ENOENT: 'no such file or directory',
    EACCES: 'permission denied',
  };
  return `fork/exec ${program}: ${reasons[code ?? ''] ?? message}`;
}
