/**
 * A TDX machine that is none: its own root, PCK, quoting enclave and quotes, and the collateral that its "Intel"
 * publishes. Everything is signed properly, so that the verifier runs unchanged with this root in place of Intel's;
 * each thing that can be wrong can be made wrong.
 *
 * For tests and for networks on developers' machines. Its root proves nothing about anything: a verifier takes it
 * only when told to, loudly, and never in production mode.
 */
import 'reflect-metadata';
import { hash, KeyObject, sign, webcrypto, X509Certificate } from 'node:crypto';
import {
  BasicConstraintsExtension,
  Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  X509CertificateGenerator,
  X509CrlGenerator,
} from '@peculiar/x509';
import { type BaseBlock, Enumerated, Integer, ObjectIdentifier, OctetString, Sequence } from 'asn1js';
import { keyFingerprint } from '../certificates.ts';
import type { RawCollateral } from '../collateral.ts';
import type { Measurements } from '../measurements.ts';
import type { TcbStatus } from '../tcb-documents.ts';

export interface MockMachineOptions {
  /** Unix milliseconds; certificates and collateral are valid around it. */
  readonly now: number;
  /** Of its image; MRTD is 96 times "a0"'s digits and so on unless set. */
  readonly measurements?: Measurements | undefined;
  /** The authorities' and the machine's certificates end then. */
  readonly certificatesUntil?: number | undefined;
  /** The certificate of who signs TCB info and QE identity ends then. */
  readonly signerUntil?: number | undefined;
  /** The PCK is of an authority below the PCK authority. */
  readonly subordinate?: boolean | undefined;
}

/** What a quote says that differs from a good one's. */
export interface MockQuoteOptions {
  readonly version?: 4 | 5 | undefined;
  readonly measurements?: Measurements | undefined;
  readonly tdAttributes?: string | undefined;
  readonly mrConfigId?: string | undefined;
  readonly mrSignerSeam?: string | undefined;
  readonly seamAttributes?: string | undefined;
  readonly teeTcbSvn?: string | undefined;
  readonly qeIsvSvn?: number | undefined;
  readonly qeMrSigner?: string | undefined;
  readonly qeAttributes?: string | undefined;
  readonly qeMiscSelect?: string | undefined;
  readonly qeIsvProdId?: number | undefined;
  readonly qeVendorId?: string | undefined;
  /** Somebody else signs the quote, or the QE's report, or the QE vouches for another key. */
  readonly forged?: 'quote' | 'qe-report' | 'qe-binding' | undefined;
}

/** What collateral says that differs from a good one's. */
export interface MockCollateralOptions {
  readonly tcbStatus?: TcbStatus | undefined;
  readonly moduleStatus?: TcbStatus | undefined;
  readonly qeStatus?: TcbStatus | undefined;
  /** Lowest version that has a level at all. */
  readonly lowestPceSvn?: number | undefined;
  readonly revoked?: readonly ('pck' | 'pck-authority' | 'tcb-signing')[] | undefined;
  readonly issueDate?: number | undefined;
  readonly nextUpdate?: number | undefined;
  /** Of the revocation lists. */
  readonly crlUntil?: number | undefined;
  readonly fmspc?: string | undefined;
  readonly pceId?: string | undefined;
  /** What the documents say they are. */
  readonly tcbInfoId?: string | undefined;
  readonly qeIdentityId?: string | undefined;
  readonly version?: number | undefined;
  /** tcbEvaluationDataNumber of the documents. */
  readonly evaluation?: number | undefined;
  /** Lowest components of the only level, SGX and TDX. */
  readonly sgxComponents?: readonly number[] | undefined;
  readonly tdxComponents?: readonly number[] | undefined;
  /** The lists begin then. */
  readonly crlFrom?: number | undefined;
  /** Somebody else signs this document. */
  readonly forged?: 'tcb-info' | 'qe-identity' | 'pck-crl' | 'root-crl' | undefined;
}

interface Party {
  readonly certificate: X509Certificate;
  readonly keys: webcrypto.CryptoKeyPair;
}

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const DAY_MS = 86_400_000;
const SGX = '1.2.840.113741.1.13.1';
const FMSPC = '00a06d0c0000';
const PCE_ID = '0000';
const PCE_SVN = 13;
const CPU_SVN = [8, 8, 2, 2, 4, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0];
const TEE_TCB_SVN = '08010800000000000000000000000000';
const QE_MRSIGNER = 'dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5';
const QE_ATTRIBUTES = '1500000000000000e700000000000000';
const QE_ISVSVN = 6;
const QE_VENDOR = '939a7233f79c4ca9940a0db3957f0607';

