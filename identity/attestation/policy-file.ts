/**
 * A measurement policy in a file that is read again when it changes. A new version that cannot be used changes
 * nothing: the old one stays, and the problem is reported.
 */
import { type FSWatcher, watch } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { MAX_POLICY_BYTES, type Policy, parsePolicy } from './policy.ts';

export interface PolicyFileEvents {
  loaded?(policy: Policy): void;
  /** The change that was not taken over. */
  refused?(reason: string): void;
}

const POLL_MS = 30_000;

export class PolicyFile {
  readonly #path: string;
  readonly #events: PolicyFileEvents;
  #text: string;
  #policy: Policy;
  #watcher: FSWatcher | undefined;
  #poll: NodeJS.Timeout | undefined;
  #reading: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;

  private constructor(path: string, text: string, policy: Policy, events: PolicyFileEvents) {
    this.#path = path;
    this.#text = text;
    this.#policy = policy;
    this.#events = events;
  }

  /**
   * @throws Error naming the file when it cannot be read, is no policy, or has no entry that is verified here
   */
  static async open(path: string, events: PolicyFileEvents = {}): Promise<PolicyFile> {
    const text = await readBounded(path);
    const policy = usable(text);
    if (typeof policy === 'string') throw new Error(`${path}: ${policy}`);
    const file = new PolicyFile(path, text, policy, events);
    events.loaded?.(policy);
    // The directory: editors and deployments put a new file in the old one's place.
    file.#watcher = watch(dirname(path), { persistent: false }, () => void file.reload());
    // Behind a link to another directory nothing is told.
    file.#poll = setInterval(() => void file.reload(), POLL_MS).unref();
    file.#watcher.on('error', (error) => events.refused?.(`is no longer watched: ${error.message}`));
    return file;
  }

  get current(): Policy {
    return this.#policy;
  }

  /** Reads the file again if it differs; also done by itself when its directory changes. */
  reload(): Promise<void> {
    // One read waits at most: it sees whatever has changed by then.
    this.#next ??= this.#reading.then(() => {
      this.#next = undefined;
      this.#reading = this.#read();
      return this.#reading;
    });
    return this.#next;
  }

  async close(): Promise<void> {
    this.#watcher?.close();
    clearInterval(this.#poll);
    await (this.#next ?? this.#reading);
  }

  async #read(): Promise<void> {
    let text: string;
    try {
      text = await readBounded(this.#path);
    } catch (error) {
      // Between the two steps of a replacement there is no file.
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return;
      this.#events.refused?.(error instanceof Error ? error.message : String(error));
      return;
    }
    if (text === this.#text) return;
    this.#text = text;
    const policy = usable(text);
    if (typeof policy === 'string') {
      this.#events.refused?.(policy);
      return;
    }
    this.#policy = policy;
    this.#events.loaded?.(policy);
  }
}

function usable(text: string): Policy | string {
  const policy = parsePolicy(text);
  if (typeof policy === 'string' || policy.entries.length > 0) return policy;
  const [first] = policy.unsupported;
  return first === undefined ? 'it has no entry' : `no entry can be used: ${first.reason}`;
}

async function readBounded(path: string): Promise<string> {
  const { size } = await stat(path);
  if (size > MAX_POLICY_BYTES) throw new Error(`${path} is too big: ${size} bytes`);
  return readFile(path, 'utf8');
}
