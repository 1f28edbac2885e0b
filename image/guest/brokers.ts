/**
 * What the configuration says of the archive's brokers. They are spoken to over TLS alone, and log the node in by a client
 * certificate or not at all: a password would go by the environment.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';

/** Where brokers listen: the firewall lets the node out to no other port of theirs. */
export const BROKER_PORT = 9093;

const MAX_BROKERS = 100;
const BROKER = new RegExp(`^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?:${BROKER_PORT}$`, 'u');
/** systemd takes a megabyte for all credentials of a unit. */
const MAX_PEM_LENGTH = 262_144;
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/gu;

/** Why the value is no list of brokers, or null. */
export function brokersProblem(value: unknown): string | null {
  return Array.isArray(value) &&
    value.length <= MAX_BROKERS &&
    value.every((one) => typeof one === 'string' && BROKER.test(one))
    ? null
    : `must be a list of HOST:${BROKER_PORT}, the port of brokers that the firewall lets the node out to`;
}

/** Why the value is not certificates in PEM, one after the other, or null; '' is none. */
export function certificatesProblem(value: unknown): string | null {
  return typeof value === 'string' && value.length <= MAX_PEM_LENGTH && certificatesIn(value) !== null
    ? null
    : 'must be certificates in PEM and nothing else';
}

/** Why the value is no private key in PEM, or null; '' is none. */
export function keyProblem(value: unknown): string | null {
  return typeof value === 'string' && value.length <= MAX_PEM_LENGTH && (value === '' || isPrivateKey(value))
    ? null
    : 'must be a private key in PEM without a password';
}

/**
 * Why a client certificate and a key, each right by itself, do not go together, or null.
 * @param certificates the client's own is the first
 */
export function pairProblem(certificates: string, key: string): string | null {
  const [own] = certificatesIn(certificates) ?? [];
  if (own === undefined && key === '') return null;
  if (own === undefined || key === '') return 'both or neither';
  return own.checkPrivateKey(createPrivateKey(key)) ? null : 'the key is of another certificate';
}

/** @returns null when the text holds anything else */
function certificatesIn(text: string): X509Certificate[] | null {
  if (text.replaceAll(CERTIFICATE, '').trim() !== '') return null;
  try {
    return (text.match(CERTIFICATE) ?? []).map((block) => new X509Certificate(block));
  } catch {
    return null;
  }
}

function isPrivateKey(text: string): boolean {
  try {
    createPrivateKey(text);
    return true;
  } catch {
    return false;
  }
}

/** PEM files that systemd shows to the node alone, by what they hold. */
export const BROKER_FILES = {
  ca: 'kafka-ca.pem',
  client_cert: 'kafka-client.pem',
  client_key: 'kafka-client-key.pem',
} as const;
