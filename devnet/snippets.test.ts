import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { createOrderSource } from './orders.ts';
import { curlSnippet, viemSnippet } from './snippets.ts';

const target = { url: 'https://127.0.0.1:1', certificateFile: "/tmp/it's here/node-1.pem" };

/** What a shell makes of a pasted command: each argument on a line of its own. */
function argumentsOf(command: string): string[] {
  const script = command.replace(/^curl/, "printf '%s\\n'");
  return execFileSync('/bin/sh', ['-c', script], { encoding: 'utf8' }).trimEnd().split('\n');
}

test('the curl command survives a shell with body and certificate path as they are', () => {
  const order = createOrderSource({ seed: 'snippets', methods: 'bundles', bodyBytes: 400 }).next();
  expect(argumentsOf(curlSnippet(target, order))).toEqual([
    '--cacert',
    target.certificateFile,
    target.url,
    '-H',
    'content-type: application/json',
    '-H',
    `x-flashbots-signature: ${order.signature}`,
    '-d',
    order.body.toString(),
  ]);
});

test('the viem program is a whole here-document with the address in it', () => {
  const lines = viemSnippet(target).split('\n');
  expect(lines[0]).toBe(
    "NODE_EXTRA_CA_CERTS='/tmp/it'\\''s here/node-1.pem' npx node --input-type=module <<'END'",
  );
  expect(lines.at(-1)).toBe('END');
  expect(lines.join('\n')).toContain("fetch('https://127.0.0.1:1'");
});
