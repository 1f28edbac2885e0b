/** What answers mean: protocol sections 2 and 5, pipeline/errors.ts. */
import { expect, test } from 'vitest';
import { classifyAnswer } from './answer.ts';
import type { AnswerFailure } from './delivery.ts';

function error(code: number, message: string): string {
  return JSON.stringify({ jsonrpc: '2.0', id: 0, error: { code, message } });
}

test.each<[string, number, string, AnswerFailure | null, boolean]>([
  ['null result', 200, '{"jsonrpc":"2.0","id":0,"result":null}', null, false],
  ['null result as Go writes it', 200, '{"jsonrpc":"2.0","id":0,"result":null}\n', null, false],
  ['bundle hash', 200, '{"jsonrpc":"2.0","id":0,"result":{"bundleHash":"0x00"}}', null, false],
  ['null error beside a result', 200, '{"jsonrpc":"2.0","id":0,"result":1,"error":null}', null, false],
  ['text that speaks of an error', 200, '{"jsonrpc":"2.0","id":0,"result":"\\"error\\":"}', null, false],
  [
    'unknown peer',
    200,
    error(-32000, "unknown peers can't send to the system address"),
    'unknown_peer',
    true,
  ],
  [
    'a certificate that the list has no longer, or not yet',
    200,
    error(-32000, "the client certificate does not belong to the order's signer"),
    'unknown_peer',
    true,
  ],
  ['overloaded', 200, error(-32005, 'overloaded'), 'overloaded', true],
  ['busy jsonrpsee server', 200, error(-32009, 'Server is busy, try again later'), 'overloaded', true],
  ['overloaded with a status', 429, error(-32005, 'slow down'), 'overloaded', true],
  ['gateway errors', 502, 'Bad Gateway', 'overloaded', true],
  ['unavailable', 503, '', 'overloaded', true],
  ['gateway timeout', 504, '', 'overloaded', true],
  ['request timeout of an idle connection', 408, '', 'overloaded', true],
  ['invalid params', 200, error(-32000, 'invalid version'), 'rpc_error', false],
  ['invalid signature', 200, error(-32600, 'invalid signature provided: x'), 'rpc_error', false],
  ['an error that is text', 200, '{"error":"unknown"}', 'rpc_error', false],
  ['bad request', 400, '', 'http_4xx', false],
  ['too large', 413, '', 'http_4xx', false],
  ['server error', 500, '{"jsonrpc":"2.0","id":0,"result":null}', 'http_5xx', false],
  ['redirect', 301, '', 'http_other', false],
  ['a status that does not exist', 999, '', 'http_other', false],
  ['empty', 200, '', 'not_json_rpc', false],
  ['no JSON', 200, '<html>', 'not_json_rpc', false],
  ['JSON of another kind', 200, '[]', 'not_json_rpc', false],
  ['null', 200, 'null', 'not_json_rpc', false],
  ['neither result nor error', 200, '{"jsonrpc":"2.0","id":0}', 'not_json_rpc', false],
])('%s', (_name, status, body, failure, retryable) => {
  expect(classifyAnswer(status, Buffer.from(body))).toEqual({ failure, retryable });
});
