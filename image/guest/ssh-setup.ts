/**
 * Boot step of images with ssh: makes a host key and puts the keys that may log in where sshd, as their user, can read
 * them. The key is new at each boot; its public half is an event of the operator's, who so knows the machine.
 *
 * Environment: SOURCE (authorized_keys), TARGET (folder in RAM).
 */
import { generateKeyPairSync, hash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { reportEvent } from './step.ts';

const { SOURCE = '', TARGET = '' } = process.env;

/** A field of the SSH protocol: its length, itself (RFC 4251, section 5). */
function field(bytes: Uint8Array): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const { x = '', y = '' } = publicKey.export({ format: 'jwk' });
const point = Buffer.concat([Buffer.of(4), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')]);
// RFC 5656, section 3.1.
const blob = Buffer.concat([
  field(Buffer.from('ecdsa-sha2-nistp256')),
  field(Buffer.from('nistp256')),
  field(point),
]);
writeFileSync(join(TARGET, 'host-key'), privateKey.export({ format: 'pem', type: 'sec1' }), { mode: 0o600 });
writeFileSync(join(TARGET, 'authorized_keys'), readFileSync(SOURCE), { mode: 0o644 });
reportEvent(`ssh host key SHA256:${hash('sha256', blob, 'base64').replace(/=+$/u, '')}`);