/** @returns registers that are easy to tell apart: the pair repeated */
export function patternMeasurements(letter: string): Measurements {
  const register = (digit: number): string => `${letter}${digit}`.repeat(48);
  return [register(0), register(1), register(2), register(3), register(4)];
}

export class MockMachine {
  readonly #options: MockMachineOptions;
  readonly #root: Party;
  readonly #pckAuthority: Party;
  readonly #pck: Party;
  readonly #tcbSigning: Party;
  readonly #stranger: webcrypto.CryptoKeyPair;
  readonly #attestation: webcrypto.CryptoKeyPair;
  /** What its quotes bring. */
  #chain: readonly Party[] = [];
  /** The image it runs; tests change it. */
  measurements: Measurements;

  private constructor(
    options: MockMachineOptions,
    parties: readonly Party[],
    keys: webcrypto.CryptoKeyPair[],
  ) {
    const [root, pckAuthority, pck, tcbSigning] = parties;
    const [stranger, attestation] = keys;
    if (!root || !pckAuthority || !pck || !tcbSigning || !stranger || !attestation) {
      throw new Error('a party of the mock machine is missing');
    }
    this.#options = options;
    this.#root = root;
    this.#pckAuthority = pckAuthority;
    this.#pck = pck;
    this.#tcbSigning = tcbSigning;
    this.#stranger = stranger;
    this.#attestation = attestation;
    this.measurements = options.measurements ?? patternMeasurements('a');
  }

  static async create(options: MockMachineOptions): Promise<MockMachine> {
    const until = options.certificatesUntil ?? options.now + 365 * DAY_MS;
    const dates = { notBefore: new Date(options.now - 30 * DAY_MS), notAfter: new Date(until) };
    const root = await issue('Intel SGX Root CA', dates, undefined, true, []);
    const authority = await issue('Intel SGX PCK Platform CA', dates, root, true, []);
    const below =
      options.subordinate === true
        ? await issue('Intel SGX PCK Platform CA', dates, authority, true, [])
        : undefined;
    const pck = await issue('Intel SGX PCK Certificate', dates, below ?? authority, false, [sgxExtension()]);
    const signerDates = { ...dates, notAfter: new Date(options.signerUntil ?? until) };
    const signing = await issue('Intel SGX TCB Signing', signerDates, root, false, []);
    const machine = new MockMachine(
      options,
      [root, authority, pck, signing],
      [await newKeys(), await newKeys()],
    );
    machine.#chain = [pck, ...(below === undefined ? [] : [below]), authority, root];
    return machine;
  }

  /** What a verifier must be told to take this machine's quotes. */
  get rootPem(): string {
    return this.#root.certificate.toString();
  }

