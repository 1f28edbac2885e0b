/** Rows of protocol section 2 that are about the envelope, in their order. */
import { describe, expect, test } from 'vitest';
import { encodeError, encodeResult, parseRequest, RefusedRequest } from './json-rpc.ts';

function refusal(body: string | Buffer): { kind: string; message: string; idText: string } {
  const parsed = parseRequest(Buffer.from(body));
  if (!(parsed instanceof RefusedRequest)) throw new Error('not refused');
  return { kind: parsed.rejection.kind, message: parsed.rejection.message, idText: parsed.idText };
}

const request = (members: string): string =>
  `{"jsonrpc":"2.0","method":"eth_sendBundle","params":[{}],${members}}`;

describe('requests', () => {
  test('the param is found wherever it stands', () => {
    const parsed = parseRequest(
      Buffer.from('{"params" : [ {"a":1} ], "id":"x","METHOD":"eth_sendBundle","jsonrpc":"2.0" }\n'),
    );
    if (parsed instanceof RefusedRequest) throw new Error(parsed.rejection.message);
    expect(parsed.method).toBe('eth_sendBundle');
    expect(parsed.json.raw(parsed.paramAt)).toBe('{"a":1}');
  });

  test.each(['1', '12345678901234567890', '1.0', '-1e3', '"a\\u0041\\"é"', '""', 'null'])(
    'id %s comes back as it was sent',
    (id) => {
      const parsed = parseRequest(Buffer.from(request(`"id":${id}`)));
      expect(parsed).toHaveProperty('idText', id);
    },
  );

  test('no id is null', () => {
    expect(
      parseRequest(Buffer.from('{"jsonrpc":"2.0","method":"eth_sendBundle","params":[1]}')),
    ).toHaveProperty('idText', 'null');
  });
});

describe('refused', () => {
  test.each([
    ['', 'request: not a JSON object'],
    ['1', 'request: not a JSON object'],
    ['"{}"', 'request: not a JSON object'],
    ['[{"jsonrpc":"2.0"}]', 'batch requests are not accepted'],
    ['{', 'request: not valid JSON'],
    ['{"jsonrpc":"2.0"} x', 'request: not valid JSON'],
    [request('"id":1').slice(0, -1), 'request: not valid JSON'],
    [request('"id":01'), 'request: not valid JSON'],
    [request('"id":1,"method":5'), 'method is not a string'],
    [request('"id":1,"params":{}'), 'params is not a list'],
    [request('"id":1,"Method":"x"'), 'request.method: key appears in two spellings'],
    [request(`"id":1,"x":${'['.repeat(64)}${']'.repeat(64)}`), 'request: nested more than 64 levels deep'],
  ])('no request: %s', (body, message) => {
    expect(refusal(body)).toEqual({ kind: 'parse_error', message, idText: 'null' });
  });

  test.each(['"1.0"', '2.0', 'null', '"2.0 "', '[]'])('jsonrpc %s', (version) => {
    expect(refusal(request(`"id":7,"jsonrpc":${version}`))).toEqual({
      kind: 'parse_error',
      message: 'invalid jsonrpc version',
      idText: '7',
    });
  });

  test.each(['{}', '[1]', 'true', 'false'])('id %s', (id) => {
    expect(refusal(request(`"id":${id}`))).toEqual({
      kind: 'parse_error',
      message: 'invalid id type',
      idText: 'null',
    });
  });

  test.each(['"eth_sendbundle"', '"eth_call"', '""', 'null', '"__proto__"', '"toString"'])(
    'method %s',
    (method) => {
      expect(refusal(request(`"id":7,"method":${method}`))).toEqual({
        kind: 'method_not_found',
        message: 'method not found',
        idText: '7',
      });
    },
  );

  test('more params than the method takes', () => {
    expect(refusal(request('"id":"a","params":[{},{}]'))).toEqual({
      kind: 'invalid_params',
      message: 'too much arguments',
      idText: '"a"',
    });
  });

  test.each([
    ['eth_sendBundle', 'a bundle'],
    ['mev_sendBundle', 'a bundle'],
    ['eth_cancelBundle', 'an object with replacementUuid'],
    ['eth_sendRawTransaction', 'a hex transaction'],
    ['bid_subsidiseBlock', 'an amount'],
  ])('fewer params than %s takes', (method, what) => {
    for (const params of ['[]', 'null', '[ ]']) {
      expect(refusal(`{"jsonrpc":"2.0","id":1,"method":"${method}","params":${params}}`)).toEqual({
        kind: 'invalid_params',
        message: `too few arguments: params[0] is missing, ${what}`,
        idText: '1',
      });
    }
    expect(refusal(`{"jsonrpc":"2.0","id":1,"method":"${method}"}`).kind).toBe('invalid_params');
  });

  test('in the order of the table', () => {
    const everythingWrong = '{"jsonrpc":"1","id":{},"method":"x","params":[1,2]}';
    expect(refusal(`${everythingWrong}]`).message).toBe('request: not valid JSON');
    expect(refusal(everythingWrong)).toMatchObject({ message: 'invalid jsonrpc version', idText: 'null' });
    expect(refusal(everythingWrong.replace('"1"', '"2.0"')).message).toBe('invalid id type');
    expect(refusal('{"jsonrpc":"2.0","id":1,"method":"x","params":[1,2]}').message).toBe('method not found');
  });

  test('the message never holds what was sent', () => {
    const secret = 'secretvalue';
    for (const body of [
      `{"${secret}":`,
      request(`"id":1,"${secret}":[${secret}]`),
      `{"method":"${secret}"}`,
      secret,
    ]) {
      expect(refusal(body).message).not.toContain(secret);
    }
  });
});

test('answers', () => {
  expect(encodeResult('12345678901234567890', 'null')).toBe(
    '{"jsonrpc":"2.0","id":12345678901234567890,"result":null}',
  );
  expect(encodeError('"a"', -32000, 'say "no"')).toBe(
    '{"jsonrpc":"2.0","id":"a","error":{"code":-32000,"message":"say \\"no\\""}}',
  );
});
