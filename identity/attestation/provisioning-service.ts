/**
 * Fetches collateral from Intel's provisioning certification service or from a caching one (PCCS), API version 4.
 * Bounded in time and size; what comes is checked by checkCollateral.
 */
import { MAX_DOCUMENT_BYTES, type RawCollateral } from './collateral.ts';

/** @throws Error saying which document could not be had and why */
export type CollateralFetch = (
  fmspc: string,
  authority: 'platform' | 'processor',
  signal: AbortSignal,
) => Promise<RawCollateral>;

export interface ProvisioningOptions {
  /** Base URL; a PCCS serves the root's revocation list too, Intel's service has it at another place. */
  readonly url: string;
  /** Longest time for each document, in milliseconds; 10,000 unless set. */
  readonly timeoutMs?: number | undefined;
}

export const INTEL_SERVICE = 'https://api.trustedservices.intel.com';
const INTEL_ROOT_CRL = 'https://certificates.trustedservices.intel.com/IntelSGXRootCA.der';

/** @returns a function that fetches all documents for one kind of machine */
export function provisioningService(options: ProvisioningOptions): CollateralFetch {
  const base = options.url.replace(/\/+$/u, '');
  const rootCrlUrl = base === INTEL_SERVICE ? INTEL_ROOT_CRL : `${base}/sgx/certification/v4/rootcacrl`;
  return async (fmspc, authority, signal) => {
    const fetchOne = (url: string) =>
      fetchDocument(url, AbortSignal.any([signal, AbortSignal.timeout(options.timeoutMs ?? 10_000)]));
    const [tcb, qe, pckCrl, rootCrl] = await Promise.all([
      fetchOne(`${base}/tdx/certification/v4/tcb?fmspc=${fmspc}`),
      fetchOne(`${base}/tdx/certification/v4/qe/identity`),
      fetchOne(`${base}/sgx/certification/v4/pckcrl?ca=${authority}&encoding=der`),
      fetchOne(rootCrlUrl),
    ]);
    return {
      tcbInfo: tcb.body.toString('utf8'),
      tcbInfoChain: tcb.header('TCB-Info-Issuer-Chain'),
      qeIdentity: qe.body.toString('utf8'),
      qeIdentityChain: qe.header('SGX-Enclave-Identity-Issuer-Chain'),
      pckCrl: derOf(pckCrl.body),
      pckCrlChain: pckCrl.header('SGX-PCK-CRL-Issuer-Chain'),
      rootCrl: derOf(rootCrl.body),
    };
  };
}

interface Document {
  readonly body: Buffer;
  header(name: string): string;
}

async function fetchDocument(url: string, signal: AbortSignal): Promise<Document> {
  const { host, pathname } = new URL(url);
  const where = `${host}${pathname}`;
  let response: Response;
  let body: Buffer;
  try {
    response = await fetch(url, { signal, redirect: 'error' });
    if (response.status !== 200) throw new Error(`status ${response.status}`);
    body = await bodyOf(response);
  } catch (error) {
    throw new Error(`${where}: ${reasonOf(error)}`, { cause: error });
  }
  return {
    body,
    header(name) {
      const value = response.headers.get(name);
      if (value === null) throw new Error(`${where}: no header ${name}`);
      return decodeURIComponent(value);
    },
  };
}

async function bodyOf(response: Response): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of response.body ?? []) {
    length += chunk.length;
    if (length > MAX_DOCUMENT_BYTES) throw new Error(`more than ${MAX_DOCUMENT_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** A PCCS gives revocation lists as hex text, Intel's service as they are. */
function derOf(body: Buffer): Buffer {
  const text = body.length % 2 === 0 ? body.toString('latin1').trim() : '';
  return /^(?:[0-9a-fA-F]{2})+$/u.test(text) ? Buffer.from(text, 'hex') : body;
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? error.cause.message : error.message;
}
