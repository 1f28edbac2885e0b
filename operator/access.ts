/**
 * Who may use the API: HTTP Basic (RFC 7617) as `admin` with the one password, compared in constant time against a
 * slow hash. One that was right is remembered for its address, so that only the first request of a client costs the
 * hash; a guess always does.
 */
import { createHmac, hash, randomBytes, timingSafeEqual } from 'node:crypto';
import { readSecret, writeAtomically } from '../identity/store.ts';
import { LoginLimit } from './login-limit.ts';
import { deployedHash, hashPassword, parseStoredHash, type StoredHash, verifyPassword } from './password.ts';

export interface AccessOptions {
  /** Where the hash is kept; empty = nowhere, the password cannot be set. */
  readonly path: string;
  /** Used while the file has none; empty = none. */
  readonly firstHash: string;
  /** Of hashes in the deployed form. */
  readonly salt: string;
  readonly newHashes: 'argon2id' | 'sha256';
  readonly rules: 'strict' | 'none';
  readonly withoutPassword: 'locked' | 'open';
  readonly failuresPerMinute: number;
}

export interface AccessModules {
  /** Milliseconds, from any start. */
  readonly now: () => number;
}

export type Admission =
  | { readonly kind: 'admitted' }
  /** There is no password yet. */
  | { readonly kind: 'no password'; readonly open: boolean }
  /** Credentials. */
  | { readonly kind: 'none given' | 'wrong' }
  /** Too many failures, or too much to do; again after so many seconds. */
  | { readonly kind: 'throttled' | 'busy'; readonly retryAfter: number };

export type PasswordChange =
  | { readonly kind: 'changed' }
  | { readonly kind: 'refused'; readonly reason: string }
  | { readonly kind: 'unsupported' }
  /** Since the caller was admitted the password has become another. */
  | { readonly kind: 'stale' }
  | { readonly kind: 'failed'; readonly error: Error };

const USER = 'admin';
/** More than any password and header here. */
const MAX_HEADER_CHARACTERS = 4096;
export const MAX_PASSWORD_BYTES = 1024;
const MIN_PASSWORD_BYTES = 8;
/** Hashes being made at once cost 19 MiB each; one at a time leaves a core of two. */
const MAX_WAITING = 16;
const MAX_REMEMBERED = 64;
const MAX_FILE_CHARACTERS = 4096;

export class Access {
  readonly #options: AccessOptions;
  readonly #limit: LoginLimit;
  /** Of this process: what is remembered helps nobody who reads it elsewhere. */
  readonly #key = randomBytes(32);
  /** Keyed hashes of address and credentials that were right; the one unused longest first. */
  readonly #remembered = new Set<string>();
  /** Those being looked at, by the same keyed hashes. */
  readonly #checking = new Map<string, Promise<Admission>>();
  #stored: StoredHash | undefined;
  #generation = 0;
  #waiting = 0;
  #turn: Promise<unknown> = Promise.resolve();

  /** Use `openAccess`. */
  constructor(options: AccessOptions, modules: AccessModules, stored: StoredHash | undefined) {
    this.#options = options;
    this.#limit = new LoginLimit(options.failuresPerMinute, modules.now);
    this.#stored = stored;
  }

  get hasPassword(): boolean {
    return this.#stored !== undefined;
  }

  /** Whether everybody may do everything while there is no password. */
  get open(): boolean {
    return this.#options.withoutPassword === 'open';
  }

  /** Whether there is a place for a password. */
  get canChange(): boolean {
    return this.#options.path !== '';
  }

  /** Changes with each change of the password. */
  get generation(): number {
    return this.#generation;
  }

