/**
 * What a PCK certificate says about the machine it was issued for: the SGX extension (Intel SGX PCK Certificate and
 * CRL Profile Specification, section 1.3.5).
 *
 * Limits: to be called on certificates whose chain has been checked; the extension is Intel's word then.
 */
import 'reflect-metadata';
import type { X509Certificate } from 'node:crypto';
import { X509Certificate as ParsedCertificate } from '@peculiar/x509';
import { type BaseBlock, fromBER, Integer, ObjectIdentifier, OctetString, Sequence } from 'asn1js';

export interface PckPlatform {
  /** Family, model, stepping, platform, custom SKU: 12 lower-case hex digits. */
  readonly fmspc: string;
  /** 4 lower-case hex digits. */
  readonly pceId: string;
  /** The 16 components of the CPU's security version. */
  readonly cpuSvn: readonly number[];
  readonly pceSvn: number;
  /** Which of Intel's two authorities issued it: that decides which revocation list counts. */
  readonly authority: 'platform' | 'processor';
}

const SGX = '1.2.840.113741.1.13.1';
const TCB = `${SGX}.2`;
const PCE_ID = `${SGX}.3`;
const FMSPC = `${SGX}.4`;
const COMPONENTS = 16;

/** @returns the platform, or why the extension cannot be used */
export function readPck(certificate: X509Certificate): PckPlatform | string {
  const extension = new ParsedCertificate(certificate.raw).getExtension(SGX);
  if (extension === null) return 'has no SGX extension';
  const fields = readFields(fromBER(extension.value).result);
  const tcb = readFields(fields.get(TCB));
  const cpuSvn: number[] = [];
  for (let component = 1; component <= COMPONENTS; component++) {
    const svn = smallInteger(tcb.get(`${TCB}.${component}`));
    if (svn === undefined || svn > 255) return `has no security version ${component}`;
    cpuSvn.push(svn);
  }
  const pceSvn = smallInteger(tcb.get(`${TCB}.17`));
  const fmspc = octets(fields.get(FMSPC), 6);
  const pceId = octets(fields.get(PCE_ID), 2);
  if (pceSvn === undefined || fmspc === undefined || pceId === undefined) {
    return 'lacks PCESVN, FMSPC or PCEID';
  }
  const issuer = /^CN=Intel SGX PCK (Platform|Processor) CA$/mu.exec(certificate.issuer)?.[1];
  if (issuer === undefined) return 'is not issued by a PCK authority';
  return { fmspc, pceId, cpuSvn, pceSvn, authority: issuer === 'Platform' ? 'platform' : 'processor' };
}

/** SEQUENCE OF SEQUENCE { OBJECT IDENTIFIER, value }. */
function readFields(block: BaseBlock | undefined): Map<string, BaseBlock> {
  const fields = new Map<string, BaseBlock>();
  if (!(block instanceof Sequence)) return fields;
  for (const entry of block.valueBlock.value) {
    if (!(entry instanceof Sequence)) continue;
    const [id, value] = entry.valueBlock.value;
    if (id instanceof ObjectIdentifier && value !== undefined) fields.set(id.valueBlock.toString(), value);
  }
  return fields;
}

function smallInteger(block: BaseBlock | undefined): number | undefined {
  return block instanceof Integer && block.valueBlock.valueDec >= 0 && block.valueBlock.valueDec <= 0xffff
    ? block.valueBlock.valueDec
    : undefined;
}

function octets(block: BaseBlock | undefined, length: number): string | undefined {
  if (!(block instanceof OctetString)) return undefined;
  const bytes = Buffer.from(block.valueBlock.valueHexView);
  return bytes.length === length ? bytes.toString('hex') : undefined;
}
