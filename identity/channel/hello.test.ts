import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createSigner, SignatureVerifier } from '../signature.ts';
import { type ChannelBinding, type ChannelRole, helloTranscript, signHello, verifyHello } from './hello.ts';

interface HelloVector {
  readonly role: ChannelRole;
  readonly key: string;
  readonly exporter: string;
  readonly clientCertificate: string;
  readonly serverCertificate: string;
  readonly features: number;
  readonly windowBytes: number;
  readonly maxOrderBytes: number;
  readonly transcript: string;
  readonly address: string;
  readonly signature: string;
}

const { hellos } = JSON.parse(
  readFileSync(join(import.meta.dirname, '../../testing/vectors/stream.json'), 'utf8'),
) as { hellos: readonly HelloVector[] };

const hex = (text: string) => Buffer.from(text, 'hex');

function bindingOf(vector: HelloVector): ChannelBinding {
  return {
    exporter: hex(vector.exporter),
    clientCertificate: hex(vector.clientCertificate),
    serverCertificate: hex(vector.serverCertificate),
  };
}

describe('hello', () => {
  test.each(hellos)('the vector of the $role', (vector) => {
    const binding = bindingOf(vector);
    const signer = createSigner(hex(vector.key));
    const hello = signHello(binding, vector.role, vector, signer);
    expect(helloTranscript(binding, vector.role, vector, hello.address).toString('hex')).toBe(
      vector.transcript,
    );
    expect(hello.address.toString('hex')).toBe(vector.address);
    expect(hello.signature.toString('hex')).toBe(vector.signature);
    expect(verifyHello(binding, vector.role, hello, new SignatureVerifier({ cacheSize: 4 }))).toBe(
      signer.addressLower,
    );
  });

  test('holds for one connection, one side, one pair of certificates, and what it says', () => {
    const [vector] = hellos;
    if (vector === undefined) throw new Error('no vector');
    const binding = bindingOf(vector);
    const hello = signHello(binding, 'client', vector, createSigner(hex(vector.key)));
    const verifier = new SignatureVerifier({ cacheSize: 4 });
    const other = Buffer.alloc(32, 0xbb);
    expect(verifyHello(binding, 'client', hello, verifier)).not.toBeNull();
    expect(verifyHello(binding, 'server', hello, verifier)).toBeNull();
    expect(verifyHello({ ...binding, exporter: other }, 'client', hello, verifier)).toBeNull();
    expect(verifyHello({ ...binding, clientCertificate: other }, 'client', hello, verifier)).toBeNull();
    expect(verifyHello({ ...binding, serverCertificate: other }, 'client', hello, verifier)).toBeNull();
    expect(verifyHello(binding, 'client', { ...hello, windowBytes: 1 }, verifier)).toBeNull();
    expect(verifyHello(binding, 'client', { ...hello, address: Buffer.alloc(20, 7) }, verifier)).toBeNull();
  });

  test('is no signature of a request: what is signed begins with no brace', () => {
    for (const { transcript } of hellos)
      expect(hex(transcript).toString('latin1', 0, 24)).toBe('orderflow-stream/1 hello');
  });
});
