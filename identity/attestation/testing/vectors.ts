/** The real quotes and collateral of `testing/vectors/tdx`, as the code takes them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RawCollateral } from '../collateral.ts';

const DIRECTORY = join(import.meta.dirname, '../../../testing/vectors/tdx');

/** Version 4, padded to 8,000 bytes; good with its collateral at `GCP_TIME`. */
export const GCP_QUOTE = bytes('attested-tls/dcap-tdx-1766059550570652607');
export const GCP_TIME = 1_769_509_141_000;
/** Version 4 of a production machine, with bytes behind its signature. */
export const SPR_QUOTE = bytes('go-tdx-guest/tdx_prod_quote_SPR_E4.dat');
/** Its collateral was current then. */
export const SPR_TIME = Date.parse('2023-07-01T00:00:00Z');
/** Version 5, TDX 1.5. */
export const V5_QUOTE = bytes('go-tdx-guest/quote_v5_sample.dat');
export const V5_TIME = Date.parse('2026-02-10T00:00:00Z');

/** Of the first quote. */
export function gcpCollateral(): RawCollateral {
  const yaml = readYamlBlocks(text('attested-tls/dcap-quote-collateral-00.yaml'));
  const field = (name: string): string => yaml.get(name) ?? '';
  return {
    tcbInfo: `{"tcbInfo":${field('tcb_info')},"signature":"${field('tcb_info_signature')}"}`,
    tcbInfoChain: field('tcb_info_issuer_chain'),
    qeIdentity: `{"enclaveIdentity":${field('qe_identity')},"signature":"${field('qe_identity_signature')}"}`,
    qeIdentityChain: field('qe_identity_issuer_chain'),
    pckCrl: Buffer.from(field('pck_crl'), 'hex'),
    pckCrlChain: field('pck_crl_issuer_chain'),
    rootCrl: Buffer.from(field('root_ca_crl'), 'hex'),
  };
}

/** Of the version 5 quote; QE identity and revocation lists are those of the same weeks. */
export function v5Collateral(): RawCollateral {
  return { ...gcpCollateral(), tcbInfo: text('go-tdx-guest/sample_tcbinfo_response_v5') };
}

/** Of 2023. */
export function sprCollateral(): RawCollateral {
  const chain = text('go-tdx-guest/tcb_info_issuer_chain.pem');
  return {
    ...gcpCollateral(),
    tcbInfoChain: chain,
    qeIdentityChain: chain,
    tcbInfo: text('go-tdx-guest/sample_tcbInfo_response'),
    qeIdentity: text('go-tdx-guest/sample_qeIdentity_response'),
    pckCrl: bytes('go-tdx-guest/pckcrl'),
    rootCrl: bytes('go-tdx-guest/rootcrl.der'),
  };
}

function bytes(name: string): Buffer {
  return readFileSync(join(DIRECTORY, name));
}

function text(name: string): string {
  return bytes(name).toString('utf8');
}

/** `key: |-` and indented lines, which is all that the file has. */
function readYamlBlocks(yaml: string): Map<string, string> {
  const blocks = yaml.matchAll(/^(\w+): \|-\n((?: {2}.*\n?|\n)*)/gmu);
  return new Map([...blocks].map(([, key = '', body = '']) => [key, body.replaceAll(/^ {2}/gmu, '').trim()]));
}
