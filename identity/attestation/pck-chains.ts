/**
 * The certificate chains of quotes, each checked once: a machine shows the same chain in all its quotes, and reading and
 * checking it is most of the work. What changes with time (validity) and by configuration (roots) is looked at anew.
 */
import type { KeyObject, X509Certificate } from 'node:crypto';
import { datesOf } from '../certificate-dates.ts';
import { chainProblem, readChain, serialOf } from './certificates.ts';
import { type PckPlatform, readPck } from './pck.ts';

export interface PckChain {
  readonly pck: PckPlatform;
  readonly key: KeyObject;
  readonly leafSerial: string;
  /** Of the leaf and its authorities. */
  readonly serials: readonly string[];
}

export interface ChainRefusal {
  readonly check: 'pck-chain' | 'pck-extension';
  readonly reason: string;
}

interface Known {
  readonly chain: PckChain;
  readonly roots: ReadonlySet<string>;
  /** Unix milliseconds. */
  readonly notBefore: number;
  readonly notAfter: number;
}

/** A few KB each. */
const MAX_KNOWN = 256;

export class PckChains {
  /** Good ones only, by their PEM text, the oldest first. */
  readonly #known = new Map<string, Known>();

  /**
   * @param pem leaf first
   * @param now Unix milliseconds
   * @param roots key fingerprints of trusted roots
   */
  check(pem: string, now: number, roots: ReadonlySet<string>): PckChain | ChainRefusal {
    const known = this.#known.get(pem);
    if (known !== undefined && known.roots === roots && now >= known.notBefore && now <= known.notAfter) {
      return known.chain;
    }
    const certificates = readChain(pem);
    if (typeof certificates === 'string') return { check: 'pck-chain', reason: certificates };
    const problem = chainProblem(certificates, 3, roots, now);
    const [leaf] = certificates;
    if (problem !== undefined || leaf === undefined) {
      return { check: 'pck-chain', reason: problem ?? 'is empty' };
    }
    const pck = readPck(leaf);
    if (typeof pck === 'string') return { check: 'pck-extension', reason: pck };
    const chain = {
      pck,
      key: leaf.publicKey,
      leafSerial: serialOf(leaf),
      serials: certificates.map(serialOf),
    };
    this.#remember(pem, {
      chain,
      roots,
      notBefore: Math.max(...certificates.map(startOf)),
      notAfter: Math.min(...certificates.map(endOf)),
    });
    return chain;
  }

  #remember(pem: string, known: Known): void {
    this.#known.delete(pem);
    this.#known.set(pem, known);
    const [oldest] = this.#known.keys();
    if (this.#known.size > MAX_KNOWN && oldest !== undefined) this.#known.delete(oldest);
  }
}

function startOf(certificate: X509Certificate): number {
  return datesOf(certificate).notBefore;
}

function endOf(certificate: X509Certificate): number {
  return datesOf(certificate).notAfter;
}
