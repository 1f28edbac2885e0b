/**
 * HTTP/2 frames as bytes (RFC 9113 section 4, RFC 7541 for the heads), for clients that do what no library lets them
 * do.
 */

export const FRAME = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  ping: 6,
  windowUpdate: 8,
  continuation: 9,
} as const;

export const END_STREAM = 1;
export const END_HEADERS = 4;
export const SETTING_INITIAL_WINDOW = 4;

/** What a client sends first. */
export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

export function frame(
  type: number,
  flags: number,
  stream: number,
  payload: Buffer = Buffer.alloc(0),
): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

export function settings(...values: readonly (readonly [key: number, value: number])[]): Buffer {
  const payload = Buffer.alloc(6 * values.length);
  for (const [i, [key, value]] of values.entries()) {
    payload.writeUInt16BE(key, 6 * i);
    payload.writeUInt32BE(value, 6 * i + 2);
  }
  return frame(FRAME.settings, 0, 0, payload);
}

/** A header field that the far side does not keep in its table. */
export function literal(name: string, value: string): Buffer {
  return Buffer.concat([Buffer.from([0x00]), text(name), text(value)]);
}

/** A header field that the far side keeps: afterwards one byte, 0xbe, stands for it (the newest entry). */
export function kept(name: string, value: string): Buffer {
  return Buffer.concat([Buffer.from([0x40]), text(name), text(value)]);
}

/** The head of `POST /` with JSON. */
export function postHead(...more: readonly Buffer[]): Buffer {
  const fixed = Buffer.from([0x83, 0x84, 0x87]);
  return Buffer.concat([
    fixed,
    literal(':authority', 'x'),
    literal('content-type', 'application/json'),
    ...more,
  ]);
}

/** The head of `GET path`. */
export function getHead(path: string): Buffer {
  return Buffer.concat([Buffer.from([0x82, 0x87]), literal(':path', path), literal(':authority', 'x')]);
}

/** The ids of a client's first streams. */
export function streamIds(count: number): number[] {
  return Array.from({ length: count }, (_, i) => 2 * i + 1);
}

/** Length with a prefix of 7 bits, no Huffman code, then the bytes. */
function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'latin1');
  const length = [Math.min(bytes.length, 127)];
  if (bytes.length >= 127) {
    let rest = bytes.length - 127;
    for (; rest >= 128; rest >>>= 7) length.push((rest & 127) | 128);
    length.push(rest);
  }
  return Buffer.concat([Buffer.from(length), bytes]);
}
