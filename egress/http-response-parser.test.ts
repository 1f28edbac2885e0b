/** The parser against legal responses in every split, and against what breaks the rules. RFC 9112. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  HttpResponseParser,
  type ResponseError,
  type ResponseParserOptions,
} from './http-response-parser.ts';

const SEED = 20_250_701;

interface Read {
  status: number;
  body: string;
  keepAlive: boolean;
}

/** Parses a stream given in chunks. */
function parse(
  chunks: readonly (string | Buffer)[],
  options?: ResponseParserOptions,
): { read: Read[]; error: ResponseError | null; atEnd: ResponseError | null } {
  const read: Read[] = [];
  const sink = {
    response: (status: number, body: Buffer, keepAlive: boolean, times: number) => {
      for (let i = 0; i < times; i++) read.push({ status, body: body.toString('latin1'), keepAlive });
    },
  };
  const parser = new HttpResponseParser(sink, options);
  let error: ResponseError | null = null;
  for (const chunk of chunks)
    error ??= parser.push(typeof chunk === 'string' ? Buffer.from(chunk, 'latin1') : Buffer.from(chunk));
  return { read, error, atEnd: error === null ? parser.end() : null };
}

/** One chunk per byte. */
function bytesOf(stream: string): string[] {
  return stream.split('');
}

