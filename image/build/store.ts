/**
 * Where everything lives that is not source: a content-addressed store of inputs (`sha256/HASH`), unpacked tools
 * trees, apt's private state and the outputs. It is outside the work tree, holds nothing that cannot be made again
 * and may be deleted at any time.
 */
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  createReadStream,
  existsSync,
  linkSync,
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

/** What a lock says of one input. */
export interface Digest {
  /** Bytes. */
  readonly size: number;
  /** 64 hex digits. */
  readonly sha256: string;
}

/** One store on disk. */
export class Store {
  readonly directory: string;

  /** @param directory absolute; made when it is missing */
  constructor(directory: string) {
    this.directory = directory;
    mkdirSync(join(directory, 'sha256'), { recursive: true });
  }

  /** A directory of the store, made when it is missing. */
  folder(...names: readonly string[]): string {
    const path = join(this.directory, ...names);
    mkdirSync(path, { recursive: true });
    return path;
  }

  /** Where the blob is, whether it is there or not. */
  blob({ sha256 }: Digest): string {
    return join(this.directory, 'sha256', sha256);
  }

  /** Whether the blob is there with the right size; `open` checks its content. */
  has(digest: Digest): boolean {
    const path = this.blob(digest);
    return existsSync(path) && statSync(path).size === digest.size;
  }

  /**
   * The path of a blob whose content has just been checked.
   * @throws Error naming `what` when it is missing or changed; a changed one is removed, so the next fetch brings it
   */
  async open(what: string, digest: Digest): Promise<string> {
    const path = this.blob(digest);
    if (!existsSync(path)) throw new Error(`${what} is not in the store: run \`npm run image -- fetch\``);
    const found = await digestOf(path);
    if (found.sha256 !== digest.sha256 || found.size !== digest.size) {
      rmSync(path);
      throw new Error(
        `${what} was changed in the store (it is ${found.sha256}, the lock says ${digest.sha256})`,
      );
    }
    return path;
  }

  /**
   * Takes a file in under the digest the lock expects.
   * @throws Error naming `what` when the file is another one
   */
  async take(what: string, file: string, expected: Digest): Promise<void> {
    const found = await digestOf(file);
    if (found.sha256 !== expected.sha256 || found.size !== expected.size) {
      throw new Error(
        `${what}: got ${found.size} bytes of sha256 ${found.sha256}, the lock says ${expected.size} of ${expected.sha256}`,
      );
    }
    const target = this.blob(expected);
    const partial = `${target}.${process.pid}`;
    try {
      linkSync(file, partial);
    } catch {
      // Another file system: the rename below still makes it appear whole.
      copyFileSync(file, partial);
    }
    renameSync(partial, target);
  }
}

/** @returns the store named by ORDERFLOW_IMAGE_STORE, or the user's cache directory */
export function defaultStore(environment: NodeJS.ProcessEnv = process.env): Store {
  const cache = environment.XDG_CACHE_HOME ?? join(homedir(), '.cache');
  return new Store(resolve(environment.ORDERFLOW_IMAGE_STORE ?? join(cache, 'orderflow', 'image')));
}

/** Size and sha256 of a file, read in one pass. */
export async function digestOf(file: string): Promise<Digest> {
  const hash = createHash('sha256');
  let size = 0;
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) {
    const bytes = chunk as Buffer;
    hash.update(bytes);
    size += bytes.length;
  }
  return { size, sha256: hash.digest('hex') };
}