  /**
   * @param authorization the header, or undefined
   * @param address of the caller, without port
   */
  async admit(authorization: string | undefined, address: string): Promise<Admission> {
    const stored = this.#stored;
    if (stored === undefined) {
      return { kind: 'no password', open: this.open };
    }
    if (authorization === undefined) return { kind: 'none given' };
    const mark = this.#markOf(address, authorization);
    // The same again, from the same client, before the first is answered: no further guess.
    const alike = this.#checking.get(mark);
    if (alike !== undefined) return alike;
    const retryAfter = this.#limit.take(address);
    if (retryAfter > 0) return { kind: 'throttled', retryAfter };
    if (this.#remembered.delete(mark)) {
      this.#remembered.add(mark);
      this.#limit.giveBack(address);
      return { kind: 'admitted' };
    }
    const credentials = readBasic(authorization);
    if (credentials === undefined) return { kind: 'wrong' };
    if (this.#waiting >= MAX_WAITING) {
      this.#limit.giveBack(address);
      return { kind: 'busy', retryAfter: 1 };
    }
    const checking = this.#look(stored, credentials, mark, address).finally(() =>
      this.#checking.delete(mark),
    );
    this.#checking.set(mark, checking);
    return checking;
  }

  async #look(
    stored: StoredHash,
    credentials: Credentials,
    mark: string,
    address: string,
  ): Promise<Admission> {
    if (!(await this.#check(stored, credentials))) return { kind: 'wrong' };
    this.#limit.giveBack(address);
    this.#remember(mark);
    return { kind: 'admitted' };
  }

  /** @returns whether these are the credentials, and still are when the slow hash is done. */
  async #check(stored: StoredHash, { user, password }: Credentials): Promise<boolean> {
    const generation = this.#generation;
    const right = await this.#inTurn(async () => {
      // The deployed form is quick, guesses at it shall not be: they are what bounds many addresses together.
      if (stored.kind === 'sha256') await hashPassword(password);
      return verifyPassword(stored, password, this.#options.salt);
    });
    // Both are always looked at, so that the time does not tell which one was wrong.
    return sameText(user, USER) && right && generation === this.#generation;
  }

  /**
   * Makes `password` the password, for all requests from now on.
   *
   * @param generation that of when the caller was admitted
   */
  async setPassword(password: Buffer, generation: number): Promise<PasswordChange> {
    const { path, rules, newHashes, salt } = this.#options;
    if (path === '') return { kind: 'unsupported' };
    const reason = rules === 'strict' ? whyRefused(password) : undefined;
    if (reason !== undefined) return { kind: 'refused', reason };
    if (this.#waiting >= MAX_WAITING)
      return { kind: 'failed', error: new Error('too many wait for their turn') };
    return this.#inTurn(async (): Promise<PasswordChange> => {
      if (generation !== this.#generation) return { kind: 'stale' };
      const line = newHashes === 'sha256' ? deployedHash(password, salt) : await hashPassword(password);
      try {
        await writeAtomically(path, line);
      } catch (error) {
        return { kind: 'failed', error: error instanceof Error ? error : new Error(String(error)) };
      }
      this.#stored = parseStoredHash(line);
      this.#generation += 1;
      this.#remembered.clear();
      return { kind: 'changed' };
    });
  }

  /** One after another, in order of arrival. */
  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    this.#waiting += 1;
    const mine = this.#turn.then(work);
    this.#turn = mine.catch(() => undefined);
    try {
      return await mine;
    } finally {
      this.#waiting -= 1;
    }
  }

  #markOf(address: string, authorization: string): string {
    return createHmac('sha256', this.#key).update(`${address}\0${authorization}`).digest('base64');
  }

  #remember(mark: string): void {
    this.#remembered.add(mark);
    for (const oldest of this.#remembered) {
      if (this.#remembered.size <= MAX_REMEMBERED) return;
      this.#remembered.delete(oldest);
    }
  }
}

/** @throws Error naming the file when others may read it or it holds no hash */
export async function openAccess(options: AccessOptions, modules: AccessModules): Promise<Access> {
  const text = options.path === '' ? '' : ((await readSecret(options.path)) ?? '');
  if (text === '') return new Access(options, modules, parseStoredHash(options.firstHash));
  const stored = text.length > MAX_FILE_CHARACTERS ? undefined : parseStoredHash(text);
  if (stored === undefined) {
    throw new Error(`${options.path} is neither empty nor a password hash`);
  }
  return new Access(options, modules, stored);
}

interface Credentials {
  readonly user: string;
  readonly password: Buffer;
}

function readBasic(header: string): Credentials | undefined {
  if (header.length > MAX_HEADER_CHARACTERS) return undefined;
  const encoded = /^Basic +([A-Za-z0-9+/]+={0,2})$/i.exec(header)?.[1];
  if (encoded === undefined) return undefined;
  const bytes = Buffer.from(encoded, 'base64');
  const colon = bytes.indexOf(':');
  if (colon === -1) return undefined;
  return { user: bytes.toString('utf8', 0, colon), password: bytes.subarray(colon + 1) };
}

/** Hashes are of one length, which the comparison needs. */
function sameText(a: string, b: string): boolean {
  return timingSafeEqual(hash('sha256', a, 'buffer'), hash('sha256', b, 'buffer'));
}

function whyRefused(password: Buffer): string | undefined {
  if (password.length < MIN_PASSWORD_BYTES) return `body: is shorter than ${MIN_PASSWORD_BYTES} bytes`;
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(password);
  } catch {
    return 'body: is not UTF-8';
  }
  // A browser cannot send these, and most often they are the line break of a file.
  return /\p{Cc}/u.test(text) ? 'body: has a control character, such as a line break' : undefined;
}
