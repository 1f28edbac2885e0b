/** The node as a program: what it says and how it exits when a setting is wrong. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const MAIN = join(import.meta.dirname, 'main.ts');

test.each([
  [{ MODE: 'both' }, 'MODE: "both" is not allowed; allowed is node or sender\n'],
  [{ MODE: 'sender' }, 'ORDERFLOW_SIGNER_KEY: is missing; sender mode signs with the key it is given\n'],
  [
    { MAX_PENDING_BYTES: '1048576' },
    'MAX_PENDING_BYTES: is below MAX_REQUEST_BODY_SIZE_BYTES; such a body could never be read\n',
  ],
])('%j ends it with 2 and one line', (env, message) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN], { env, encoding: 'utf8' });
  expect({ status, stdout, stderr }).toEqual({ status: 2, stdout: '', stderr: message });
});
