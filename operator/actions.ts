/**
 * The operator's actions: programs with fixed arguments, named in the configuration. A caller chooses the name and
 * nothing else. What happened goes into the event log; what a program wrote to its output does not leave.
 */
import type { ActionConfig } from './config.ts';
import type { EventLog } from './event-log.ts';
import { type CommandResult, runCommand } from './run-command.ts';

export interface ActionsOptions {
  readonly actions: ReadonlyMap<string, ActionConfig>;
  /** For shell actions. */
  readonly shell: string;
  readonly env: NodeJS.ProcessEnv;
}

export interface ActionsModules {
  readonly log: EventLog;
  /** @param stdout what it wrote, for a debug log */
  readonly onEnd: (name: string, failure: string | null, seconds: number, stdout: string) => void;
}

/** The last run of an action. */
export interface LastRun {
  /** Unix ms. */
  readonly startedAt: number;
  /** Null while it runs. */
  readonly endedAt: number | null;
  /** Null when it succeeded or runs. */
  readonly failure: string | null;
}

export type ActionOutcome =
  | { readonly kind: 'done' }
  | { readonly kind: 'failed'; readonly failure: string }
  | { readonly kind: 'unknown' }
  | { readonly kind: 'running' }
  | { readonly kind: 'crowded' };

/** Processes at once, over all actions. */
const MAX_RUNNING = 8;
/** Of standard error, in the event of a failure. */
const MAX_ERROR_CHARACTERS = 4096;
const LOGGED_OUTPUT_CHARACTERS = 1024;

export class Actions {
  readonly #options: ActionsOptions;
  readonly #modules: ActionsModules;
  readonly #last = new Map<string, LastRun>();
  readonly #running = new Map<string, Promise<unknown>>();
  readonly #stop = new AbortController();

  constructor(options: ActionsOptions, modules: ActionsModules) {
    this.#options = options;
    this.#modules = modules;
  }

  list(): { name: string; command: string; last: LastRun | undefined }[] {
    return [...this.#options.actions].map(([name, action]) => ({
      name,
      command: commandLine(action),
      last: this.#last.get(name),
    }));
  }

  /** Runs an action to its end. Never rejects. */
  async run(name: string): Promise<ActionOutcome> {
    const action = this.#options.actions.get(name);
    if (action === undefined) return { kind: 'unknown' };
    if (this.#running.has(name)) return { kind: 'running' };
    if (this.#running.size >= MAX_RUNNING || this.#stop.signal.aborted) return { kind: 'crowded' };
    const running = this.#run(name, action);
    this.#running.set(name, running);
    try {
      const { failure } = await running;
      return failure === null ? { kind: 'done' } : { kind: 'failed', failure };
    } finally {
      this.#running.delete(name);
    }
  }

  async #run(name: string, action: ActionConfig): Promise<CommandResult> {
    const { log, onEnd } = this.#modules;
    const startedAt = Date.now();
    this.#last.set(name, { startedAt, endedAt: null, failure: null });
    const line = `${name} = ${commandLine(action)}`;
    // On the disk before it runs: it may be the machine's last.
    await log.add(`[system-api] executing action: ${line}`, 'server');
    const result = await runCommand(
      {
        argv: action.shell ? [this.#options.shell, '-c', ...action.command] : action.command,
        env: this.#options.env,
        timeoutMs: action.timeoutMs,
        outputBytes: action.outputBytes,
      },
      this.#stop.signal,
    );
    const endedAt = Date.now();
    const { failure, stderr, stdout } = result;
    this.#last.set(name, { startedAt, endedAt, failure });
    const told = stderr.slice(0, MAX_ERROR_CHARACTERS).toWellFormed();
    await log.add(
      failure === null
        ? `[system-api] executing action success: ${line}`
        : `[system-api] error executing action: ${name} - error: ${failure} (stderr: ${told})`,
      'server',
    );
    onEnd(name, failure, (endedAt - startedAt) / 1000, stdout.slice(0, LOGGED_OUTPUT_CHARACTERS));
    return result;
  }

  /** Waits for what runs; after `graceMs` it is ended. */
  async close(graceMs: number): Promise<void> {
    const timer = setTimeout(() => this.#stop.abort(), graceMs);
    await Promise.all(this.#running.values());
    clearTimeout(timer);
    this.#stop.abort();
  }
}

/** As in the configuration where it is a shell's; else each argument, in quotes where it has anything but word characters. */
function commandLine({ command, shell }: ActionConfig): string {
  if (shell) return command.join(' ');
  return command.map((part) => (/^[\w@%+=:,./-]+$/.test(part) ? part : JSON.stringify(part))).join(' ');
}
