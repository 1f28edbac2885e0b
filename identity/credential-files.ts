/**
 * A certificate and its key in two files that others replace, such as an ACME client: looked at twice a minute, as a
 * watch would miss what changes behind links and mounts.
 *
 * Limits: replaced one after the other, the two do not belong together for a moment, so a fault counts when it is still
 * there at the next look. Meanwhile, and as long as they cannot be used, the last good ones stay.
 */
import { createSecureContext } from 'node:tls';
import { type Credentials, readCredentials } from './certificate.ts';
import { readSecret, readText } from './store.ts';
import { systemTimer, type Timer } from './timer.ts';

export interface CredentialPaths {
  /** PEM; what stands behind the certificate is its chain. */
  readonly certPath: string;
  /** PEM, readable by its owner alone. */
  readonly keyPath: string;
}

export interface CredentialFilesEvents {
  /** Others are in force now. */
  changed?(credentials: Credentials): void;
  /** The files cannot be used; said once until they can. */
  failed?(error: Error): void;
}

export interface CredentialFilesModules {
  readonly timer?: Timer | undefined;
  readonly events?: CredentialFilesEvents | undefined;
  /** Asked at every look about what the files hold. @returns whether it has replaced them */
  readonly upkeep?: ((held: Credentials) => Promise<boolean>) | undefined;
}

const LOOK_MS = 30_000;

export class CredentialFiles {
  readonly #paths: CredentialPaths;
  readonly #modules: CredentialFilesModules;
  readonly #timer: Timer;
  readonly #listeners = new Set<(credentials: Credentials) => void>();
  #current: Credentials;
  #looking: Promise<void> | undefined;
  #failures = 0;
  #cancel: () => void = () => undefined;
  #closed = false;

  private constructor(paths: CredentialPaths, current: Credentials, modules: CredentialFilesModules) {
    this.#paths = paths;
    this.#current = current;
    this.#modules = modules;
    this.#timer = modules.timer ?? systemTimer;
  }

  /** @throws Error naming the file: it is missing, damaged, readable by others, or the two do not belong together */
  static async open(paths: CredentialPaths, modules: CredentialFilesModules = {}): Promise<CredentialFiles> {
    const files = new CredentialFiles(paths, await read(paths), modules);
    await files.look();
    return files;
  }

  get current(): Credentials {
    return this.#current;
  }

  /** Calls `listener` with all that come into force from now on. */
  onChange(listener: (credentials: Credentials) => void): void {
    this.#listeners.add(listener);
  }

  /** Looks now; also done by itself. Never rejects. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
      this.#cancel();
      if (!this.#closed) this.#cancel = this.#timer.after(LOOK_MS, () => void this.look());
    });
    return this.#looking;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#cancel();
    await this.#looking;
  }

  async #look(): Promise<void> {
    try {
      const held = await read(this.#paths);
      this.#take(held);
      if ((await this.#modules.upkeep?.(held)) === true) this.#take(await read(this.#paths));
      this.#failures = 0;
    } catch (error) {
      this.#failures += 1;
      if (this.#failures === 2) {
        this.#modules.events?.failed?.(error instanceof Error ? error : new Error(String(error)));
      }
    }
  }

  #take(credentials: Credentials): void {
    const { certificatePem, privateKeyPem } = this.#current;
    if (credentials.certificatePem === certificatePem && credentials.privateKeyPem === privateKeyPem) return;
    this.#current = credentials;
    for (const listener of this.#listeners) listener(credentials);
    this.#modules.events?.changed?.(credentials);
  }
}

async function read({ certPath, keyPath }: CredentialPaths): Promise<Credentials> {
  const certificate = await readText(certPath);
  if (certificate === undefined) throw new Error(`${certPath} is missing`);
  const key = await readSecret(keyPath);
  if (key === undefined) throw new Error(`${keyPath} is missing`);
  try {
    const credentials = readCredentials(certificate, key);
    // What TLS would not take is found here, not in a handshake.
    createSecureContext({ cert: certificate, key });
    return credentials;
  } catch (error) {
    throw new Error(`${certPath}, ${keyPath}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}
