/**
 * A record of the archive as Kafka holds it: key = node id, the record's header lines as Kafka headers, its value
 * untouched (FORMAT.md). Encoding and decoding only; no client library.
 */
import { type ArchiveRecord, MAX_HEADERS_BYTES, parseRecord, SCHEMA_VERSION } from './record.ts';
import { encodeWithheld, WITHHELD_CONTROL } from './withheld.ts';

/** A record to be sent; the partition is the epoch's (SegmentHeader). */
export interface KafkaRecord {
  readonly key: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly value: Buffer;
}

/** Header names in the order in which they are written and read. */
const NAMES = ['v', 'n', 'e', 's', 'h', 't', 'method', 'control', 'signer', 'hash'] as const;

/** @returns the record for Kafka; its value is the same buffer. */
export function toKafka(record: ArchiveRecord): KafkaRecord {
  const headers: Record<string, string> = {
    v: String(SCHEMA_VERSION),
    n: record.nodeId,
    e: String(record.epoch),
    s: String(record.sequence),
    h: record.chain,
    t: String(record.receivedAtUs),
  };
  if (record.method !== null) headers.method = record.method;
  if (record.control !== null) headers.control = record.control;
  if (record.signer !== null) headers.signer = record.signer;
  if (record.hash !== null) headers.hash = record.hash;
  return { key: record.nodeId, headers, value: record.value };
}

/** @returns what takes a record's place when the brokers refuse it for good (withheld.ts). */
export function withheldInPlaceOf(record: ArchiveRecord): ArchiveRecord {
  const { nodeId, epoch, sequence, chain, receivedAtUs, value } = record;
  return {
    nodeId,
    epoch,
    sequence,
    chain,
    receivedAtUs,
    method: null,
    control: WITHHELD_CONTROL,
    signer: null,
    hash: null,
    value: encodeWithheld(value),
  };
}

type HeaderBytes = Buffer | string;

/** A record as client libraries hand it out. */
export interface ReceivedKafkaRecord {
  readonly key: HeaderBytes | null;
  readonly headers?: Readonly<Record<string, HeaderBytes | readonly HeaderBytes[] | undefined>> | undefined;
  readonly value: Buffer | null;
}

/**
 * Takes a Kafka record apart. The place in the chain is the reader's to check, since that needs the record before.
 * @returns the record (its value is the same buffer), or a sentence that says what is wrong.
 */
export function fromKafka(received: ReceivedKafkaRecord): ArchiveRecord | string {
  const { key, headers = {}, value } = received;
  if (value === null) return 'the record has no value';
  const lines: string[] = [];
  for (const name of NAMES) {
    const given = headers[name];
    if (given === undefined) continue;
    const text = headerText(given);
    if (text === null) return `header ${name} is doubled or not printable ASCII`;
    lines.push(`${name}=${text}`);
  }
  // Of others only the size counts: they may be of a later schema, or an intermediary's.
  let bytes = 0;
  for (const [name, given] of Object.entries(headers)) bytes += name.length + sizeOf(given);
  if (bytes > MAX_HEADERS_BYTES) return 'the headers are too long';
  const record = parseRecord(lines.join('\n'), value);
  if (typeof record === 'string') return record;
  return String(key) === record.nodeId ? record : 'the key is not the node id';
}

function headerText(given: HeaderBytes | readonly HeaderBytes[]): string | null {
  if (typeof given !== 'string' && !Buffer.isBuffer(given)) return null;
  const text = typeof given === 'string' ? given : given.toString('latin1');
  return /^[\x20-\x7e]*$/.test(text) ? text : null;
}

function sizeOf(given: HeaderBytes | readonly HeaderBytes[] | undefined): number {
  if (given === undefined) return 0;
  return typeof given === 'string' || Buffer.isBuffer(given)
    ? given.length
    : given.reduce((sum, item) => sum + item.length, 0);
}
