/**
 * The certificate of a development hub, for 10.0.2.2. Development images know the hub by it, so it is in them and
 * measured. Anybody can make its key, which follows from a sentence: it proves nothing, and no other image takes it.
 */
import { createPrivateKey, hash } from 'node:crypto';

export const DEVELOPMENT_HUB_CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBMzCB5qADAgECAgVvcmRlcjAFBgMrZXAwJDEiMCAGA1UEAxMZb3JkZXJmbG93
IGRldmVsb3BtZW50IGh1YjAgFw0yNjAxMDEwMDAwMDBaGA8yMDU2MDEwMTAwMDAw
MFowJDEiMCAGA1UEAxMZb3JkZXJmbG93IGRldmVsb3BtZW50IGh1YjAqMAUGAytl
cAMhAJlLMBu8Xev/tlsCSSna78OhwJN3DtgFjecr+UnkeSm0ozcwNTASBgNVHRMB
Af8ECDAGAQH/AgEAMA8GA1UdEQQIMAaHBAoAAgIwDgYDVR0PAQH/BAQDAgKEMAUG
AytlcANBAPVmp6WfIst/NYTGBkfs72cdghgSwJG3ntyvRRgm37Kvdyx4Zu4f3nXF
xUSnse3gHDmuknVgJKekSLLK8AVh7QE=
-----END CERTIFICATE-----
`;

/** An Ed25519 key in PKCS #8 up to its 32 bytes (RFC 8410, section 7). */
const PKCS8_HEAD = Buffer.from('302e020100300506032b657004220420', 'hex');
const SENTENCE = 'orderflow development hub: anybody can make this key';

/** @returns the key of that certificate, PEM */
export function developmentHubKey(): string {
  const der = Buffer.concat([PKCS8_HEAD, hash('sha256', SENTENCE, 'buffer')]);
  const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  return key.export({ format: 'pem', type: 'pkcs8' });
}
