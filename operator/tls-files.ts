/**
 * The API's certificate and key: read from their files, or made when neither is there. They are read again when they
 * change, and a certificate that was made here is renewed, for the same key, ahead of its end or for other hosts.
 *
 * A made certificate is written beside its place and moved there once the key is in its own. A crash in between leaves
 * a key and the certificate that waits for it; the next start moves it.
 */
import { rename, rm } from 'node:fs/promises';
import {
  type Credentials,
  createCredentials,
  isMadeBy,
  namesExactly,
  readCredentials,
  renewalTime,
} from '../identity/certificate.ts';
import { CredentialFiles, type CredentialFilesEvents } from '../identity/credential-files.ts';
import { readSecret, readText, writeAtomically } from '../identity/store.ts';
import { systemTimer, type Timer } from '../identity/timer.ts';

export interface TlsFilesOptions {
  readonly certPath: string;
  readonly keyPath: string;
  readonly createIfMissing: boolean;
  /** Names of a made certificate. */
  readonly hosts: readonly string[];
}

export interface TlsFilesModules {
  readonly timer?: Timer | undefined;
  readonly events?: CredentialFilesEvents | undefined;
}

const VALIDITY_DAYS = 365;
/** The subject's organization of a made certificate: those of others are not replaced. */
const MADE_HERE = 'orderflow operator API';
/** Beside the certificate's place until the key is in its own. */
const PREPARED = '.prepared';

/**
 * @returns the credentials, kept current until they are closed, and whether they were made
 * @throws Error naming the file: one is missing, damaged, readable by others, or they do not belong together
 */
export async function openTlsFiles(
  options: TlsFilesOptions,
  { timer = systemTimer, events }: TlsFilesModules = {},
): Promise<{ files: CredentialFiles; made: boolean }> {
  const { made } = await readOrMake(options, timer);
  const upkeep = (held: Credentials) => renewIfDue(options, held, timer.now());
  return { files: await CredentialFiles.open(options, { timer, events, upkeep }), made };
}

/** @returns whether there is another certificate now */
async function renewIfDue(
  { certPath, createIfMissing, hosts }: TlsFilesOptions,
  held: Credentials,
  now: number,
): Promise<boolean> {
  if (!createIfMissing || !isMadeBy(held.certificatePem, MADE_HERE)) return false;
  if (now < renewalTime(held) && namesExactly(held.certificatePem, hosts)) return false;
  const { privateKeyPem } = held;
  const { certificatePem } = await make(hosts, now, privateKeyPem);
  await writeAtomically(certPath, certificatePem);
  return true;
}

/** @param privateKeyPem a new one unless set; who has pinned the key knows the certificate after it, too */
function make(hosts: readonly string[], now: number, privateKeyPem?: string): Promise<Credentials> {
  const organization = MADE_HERE;
  return createCredentials({ names: hosts, validityDays: VALIDITY_DAYS, now, organization, privateKeyPem });
}

async function readOrMake(
  options: TlsFilesOptions,
  timer: Timer,
): Promise<{ credentials: Credentials; made: boolean }> {
  const { certPath, keyPath } = options;
  const key = await readSecret(keyPath);
  const certificate = (await readText(certPath)) ?? (await finish(options, key));
  if (certificate !== undefined && key !== undefined) {
    return { credentials: named(certPath, keyPath, certificate, key), made: false };
  }
  if (certificate !== undefined || key !== undefined) {
    const [there, missing] = key === undefined ? [certPath, keyPath] : [keyPath, certPath];
    throw new Error(`${there} is there, but ${missing} is not`);
  }
  if (!options.createIfMissing) {
    throw new Error(`neither ${certPath} nor ${keyPath} is there (tls_create_if_missing makes them)`);
  }
  const credentials = await make(options.hosts, timer.now());
  await writeAtomically(certPath + PREPARED, credentials.certificatePem);
  await writeAtomically(keyPath, credentials.privateKeyPem);
  await rename(certPath + PREPARED, certPath);
  return { credentials, made: true };
}

/** What a crash between the two has left: the certificate of exactly this key. */
async function finish({ certPath }: TlsFilesOptions, key: string | undefined): Promise<string | undefined> {
  const prepared = await readText(certPath + PREPARED);
  if (prepared === undefined) return undefined;
  if (key === undefined) {
    await rm(certPath + PREPARED, { force: true });
    return undefined;
  }
  try {
    readCredentials(prepared, key);
  } catch {
    return undefined;
  }
  await rename(certPath + PREPARED, certPath);
  return prepared;
}

function named(certPath: string, keyPath: string, certificate: string, key: string): Credentials {
  try {
    return readCredentials(certificate, key);
  } catch (error) {
    throw new Error(`${certPath}, ${keyPath}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}
