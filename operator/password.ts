/**
 * Password hashes: argon2id with a salt of its own in the PHC string form, and the deployed
 * hex sha256(password || salt) of system-api, which stays readable.
 */
import { argon2, hash, randomBytes, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';

export type StoredHash =
  | { readonly kind: 'sha256'; readonly digest: Buffer }
  | {
      readonly kind: 'argon2id';
      /** KiB. */
      readonly memory: number;
      readonly passes: number;
      readonly parallelism: number;
      readonly salt: Buffer;
      readonly digest: Buffer;
    };

/** The first of the settings that OWASP's password storage guide calls equal: 19 MiB, two passes; 40 ms here. */
const COST = { memory: 19_456, passes: 2, parallelism: 1 };
const SALT_BYTES = 16;
const DIGEST_BYTES = 32;
/** A configured hash must neither be worthless nor stop the machine. */
const LIMITS = { memory: [8192, 1_048_576], passes: [1, 16], parallelism: [1, 8] } as const;

const PHC =
  /^\$argon2id\$v=19\$m=(\d{1,7}),t=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{43,86})$/;

const derive = promisify(argon2);

/** @returns what the text says, or undefined when it is no hash of either form. A line break at its end is ignored. */
export function parseStoredHash(text: string): StoredHash | undefined {
  const line = text.replace(/\r?\n$/, '');
  if (/^[0-9a-f]{64}$/i.test(line)) return { kind: 'sha256', digest: Buffer.from(line, 'hex') };
  const match = PHC.exec(line);
  if (match === null) return undefined;
  const [memory, passes, parallelism] = [Number(match[1]), Number(match[2]), Number(match[3])];
  if (!within(memory, LIMITS.memory) || !within(passes, LIMITS.passes)) return undefined;
  if (!within(parallelism, LIMITS.parallelism)) return undefined;
  const [salt, digest] = [Buffer.from(match[4] ?? '', 'base64'), Buffer.from(match[5] ?? '', 'base64')];
  return { kind: 'argon2id', memory, passes, parallelism, salt, digest };
}

function within(value: number, [min, max]: readonly [number, number]): boolean {
  return value >= min && value <= max;
}

/** @returns a line for the hash file or `basic_auth_secret_hash`, of a new salt. */
export async function hashPassword(password: Uint8Array): Promise<string> {
  const salt = randomBytes(SALT_BYTES);
  const digest = await argon2id(password, { ...COST, salt, length: DIGEST_BYTES });
  const { memory, passes, parallelism } = COST;
  return `$argon2id$v=19$m=${memory},t=${passes},p=${parallelism}$${unpadded(salt)}$${unpadded(digest)}`;
}

/** @returns the deployed form: 64 hex digits of sha256(password || salt). */
export function deployedHash(password: Uint8Array, salt: string): string {
  return hash('sha256', Buffer.concat([password, Buffer.from(salt)]), 'hex');
}

/** @param salt of the deployed form; one of the slow form brings its own. */
export async function verifyPassword(
  stored: StoredHash,
  password: Uint8Array,
  salt: string,
): Promise<boolean> {
  if (stored.kind === 'sha256') {
    return timingSafeEqual(Buffer.from(deployedHash(password, salt), 'hex'), stored.digest);
  }
  const digest = await argon2id(password, { ...stored, length: stored.digest.length });
  return timingSafeEqual(digest, stored.digest);
}

interface Cost {
  readonly memory: number;
  readonly passes: number;
  readonly parallelism: number;
  readonly salt: Uint8Array;
  readonly length: number;
}

function argon2id(password: Uint8Array, cost: Cost): Promise<Buffer> {
  return derive('argon2id', {
    message: password,
    nonce: cost.salt,
    parallelism: cost.parallelism,
    tagLength: cost.length,
    memory: cost.memory,
    passes: cost.passes,
  });
}

function unpadded(bytes: Buffer): string {
  return bytes.toString('base64').replace(/=+$/, '');
}
