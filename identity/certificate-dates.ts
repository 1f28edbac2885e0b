/**
 * When a certificate is valid.
 *
 * Not from Node's `validFromDate` and `validToDate`: for a time that is none they give whatever is in memory, at times a
 * date in the future. The texts beside them say "Bad time value" then.
 */
import type { X509Certificate } from 'node:crypto';

/** @returns Unix milliseconds; NaN for a time that cannot be read, so that no comparison with it holds. */
export function datesOf(certificate: X509Certificate): {
  readonly notBefore: number;
  readonly notAfter: number;
} {
  return { notBefore: Date.parse(certificate.validFrom), notAfter: Date.parse(certificate.validTo) };
}
