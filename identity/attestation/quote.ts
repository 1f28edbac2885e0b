/**
 * Reads TDX quotes, version 4 and 5 (Intel TDX DCAP Quoting Library API, appendix 3): layout only, no signature is
 * checked here. Every length is checked before it is used and every field with one legal value must have it.
 *
 * Limits: ECDSA P-256 attestation keys and PCK certificates in the quote (certification data 6 around 5), which is
 * all that machines in the field produce. Bytes behind the signature are covered by nothing and looked at by
 * nobody: the kernel's buffer can be longer than the quote in it.
 */

/** What the TDX module reports about a trust domain (TD). All are views into the quote. */
export interface TdReport {
  /** TEE_TCB_SVN: 16 security versions; [0] and [1] are the TDX module's. */
  readonly teeTcbSvn: Buffer;
  readonly mrSeam: Buffer;
  /** Signer of the TDX module: zero for Intel's. */
  readonly mrSignerSeam: Buffer;
  readonly seamAttributes: Buffer;
  readonly tdAttributes: Buffer;
  readonly xfam: Buffer;
  readonly mrTd: Buffer;
  readonly mrConfigId: Buffer;
  readonly mrOwner: Buffer;
  readonly mrOwnerConfig: Buffer;
  /** RTMR0 to RTMR3. */
  readonly rtmrs: readonly [Buffer, Buffer, Buffer, Buffer];
  /** What the TD had signed: 64 bytes. */
  readonly reportData: Buffer;
}

/** The report of the quoting enclave (QE), an SGX enclave report. */
export interface QeReport {
  /** The 384 bytes that the PCK signs. */
  readonly bytes: Buffer;
  readonly miscSelect: Buffer;
  readonly attributes: Buffer;
  readonly mrSigner: Buffer;
  readonly isvProdId: number;
  readonly isvSvn: number;
  readonly reportData: Buffer;
}

export interface Quote {
  readonly version: 4 | 5;
  readonly qeVendorId: Buffer;
  readonly report: TdReport;
  /** Header and report: what the attestation key signs. */
  readonly signed: Buffer;
  /** r ‖ s. */
  readonly signature: Buffer;
  /** P-256, x ‖ y. */
  readonly attestationKey: Buffer;
  readonly qeReport: QeReport;
  /** r ‖ s. */
  readonly qeReportSignature: Buffer;
  readonly qeAuthData: Buffer;
  /** PCK certificate, its CA, the root, in PEM. */
  readonly pckChainPem: string;
}

/** Longest quote that is read; those in the field have about 5,000 bytes and come in buffers of 8,000. */
export const MAX_QUOTE_BYTES = 16_384;

const REPORT_BYTES = 584;
/** TDX 1.5 appends TEE_TCB_SVN_2 and MRSERVICETD. */
const REPORT_1_5_BYTES = 648;
const QE_REPORT_BYTES = 384;
const ECDSA_P256 = 2;
const TEE_TDX = 0x81;
const CERTIFICATION_QE_REPORT = 6;
const CERTIFICATION_PCK_CHAIN = 5;
const MAX_CHAIN_BYTES = 12_288;

/** Reads forward; the first read behind the end makes everything after it fail. */
class Reader {
  readonly #bytes: Buffer;
  #offset = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get offset(): number {
    return this.#offset;
  }

  get left(): number {
    return this.#bytes.length - this.#offset;
  }

  take(length: number): Buffer {
    const end = this.#offset + length;
    if (end > this.#bytes.length) throw new QuoteFormatError(`ends ${end - this.#bytes.length} bytes early`);
    const part = this.#bytes.subarray(this.#offset, end);
    this.#offset = end;
    return part;
  }

  u16(): number {
    return this.take(2).readUInt16LE();
  }

  u32(): number {
    return this.take(4).readUInt32LE();
  }
}

class QuoteFormatError extends Error {}

/**
 * @param bytes a quote; the result's fields are views into it
 * @returns the quote, or what is wrong with its layout
 */
