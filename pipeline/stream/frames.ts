/**
 * The frames of the order stream, as bytes: type (1 byte), length of the payload (4 bytes), payload. All integers
 * are unsigned and big-endian; those of 8 bytes stay below 2^53. The page ingress/stream/PROTOCOL.md describes each.
 *
 * Hand-made, not msgpackr, by measurement (figures on that page, section 8): a record is made and read with copies of its
 * bytes alone, and a decoder that knows fixed shapes alone has no maps, no depth and no prototype to attack.
 *
 * Limits: encodes and decodes; what a frame means at a point of the conversation is the channel's affair.
 */
import { type CloseReason, closeCode, closeReason } from './close-reasons.ts';

export const FRAME = {
  hello: 1,
  orders: 2,
  ack: 3,
  refused: 4,
  ping: 5,
  pong: 6,
  /** The receiver stops soon: what it has got will be acknowledged, nothing more should be sent. */
  goAway: 7,
  close: 8,
} as const;

/** Type and length. */
export const HEADER_BYTES = 5;
/** Before the first record of an orders frame: header, sent-at, first sequence number, number of records. */
const ORDERS_HEAD_BYTES = HEADER_BYTES + 18;
/** Before each record: its length. */
const RECORD_HEAD_BYTES = 4;
/** Most records in one orders frame. */
export const MAX_RECORDS = 1024;
/** Longest payload of every frame but orders; unknown types are skipped within it. */
export const MAX_CONTROL_BYTES = 16_384;

const ADDRESS_BYTES = 20;
const SIGNATURE_BYTES = 65;
/** Features, window and largest order: what the signature covers beside the address. */
const HELLO_FIELD_BYTES = 12;
const HELLO_BYTES = HELLO_FIELD_BYTES + ADDRESS_BYTES + SIGNATURE_BYTES;

const TWO_32 = 4_294_967_296;

/** What one side says of itself. */
export interface HelloFields {
  /** Bit set; what both sides have set is in use. None is defined yet. */
  readonly features: number;
  /** Credit the other side starts with, bytes. */
  readonly windowBytes: number;
  /** Longest canonical form it takes, bytes. */
  readonly maxOrderBytes: number;
}

export interface Hello extends HelloFields {
  /** 20 bytes. */
  readonly address: Buffer;
  /** r ‖ s ‖ v, 65 bytes, over what identity/channel/hello.ts says. */
  readonly signature: Buffer;
}

function frame(type: number, payloadBytes: number, into: Buffer | null = null): Buffer {
  const length = HEADER_BYTES + payloadBytes;
  const bytes = into === null ? Buffer.allocUnsafe(length) : into.subarray(0, length);
  bytes[0] = type;
  bytes.writeUInt32BE(payloadBytes, 1);
  return bytes;
}

function writeUint64(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32BE(Math.floor(value / TWO_32), at);
  bytes.writeUInt32BE(value % TWO_32, at + 4);
}

/** @returns the integer, or -1 when it is 2^53 or more. */
function readUint64(bytes: Buffer, at: number): number {
  const value = bytes.readUInt32BE(at) * TWO_32 + bytes.readUInt32BE(at + 4);
  return value <= Number.MAX_SAFE_INTEGER ? value : -1;
}

/** @returns the 12 bytes that stand in the hello and under its signature. */
export function encodeHelloFields(fields: HelloFields): Buffer {
  const bytes = Buffer.allocUnsafe(HELLO_FIELD_BYTES);
  bytes.writeUInt32BE(fields.features, 0);
  bytes.writeUInt32BE(fields.windowBytes, 4);
  bytes.writeUInt32BE(fields.maxOrderBytes, 8);
  return bytes;
}

export function encodeHello(hello: Hello): Buffer {
  const bytes = frame(FRAME.hello, HELLO_BYTES);
  encodeHelloFields(hello).copy(bytes, HEADER_BYTES);
  hello.address.copy(bytes, HEADER_BYTES + HELLO_FIELD_BYTES);
  hello.signature.copy(bytes, HEADER_BYTES + HELLO_FIELD_BYTES + ADDRESS_BYTES);
  return bytes;
}

/** Bytes behind the known ones are of a later version and passed over. @returns null when it is too short. */
export function decodeHello(payload: Buffer): Hello | null {
  if (payload.length < HELLO_BYTES) return null;
  const addressAt = HELLO_FIELD_BYTES;
  const signatureAt = addressAt + ADDRESS_BYTES;
  return {
    features: payload.readUInt32BE(0),
    windowBytes: payload.readUInt32BE(4),
    maxOrderBytes: payload.readUInt32BE(8),
    address: payload.subarray(addressAt, signatureAt),
    signature: payload.subarray(signatureAt, HELLO_BYTES),
  };
}

/** @returns length of an orders frame with these records. */
export function ordersFrameBytes(records: readonly Buffer[]): number {
  let bytes = ORDERS_HEAD_BYTES;
  for (const record of records) bytes += recordSpace(record);
  return bytes;
}

/** @returns bytes that a record takes in an orders frame. */
export function recordSpace(record: Buffer): number {
  return RECORD_HEAD_BYTES + record.length;
}

/**
 * Puts records into one frame, in one piece of memory: a TLS socket that is given several copies them anyway.
 *
 * @param sentAtUs unix microseconds
 * @param first sequence number of the first record; the others follow it
 * @param records at most {@link MAX_RECORDS}
 * @param into memory for {@link ordersFrameBytes}, at its beginning; new memory unless given
 */