  get rootFingerprint(): string {
    return keyFingerprint(this.#root.certificate);
  }

  /** @param reportData 64 bytes */
  quote(reportData: Buffer, options: MockQuoteOptions = {}): Buffer {
    const version = options.version ?? 4;
    const header = Buffer.alloc(48);
    header.writeUInt16LE(version, 0);
    header.writeUInt16LE(2, 2);
    header.writeUInt32LE(0x81, 4);
    header.write(options.qeVendorId ?? QE_VENDOR, 12, 'hex');
    const report = this.#report(reportData, options);
    const signed =
      version === 4
        ? Buffer.concat([header, report])
        : Buffer.concat([header, u16(3), u32(648), report, Buffer.alloc(64)]);
    const signer = options.forged === 'quote' ? this.#stranger : this.#attestation;
    const attestationKey = point(this.#attestation);
    const authData = Buffer.alloc(32, 0x5a);
    const qeReport = this.#qeReport(
      options.forged === 'qe-binding' ? point(this.#stranger) : attestationKey,
      authData,
      options,
    );
    const qeSigner = options.forged === 'qe-report' ? this.#stranger : this.#pck.keys;
    const chain = Buffer.from(this.#chain.map(({ certificate }) => certificate.toString()).join(''));
    const certification = Buffer.concat([
      qeReport,
      signature(qeReport, qeSigner),
      u16(authData.length),
      authData,
      u16(5),
      u32(chain.length),
      chain,
    ]);
    const signatureData = Buffer.concat([
      signature(signed, signer),
      attestationKey,
      u16(6),
      u32(certification.length),
      certification,
    ]);
    return Buffer.concat([signed, u32(signatureData.length), signatureData]);
  }

  async collateral(options: MockCollateralOptions = {}): Promise<RawCollateral> {
    const { now } = this.#options;
    const issueDate = new Date(options.issueDate ?? now - DAY_MS);
    const nextUpdate = new Date(options.nextUpdate ?? now + 29 * DAY_MS);
    const dates = { issueDate: isoSeconds(issueDate), nextUpdate: isoSeconds(nextUpdate) };
    const chain = this.#tcbSigning.certificate.toString() + this.#root.certificate.toString();
    const revoked = new Set(options.revoked ?? []);
    const document = (member: string, value: object, forged: boolean): string => {
      const text = JSON.stringify(value);
      const keys = forged ? this.#stranger : this.#tcbSigning.keys;
      return `{"${member}":${text},"signature":"${signature(Buffer.from(text), keys).toString('hex')}"}`;
    };
    const list = (issuer: Party, entries: readonly Party[], forged: boolean) =>
      this.#revocationList(
        issuer,
        entries,
        { from: options.crlFrom ?? now - DAY_MS, until: options.crlUntil ?? now + 29 * DAY_MS },
        forged,
      );
    return {
      tcbInfo: document('tcbInfo', tcbInfo(dates, options), options.forged === 'tcb-info'),
      tcbInfoChain: chain,
      qeIdentity: document('enclaveIdentity', qeIdentity(dates, options), options.forged === 'qe-identity'),
      qeIdentityChain: chain,
      pckCrl: await list(
        this.#pckAuthority,
        revoked.has('pck') ? [this.#pck] : [],
        options.forged === 'pck-crl',
      ),
      pckCrlChain: this.#pckAuthority.certificate.toString() + this.#root.certificate.toString(),
      rootCrl: await list(
        this.#root,
        [
          ...(revoked.has('pck-authority') ? [this.#pckAuthority] : []),
          ...(revoked.has('tcb-signing') ? [this.#tcbSigning] : []),
        ],
        options.forged === 'root-crl',
      ),
    };
  }

  #report(reportData: Buffer, options: MockQuoteOptions): Buffer {
    const [mrTd, ...rtmrs] = options.measurements ?? this.measurements;
    const report = Buffer.alloc(584);
    report.write(options.teeTcbSvn ?? TEE_TCB_SVN, 0, 'hex');
    report.write(options.mrSignerSeam ?? '', 64, 'hex');
    report.write(options.seamAttributes ?? '', 112, 'hex');
    report.write(options.tdAttributes ?? '0000001000000000', 120, 'hex');
    report.write('e700060000000000', 128, 'hex');
    report.write(mrTd, 136, 'hex');
    report.write(options.mrConfigId ?? '', 184, 'hex');
    for (const [i, rtmr] of rtmrs.entries()) report.write(rtmr, 328 + i * 48, 'hex');
    reportData.copy(report, 520);
    return report;
  }

  #qeReport(attestationKey: Buffer, authData: Buffer, options: MockQuoteOptions): Buffer {
    const report = Buffer.alloc(384);
    report.write(options.qeMiscSelect ?? '', 16, 'hex');
    report.write(options.qeAttributes ?? QE_ATTRIBUTES, 48, 'hex');
    report.write(options.qeMrSigner ?? QE_MRSIGNER, 128, 'hex');
    report.writeUInt16LE(options.qeIsvProdId ?? 2, 256);
    report.writeUInt16LE(options.qeIsvSvn ?? QE_ISVSVN, 258);
    hash('sha256', Buffer.concat([attestationKey, authData]), 'buffer').copy(report, 320);
    return report;
  }

  async #revocationList(
    issuer: Party,
    entries: readonly Party[],
    { from, until }: { from: number; until: number },
    forged: boolean,
  ): Promise<Buffer> {
    const crl = await X509CrlGenerator.create({
      issuer: namesOf(issuer.certificate),
      thisUpdate: new Date(from),
      nextUpdate: new Date(until),
      entries: entries.map(({ certificate }) => ({
        serialNumber: certificate.serialNumber,
        revocationDate: new Date(this.#options.now - DAY_MS),
      })),
      signingKey: forged ? this.#stranger.privateKey : issuer.keys.privateKey,
      signingAlgorithm: ALGORITHM,
    });
    return Buffer.from(crl.rawData);
  }
}

let serials = 0;

async function issue(
  commonName: string,
  dates: { notBefore: Date; notAfter: Date },
  issuer: Party | undefined,
  authority: boolean,
  extensions: readonly Extension[],
): Promise<Party> {
  const keys = await newKeys();
  const usage = authority
    ? KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign
    : KeyUsageFlags.digitalSignature;
  const subject = subjectOf(commonName);
  const certificate = await X509CertificateGenerator.create({
    ...dates,
    serialNumber: (0x7100 + ++serials).toString(16),
    subject,
    issuer: issuer === undefined ? subject : namesOf(issuer.certificate),
    publicKey: keys.publicKey,
    signingKey: issuer?.keys.privateKey ?? keys.privateKey,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new BasicConstraintsExtension(authority, undefined, true),
      new KeyUsagesExtension(usage, true),
      ...extensions,
    ],
  });
  return { certificate: new X509Certificate(Buffer.from(certificate.rawData)), keys };
}

/** The names are Intel's, as the rules ask for them; the organisation says whose they are. */
function subjectOf(commonName: string) {
  return [{ CN: [commonName] }, { O: ['MOCK TDX MACHINE, PROVES NOTHING'] }];
}

function namesOf(certificate: X509Certificate) {
  return subjectOf(/^CN=(.*)$/mu.exec(certificate.subject)?.[1] ?? '');
}

async function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
}

function signature(bytes: Buffer, { privateKey }: webcrypto.CryptoKeyPair): Buffer {
  return sign('sha256', bytes, { key: KeyObject.from(privateKey), dsaEncoding: 'ieee-p1363' });
}

/** x ‖ y: the end of the SubjectPublicKeyInfo. */
function point({ publicKey }: webcrypto.CryptoKeyPair): Buffer {
  return KeyObject.from(publicKey).export({ type: 'spki', format: 'der' }).subarray(-64);
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function sgxExtension(): Extension {
  const field = (id: string, value: BaseBlock) =>
    new Sequence({ value: [new ObjectIdentifier({ value: id }), value] });
  const octets = (hex: string) => new OctetString({ valueHex: Buffer.from(hex, 'hex') });
  const integer = (value: number) => new Integer({ value });
  const tcb = [
    ...CPU_SVN.map((svn, i) => field(`${SGX}.2.${i + 1}`, integer(svn))),
    field(`${SGX}.2.17`, integer(PCE_SVN)),
    field(`${SGX}.2.18`, octets(Buffer.from(CPU_SVN).toString('hex'))),
  ];
  const value = new Sequence({
    value: [
      field(`${SGX}.1`, octets('00'.repeat(16))),
      field(`${SGX}.2`, new Sequence({ value: tcb })),
      field(`${SGX}.3`, octets(PCE_ID)),
      field(`${SGX}.4`, octets(FMSPC)),
      field(`${SGX}.5`, new Enumerated({ value: 1 })),
    ],
  });
  return new Extension(SGX, false, value.toBER());
}

interface DocumentDates {
  readonly issueDate: string;
  readonly nextUpdate: string;
}

function tcbInfo(dates: DocumentDates, options: MockCollateralOptions): object {
  const zeros = (bytes: number) => '00'.repeat(bytes);
  const components = (svns: readonly number[]) => svns.map((svn) => ({ svn }));
  return {
    id: options.tcbInfoId ?? 'TDX',
    version: options.version ?? 3,
    ...dates,
    fmspc: (options.fmspc ?? FMSPC).toUpperCase(),
    pceId: options.pceId ?? PCE_ID,
    tcbType: 0,
    tcbEvaluationDataNumber: options.evaluation ?? 18,
    tdxModule: { mrsigner: zeros(48), attributes: zeros(8), attributesMask: 'FF'.repeat(8) },
    tdxModuleIdentities: [
      {
        id: 'TDX_01',
        mrsigner: zeros(48),
        attributes: zeros(8),
        attributesMask: 'FF'.repeat(8),
        tcbLevels: [
          {
            tcb: { isvsvn: 6 },
            tcbDate: '2024-11-13T00:00:00Z',
            tcbStatus: options.moduleStatus ?? 'UpToDate',
          },
          { tcb: { isvsvn: 4 }, tcbDate: '2024-03-13T00:00:00Z', tcbStatus: 'OutOfDate' },
        ],
      },
    ],
    tcbLevels: [
      {
        tcb: {
          sgxtcbcomponents: components(options.sgxComponents ?? CPU_SVN),
          pcesvn: options.lowestPceSvn ?? PCE_SVN,
          tdxtcbcomponents: components(
            options.tdxComponents ?? [5, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
          ),
        },
        tcbDate: '2024-11-13T00:00:00Z',
        tcbStatus: options.tcbStatus ?? 'UpToDate',
      },
    ],
  };
}

function qeIdentity(dates: DocumentDates, options: MockCollateralOptions): object {
  return {
    id: options.qeIdentityId ?? 'TD_QE',
    version: 2,
    ...dates,
    tcbEvaluationDataNumber: options.evaluation ?? 18,
    miscselect: '00000000',
    miscselectMask: 'FFFFFFFF',
    attributes: '11000000000000000000000000000000',
    attributesMask: 'FBFFFFFFFFFFFFFF0000000000000000',
    mrsigner: QE_MRSIGNER.toUpperCase(),
    isvprodid: 2,
    tcbLevels: [
      { tcb: { isvsvn: 4 }, tcbDate: '2024-11-13T00:00:00Z', tcbStatus: options.qeStatus ?? 'UpToDate' },
    ],
  };
}

function isoSeconds(date: Date): string {
  return date.toISOString().replace(/\.\d+Z$/u, 'Z');
}