export function parseQuote(bytes: Buffer): Quote | string {
  if (bytes.length > MAX_QUOTE_BYTES) return `${bytes.length} bytes are more than ${MAX_QUOTE_BYTES}`;
  try {
    return readQuote(bytes);
  } catch (error) {
    if (error instanceof QuoteFormatError) return error.message;
    throw error;
  }
}

function readQuote(bytes: Buffer): Quote {
  const reader = new Reader(bytes);
  const version = reader.u16();
  if (version !== 4 && version !== 5) throw new QuoteFormatError(`version ${version} is not known`);
  expect('attestation key type', reader.u16(), ECDSA_P256);
  expect('TEE type', reader.u32(), TEE_TDX);
  // In version 4 and 5 these are reserved; QE and PCE versions moved into the certification data.
  reader.take(4);
  const qeVendorId = reader.take(16);
  reader.take(20);
  const size = version === 4 ? REPORT_BYTES : readBodyDescriptor(reader);
  const report = readReport(new Reader(reader.take(size)));
  const signed = bytes.subarray(0, reader.offset);
  const signatureData = new Reader(reader.take(reader.u32()));
  const signature = signatureData.take(64);
  const attestationKey = signatureData.take(64);
  const certification = readCertification(signatureData, CERTIFICATION_QE_REPORT);
  const qeReport = readQeReport(certification.take(QE_REPORT_BYTES));
  const qeReportSignature = certification.take(64);
  const qeAuthData = certification.take(certification.u16());
  const chain = readCertification(certification, CERTIFICATION_PCK_CHAIN);
  if (chain.left > MAX_CHAIN_BYTES) throw new QuoteFormatError('its certificate chain is too long');
  return {
    version,
    qeVendorId,
    report,
    signed,
    signature,
    attestationKey,
    qeReport,
    qeReportSignature,
    qeAuthData,
    pckChainPem: chain.take(chain.left).toString('latin1'),
  };
}

/** Version 5: type 2 is a TDX 1.0 report, type 3 one of TDX 1.5. */
function readBodyDescriptor(reader: Reader): number {
  const type = reader.u16();
  const size = reader.u32();
  const expected = type === 2 ? REPORT_BYTES : type === 3 ? REPORT_1_5_BYTES : undefined;
  if (expected === undefined) throw new QuoteFormatError(`body type ${type} is not TDX`);
  expect('body size', size, expected);
  return size;
}

/** Type, length, data: the data must end where what holds it ends. */
function readCertification(reader: Reader, type: number): Reader {
  expect('certification data type', reader.u16(), type);
  const data = reader.take(reader.u32());
  if (reader.left > 0)
    throw new QuoteFormatError(`${reader.left} bytes stand behind certification data ${type}`);
  return new Reader(data);
}

function readReport(reader: Reader): TdReport {
  return {
    teeTcbSvn: reader.take(16),
    mrSeam: reader.take(48),
    mrSignerSeam: reader.take(48),
    seamAttributes: reader.take(8),
    tdAttributes: reader.take(8),
    xfam: reader.take(8),
    mrTd: reader.take(48),
    mrConfigId: reader.take(48),
    mrOwner: reader.take(48),
    mrOwnerConfig: reader.take(48),
    rtmrs: [reader.take(48), reader.take(48), reader.take(48), reader.take(48)],
    reportData: reader.take(64),
  };
}

/** SGX enclave report (Intel SDM volume 3D, table 38-21 without the key id and MAC). */
function readQeReport(bytes: Buffer): QeReport {
  return {
    bytes,
    miscSelect: bytes.subarray(16, 20),
    attributes: bytes.subarray(48, 64),
    mrSigner: bytes.subarray(128, 160),
    isvProdId: bytes.readUInt16LE(256),
    isvSvn: bytes.readUInt16LE(258),
    reportData: bytes.subarray(320, 384),
  };
}

function expect(what: string, found: number, wanted: number): void {
  if (found !== wanted) throw new QuoteFormatError(`${what} is ${found}, not ${wanted}`);
}