export function encodeOrders(
  sentAtUs: number,
  first: number,
  records: readonly Buffer[],
  into: Buffer | null = null,
): Buffer {
  const bytes = frame(FRAME.orders, ordersFrameBytes(records) - HEADER_BYTES, into);
  writeUint64(bytes, sentAtUs, HEADER_BYTES);
  writeUint64(bytes, first, HEADER_BYTES + 8);
  bytes.writeUInt16BE(records.length, HEADER_BYTES + 16);
  let at = ORDERS_HEAD_BYTES;
  for (const record of records) {
    bytes.writeUInt32BE(record.length, at);
    at += RECORD_HEAD_BYTES;
    bytes.set(record, at);
    at += record.length;
  }
  return bytes;
}

export interface OrdersFrame {
  readonly sentAtUs: number;
  readonly first: number;
  /** At least one; views of the payload. */
  readonly records: readonly Buffer[];
}

/** @returns null when lengths, counts and bytes do not fit each other. */
export function decodeOrders(payload: Buffer): OrdersFrame | null {
  const head = ORDERS_HEAD_BYTES - HEADER_BYTES;
  if (payload.length < head) return null;
  const sentAtUs = readUint64(payload, 0);
  const first = readUint64(payload, 8);
  const count = payload.readUInt16BE(16);
  // Each record has a length at least, so the list never grows beyond what was really sent.
  if (sentAtUs < 0 || first < 1 || count === 0 || count > MAX_RECORDS) return null;
  if (payload.length < head + count * RECORD_HEAD_BYTES) return null;
  const records: Buffer[] = [];
  let at = head;
  for (let i = 0; i < count; i++) {
    if (payload.length - at < RECORD_HEAD_BYTES) return null;
    const end = at + RECORD_HEAD_BYTES + payload.readUInt32BE(at);
    if (end > payload.length) return null;
    records.push(payload.subarray(at + RECORD_HEAD_BYTES, end));
    at = end;
  }
  return at === payload.length ? { sentAtUs, first, records } : null;
}

export interface Acknowledgement {
  /** Every order up to this one has been dealt with. */
  readonly sequence: number;
  /** Sum of the costs that may be sent, counted from the beginning of the connection. */
  readonly limit: number;
}

export function encodeAck(sequence: number, limit: number): Buffer {
  const bytes = frame(FRAME.ack, 16);
  writeUint64(bytes, sequence, HEADER_BYTES);
  writeUint64(bytes, limit, HEADER_BYTES + 8);
  return bytes;
}

/** @returns null when it is no acknowledgement. */
export function decodeAck(payload: Buffer): Acknowledgement | null {
  if (payload.length !== 16) return null;
  const sequence = readUint64(payload, 0);
  const limit = readUint64(payload, 8);
  return sequence < 0 || limit < 0 ? null : { sequence, limit };
}

/** @param code of refusals.ts */
export function encodeRefused(sequence: number, code: number): Buffer {
  const bytes = frame(FRAME.refused, 9);
  writeUint64(bytes, sequence, HEADER_BYTES);
  bytes[HEADER_BYTES + 8] = code;
  return bytes;
}

/** @returns null when it is none. */
export function decodeRefused(payload: Buffer): { sequence: number; code: number } | null {
  if (payload.length !== 9) return null;
  const sequence = readUint64(payload, 0);
  return sequence < 0 ? null : { sequence, code: payload.readUInt8(8) };
}

/** @param sentAtUs unix microseconds of the sender's clock */
export function encodePing(sentAtUs: number): Buffer {
  const bytes = frame(FRAME.ping, 8);
  writeUint64(bytes, sentAtUs, HEADER_BYTES);
  return bytes;
}

/** @returns null when it is none. */
export function decodePing(payload: Buffer): number | null {
  if (payload.length !== 8) return null;
  const sentAtUs = readUint64(payload, 0);
  return sentAtUs < 0 ? null : sentAtUs;
}

/**
 * @param echoUs what the ping said
 * @param answeredAtUs unix microseconds of this side's clock
 */
export function encodePong(echoUs: number, answeredAtUs: number): Buffer {
  const bytes = frame(FRAME.pong, 16);
  writeUint64(bytes, echoUs, HEADER_BYTES);
  writeUint64(bytes, answeredAtUs, HEADER_BYTES + 8);
  return bytes;
}

/** @returns null when it is none. */
export function decodePong(payload: Buffer): { echoUs: number; answeredAtUs: number } | null {
  if (payload.length !== 16) return null;
  const echoUs = readUint64(payload, 0);
  const answeredAtUs = readUint64(payload, 8);
  return echoUs < 0 || answeredAtUs < 0 ? null : { echoUs, answeredAtUs };
}

export function encodeGoAway(): Buffer {
  return frame(FRAME.goAway, 0);
}

/** @returns null for a reason that is not told. */
export function encodeClose(reason: CloseReason): Buffer | null {
  const code = closeCode(reason);
  if (code === null) return null;
  const bytes = frame(FRAME.close, 1);
  bytes[HEADER_BYTES] = code;
  return bytes;
}

/** Bytes behind the code are of a later version and passed over. */
export function decodeClose(payload: Buffer): CloseReason {
  return payload.length === 0 ? 'malformed' : closeReason(payload.readUInt8(0));
}