function ok(body: string): string {
  return `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
}

test('an answer that comes again means the same, however it is cut and whatever is between', () => {
  const answers = [
    ok('{"jsonrpc":"2.0","id":0,"result":null}'),
    ok('{"jsonrpc":"2.0","id":0,"result":true}'),
    ok(''),
    ok('x'.repeat(60)),
    'HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\nno',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n',
    'HTTP/1.1 100 Continue\r\n\r\n',
    'HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok',
    'HTTP/1.1 204 No Content\r\n\r\n',
  ];
  const last = ['HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok', 'HTTP/1.1 20'];
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(...answers), { maxLength: 12 }),
      fc.constantFrom('', ...last),
      fc.array(fc.nat(900), { maxLength: 5 }),
      (some, end, cuts) => {
        // Twice, so that each comes again, at once or later.
        const stream = some.flatMap((answer) => [answer, answer]).join('') + some.join('') + end + end;
        const places = [...cuts, stream.length].sort((a, b) => a - b);
        const chunks = places.map((place, index) => stream.slice(places[index - 1] ?? 0, place));
        const options = { maxBodyBytes: 50 };
        expect(parse(chunks, options)).toEqual(parse(bytesOf(stream), options));
      },
    ),
    { seed: SEED, numRuns: 1000 },
  );
});

describe('legal responses', () => {
  test('several in one chunk', () => {
    const { read, error, atEnd } = parse([ok('one') + ok('') + ok('three')]);
    expect(read.map((response) => response.body)).toEqual(['one', '', 'three']);
    expect({ error, atEnd }).toEqual({ error: null, atEnd: null });
  });

  test('chunked, with extensions and trailers, in upper and lower case hex', () => {
    const stream =
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b;c="d"\r\nabc\r\n00A\r\n0123456789\r\n0\r\nX-Trailer: 1\r\n\r\n';
    expect(parse([stream + ok('next')]).read).toEqual([
      { status: 200, body: 'abc0123456789', keepAlive: true },
      { status: 200, body: 'next', keepAlive: true },
    ]);
  });

  test('100-continue and 103 are skipped', () => {
    const interim = 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n';
    expect(parse([interim + ok('x')]).read).toEqual([{ status: 200, body: 'x', keepAlive: true }]);
  });

  test('204 and 304 have no body, whatever their header says', () => {
    const stream = 'HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n';
    expect(parse([stream + ok('x')]).read.map((response) => response.status)).toEqual([204, 304, 200]);
  });

  test('nothing is read after Connection: close', () => {
    const closing = 'HTTP/1.1 200 OK\r\nConnection: Keep-Alive, Close\r\nContent-Length: 1\r\n\r\nx';
    expect(parse([closing + ok('y')])).toEqual({
      read: [{ status: 200, body: 'x', keepAlive: false }],
      error: null,
      atEnd: null,
    });
  });

  test('HTTP/1.0 closes unless it says keep-alive', () => {
    const kept = 'HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx';
    const closed = 'HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\ny';
    expect(parse([kept + closed]).read.map((response) => response.keepAlive)).toEqual([true, false]);
  });

  test('a body without a length ends with the connection', () => {
    const { read, atEnd } = parse(['HTTP/1.1 200 OK\r\n\r\nab', 'cd']);
    expect(read).toEqual([{ status: 200, body: 'abcd', keepAlive: false }]);
    expect(atEnd).toBe(null);
  });

  test('no reason phrase, bare line feeds, a folded field, a body of binary bytes', () => {
    const stream = 'HTTP/1.1 200\nX-Long: a\n b\nContent-Length: 3\n\n\x00\xff\n';
    expect(parse([stream]).read).toEqual([{ status: 200, body: '\x00\xff\n', keepAlive: true }]);
  });

  test('a body is kept up to the bound, the rest thrown away', () => {
    const long = 'x'.repeat(5_000);
    const chunked = `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1388\r\n${long}\r\n0\r\n\r\n`;
    for (const chunks of [[ok(long) + chunked + ok('y')], bytesOf(ok(long) + chunked + ok('y'))]) {
      const { read } = parse(chunks, { maxBodyBytes: 100 });
      expect(read.map((response) => response.body.length)).toEqual([100, 100, 1]);
    }
  });
});

describe('what breaks the rules', () => {
  test.each<[string, string, ResponseError]>([
    ['garbage', 'SSH-2.0-OpenSSH\r\n', 'bad_status_line'],
    ['HTTP/2', 'HTTP/2 200\r\n', 'bad_status_line'],
    ['a status of two digits', 'HTTP/1.1 20 OK\r\n', 'bad_status_line'],
    ['a status below 100', 'HTTP/1.1 099 OK\r\n', 'bad_status_line'],
    ['an empty line first', '\r\nHTTP/1.1 200 OK\r\n', 'bad_status_line'],
    ['a field without a colon', 'HTTP/1.1 200 OK\r\nContent-Length\r\n', 'bad_header'],
    ['a field without a name', 'HTTP/1.1 200 OK\r\n: 5\r\n', 'bad_header'],
    ['space before the colon', 'HTTP/1.1 200 OK\r\nContent-Length : 5\r\n', 'bad_header'],
    ['a fold right after the status', 'HTTP/1.1 200 OK\r\n folded\r\n', 'bad_header'],
    ['a folded length', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\n 0\r\n', 'bad_header'],
    ['a negative length', 'HTTP/1.1 200 OK\r\nContent-Length: -1\r\n', 'bad_content_length'],
    ['a length in hex', 'HTTP/1.1 200 OK\r\nContent-Length: 0x1\r\n', 'bad_content_length'],
    ['a length past 2^53', `HTTP/1.1 200 OK\r\nContent-Length: ${'9'.repeat(16)}\r\n`, 'bad_content_length'],
    ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n', 'bad_content_length'],
    ['a list of lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n', 'bad_content_length'],
    ['gzip', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n', 'bad_transfer_encoding'],
    [
      'chunked twice',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n',
      'bad_transfer_encoding',
    ],
    ['chunked in HTTP/1.0', 'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n', 'bad_transfer_encoding'],
    [
      'chunked with a length',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n',
      'bad_transfer_encoding',
    ],
    [
      'a chunk size that is none',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n',
      'bad_chunk',
    ],
    ['an empty chunk size', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n;a\r\n', 'bad_chunk'],
    [
      'a chunk size past 2^48',
      `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${'f'.repeat(13)}\r\n`,
      'bad_chunk',
    ],
    [
      'a chunk longer than its size',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n',
      'bad_chunk',
    ],
    ['101', 'HTTP/1.1 101 Switching Protocols\r\n\r\n', 'unexpected_upgrade'],
    ['an endless header', `HTTP/1.1 200 OK\r\n${'X-A: b\r\n'.repeat(3_000)}`, 'header_too_big'],
    ['an endless line', `HTTP/1.1 200 ${'O'.repeat(20_000)}`, 'header_too_big'],
    [
      'endless trailers',
      `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n${'X-A: b\r\n'.repeat(3_000)}`,
      'header_too_big',
    ],
  ])('%s', (_name, stream, expected) => {
    expect(parse([stream])).toEqual({ read: [], error: expected, atEnd: null });
    expect(parse(bytesOf(stream)).error).toBe(expected);
  });

  test.each([
    'HTTP/1.1 2',
    'HTTP/1.1 200 OK\r\nContent-Le',
    'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n',
  ])('cut short: %j', (stream) => {
    expect(parse([ok('x') + stream])).toEqual({
      read: [{ status: 200, body: 'x', keepAlive: true }],
      error: null,
      atEnd: 'cut_short',
    });
  });

  test('nothing is read after stop, not even the rest of the same chunk', () => {
    let count = 0;
    const parser = new HttpResponseParser({
      response: () => {
        count++;
        parser.stop();
      },
    });
    expect(parser.push(Buffer.from(ok('a') + ok('b')))).toBe(null);
    expect(parser.push(Buffer.from(ok('c')))).toBe(null);
    expect({ count, idle: parser.idle, end: parser.end() }).toEqual({ count: 1, idle: true, end: null });
  });
});

/** A legal response and its bytes. */
const legalResponse = fc
  .record({
    status: fc.constantFrom(200, 200, 200, 201, 204, 304, 400, 429, 500, 503),
    body: fc.string({ unit: fc.constantFrom('a', '{', '\r', '\n', ' ', '0', 'H'), maxLength: 60 }),
    chunks: fc.option(fc.array(fc.nat(8), { minLength: 1, maxLength: 6 }), { nil: null }),
    extension: fc.constantFrom('', ';x', ' ;a="b"'),
    trailer: fc.constantFrom('', 'X-T: 1\r\n'),
    interim: fc.constantFrom(
      '',
      '',
      'HTTP/1.1 100 Continue\r\n\r\n',
      'HTTP/1.1 102 Processing\r\nA: b\r\n\r\n',
    ),
    headers: fc.array(
      fc.constantFrom(
        'Date: Tue, 01 Jul 2025 00:00:00 GMT',
        'X-Fourteen-Cha: 5',
        'Server: x',
        'connectioN:keep-alive',
        'Folded: a\r\n b',
      ),
      { maxLength: 4 },
    ),
    lengthName: fc.constantFrom('Content-Length: ', 'content-length:', 'CONTENT-LENGTH: \t'),
    eol: fc.constantFrom('\r\n', '\r\n', '\n'),
  })
  .map((shape) => {
    const bodyless = shape.status === 204 || shape.status === 304;
    const lines = [`HTTP/1.1 ${shape.status} Some Reason`, ...shape.headers];
    let body = '';
    if (!bodyless && shape.chunks !== null) {
      lines.push('Transfer-Encoding: chunked');
      let at = 0;
      for (const size of [...shape.chunks, shape.body.length]) {
        const piece = shape.body.slice(at, at + size);
        at += size;
        if (piece !== '') body += `${piece.length.toString(16)}${shape.extension}\r\n${piece}\r\n`;
      }
      body += `0\r\n${shape.trailer}\r\n`;
    } else if (!bodyless) {
      lines.push(shape.lengthName + shape.body.length);
      body = shape.body;
    }
    const bytes = `${shape.interim}${lines.join(shape.eol)}${shape.eol}${shape.eol}${body}`;
    return { bytes, read: { status: shape.status, body: bodyless ? '' : shape.body, keepAlive: true } };
  });

/** Cuts a stream at positions given as fractions. */
function cut(stream: string, at: readonly number[]): string[] {
  const places = [...new Set(at.map((fraction) => Math.floor(fraction * stream.length)))].sort(
    (a, b) => a - b,
  );
  const pieces: string[] = [];
  let from = 0;
  for (const place of [...places, stream.length]) {
    pieces.push(stream.slice(from, place));
    from = place;
  }
  return pieces;
}

const cuts = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 });

describe(`properties (seed ${SEED})`, () => {
  test('any sequence of legal responses, split anywhere, is read as it was written', () => {
    fc.assert(
      fc.property(fc.array(legalResponse, { maxLength: 6 }), cuts, (responses, at) => {
        const stream = responses.map((response) => response.bytes).join('');
        const expected = responses.map((response) => response.read);
        for (const chunks of [cut(stream, at), bytesOf(stream)]) {
          expect(parse(chunks)).toEqual({ read: expected, error: null, atEnd: null });
        }
      }),
      { seed: SEED, numRuns: 500 },
    );
  });

  test('damaged and random bytes never throw, and give the same in one piece as in many', () => {
    const damaged = fc
      .tuple(
        fc.array(legalResponse, { minLength: 1, maxLength: 3 }),
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }),
      )
      .map(([responses, changes]) => {
        const bytes = Buffer.from(responses.map((response) => response.bytes).join(''), 'latin1');
        for (const [at, value] of changes) bytes[at % bytes.length] = value;
        return bytes.toString('latin1');
      });
    const random = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes).toString('latin1'));
    fc.assert(
      fc.property(fc.oneof(damaged, random), cuts, (stream, at) => {
        const whole = parse([stream]);
        expect(parse(cut(stream, at))).toEqual(whole);
        expect(parse(bytesOf(stream))).toEqual(whole);
      }),
      { seed: SEED, numRuns: 1_000 },
    );
  });
});
