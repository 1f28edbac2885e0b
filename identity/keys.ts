/**
 * What a node keeps of itself between two runs: its orderflow key and its TLS certificate with the key, in two
 * files of the identity directory. A damaged file stops the start; nothing is ever replaced silently, as a node
 * with a new key is a stranger to its peers.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { type Credentials, readCredentials } from './certificate.ts';
import { publicKey } from './secp256k1.ts';
import { readSecret, writeAtomically } from './store.ts';

const ORDERFLOW_KEY_FILE = 'orderflow.key';
/** Certificate and key in one file, so that a renewal swaps both in one step. */
const TLS_FILE = 'tls.pem';

/** @returns a new random private key, 32 bytes */
export function createOrderflowKey(): Uint8Array {
  for (;;) {
    const key = randomBytes(32);
    if (isPrivateKey(key)) return key;
  }
}

/**
 * Reads a private key as operators write it: 64 hex digits, with or without 0x.
 *
 * @returns 32 bytes, or undefined if the text is no key
 */
export function parseOrderflowKey(text: string): Uint8Array | undefined {
  const digits = /^(?:0x)?(?<digits>[0-9a-f]{64})$/iu.exec(text.trim())?.groups?.digits;
  if (digits === undefined) return undefined;
  const key = Buffer.from(digits, 'hex');
  return isPrivateKey(key) ? key : undefined;
}

function isPrivateKey(key: Uint8Array): boolean {
  try {
    publicKey(key);
    return true;
  } catch {
    return false;
  }
}

/**
 * @param directory as `prepareDirectory` left it
 * @returns the key of an earlier run, or undefined when this is the first
 * @throws Error naming the file, when others may read it or it holds no key
 */
export async function loadOrderflowKey(directory: string): Promise<Uint8Array | undefined> {
  const path = join(directory, ORDERFLOW_KEY_FILE);
  const text = await readSecret(path);
  if (text === undefined) return undefined;
  const key = parseOrderflowKey(text);
  if (key === undefined) throw new Error(`${path} is damaged: it should hold a private key as 64 hex digits`);
  return key;
}

/** @param key 32 bytes */
export async function saveOrderflowKey(directory: string, key: Uint8Array): Promise<void> {
  await writeAtomically(join(directory, ORDERFLOW_KEY_FILE), `0x${Buffer.from(key).toString('hex')}\n`);
}

/**
 * @param directory as `prepareDirectory` left it
 * @returns the certificate of an earlier run, or undefined when this is the first
 * @throws Error naming the file, when others may read it or it does not hold a certificate and its key
 */
export async function loadCredentials(directory: string): Promise<Credentials | undefined> {
  const path = join(directory, TLS_FILE);
  const text = await readSecret(path);
  if (text === undefined) return undefined;
  try {
    return readCredentials(block(text, 'CERTIFICATE'), block(text, 'PRIVATE KEY'));
  } catch (error) {
    throw new Error(`${path} is damaged: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}

/** Replaces the stored certificate and key. */
export async function saveCredentials(directory: string, credentials: Credentials): Promise<void> {
  await writeAtomically(
    join(directory, TLS_FILE),
    `${credentials.privateKeyPem.trim()}\n${credentials.certificatePem.trim()}\n`,
  );
}

/** The first PEM block of a kind, with its borders. */
function block(text: string, kind: 'CERTIFICATE' | 'PRIVATE KEY'): string {
  const head = `-----BEGIN ${kind}-----`;
  const foot = `-----END ${kind}-----`;
  const start = text.indexOf(head);
  const end = text.indexOf(foot, start);
  if (start < 0 || end < 0) throw new Error(`it holds no ${kind.toLowerCase()}`);
  return `${text.slice(start, end + foot.length)}\n`;
}
