/**
 * The recorded session of system-api (HEAD, and v0.7.0 with its empty bodies) replayed request by request, with the
 * configuration that brings the deployed behaviour back. Where ours differs on purpose, the test says so.
 */
import { createHash } from 'node:crypto';
import { appendFile, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Compat } from './answers.ts';
import { startTestApi, type TestApi } from './testing/api.ts';

const SALT = 'salt of the test';
const DEPLOYED = `
tls_enabled = true
without_password = "open"
password_rules = "none"
password_hash = "sha256"
basic_auth_secret_salt = "${SALT}"
shell_actions = true
action_environment = "inherited"
upload_check = "none"
upload_max_bytes = 67_108_864
http_read_timeout_ms = 0
http_write_timeout_ms = 0
unknown_keys = "ignore"
some_key_of_later_versions = 1
pipe_file = "DIR/pipe"
pipe_fragment_ms = 60_000
log_max_entries = 12
`;
const TABLES = `
[actions]
echo_test = "echo out; echo err >&2"
fails = "echo why >&2; exit 3"
with_args = "echo $1 > DIR/args.out"
slow = "sleep 2"
[file_uploads]
blocklist = "DIR/blocklist.json"
nodir = "DIR/missing/file"
`;

interface Step {
  readonly name: string;
  readonly request: string;
  readonly auth?: string;
  readonly send?: string | Buffer;
  readonly status: number;
  readonly type?: 'application/json' | 'text/plain';
  /** Of HEAD; times are T. */
  readonly body: string;
  /** v0.7.0 answers with the same body. */
  readonly same?: boolean;
  readonly headers?: Readonly<Record<string, string>>;
}

const OK = '{"status":"ok"}';
const DONE = '{"message":"Action executed successfully"}';
const UPDATED = '{"message":"Basic auth secret updated"}';
const BIG = Buffer.alloc(40_000_000, 'x');

const json = (
  name: string,
  request: string,
  status: number,
  body: string,
  more: Partial<Step> = {},
): Step => ({
  name,
  request,
  status,
  type: 'application/json',
  body,
  ...more,
});
const refused = (name: string, request: string, auth?: string): Step =>
  json(name, request, 401, '{"code":401,"message":"Unauthorized"}', {
    headers: { 'www-authenticate': 'Basic realm="system-api"' },
    ...(auth === undefined ? {} : { auth }),
  });
const wrongMethod = (name: string, request: string, allow: string): Step => ({
  name,
  request,
  status: 405,
  body: '',
  headers: { allow },
});

const BEFORE_PIPE: readonly Step[] = [
  json('alive', 'GET /', 200, OK),
  json('livez', 'GET /livez', 200, OK),
  json('events, none yet', 'GET /api/v1/events', 200, '[]', { same: true }),
  {
    name: 'new event',
    request: 'GET /api/v1/new_event?message=this+is+a+%3Ctest%3E',
    status: 200,
    body: '',
  },
  { name: 'new event without message', request: 'GET /api/v1/new_event', status: 200, body: '' },
  wrongMethod('new event by POST', 'POST /api/v1/new_event?message=x', 'GET'),
];

const PIPE_WRITES = ['one line\ntwo\n', 'no newline', ' then more\n', '\n'];

const TEXT = ['this is a <test>', '', 'one line', 'two', 'no newline then more', '']
  .map((message) => `T \t ${message}\n`)
  .join('');

const AFTER_PIPE: readonly Step[] = [
  json(
    'events after FIFO writes',
    'GET /api/v1/events',
    200,
    '[{"received_at":"T","message":"this is a \\u003ctest\\u003e"},{"received_at":"T","message":""},{"received_at":"T","message":"one line"},{"received_at":"T","message":"two"},{"received_at":"T","message":"no newline then more"},{"received_at":"T","message":""}]',
    { same: true },
  ),
  {
    name: 'events as text',
    request: 'GET /api/v1/events?format=text',
    status: 200,
    type: 'text/plain',
    body: TEXT,
    same: true,
  },
  { name: 'logs', request: 'GET /logs', status: 200, type: 'text/plain', body: TEXT, same: true },
  json('action', 'GET /api/v1/actions/echo_test', 200, DONE),
  json(
    'action that fails',
    'GET /api/v1/actions/fails',
    500,
    '{"code":500,"message":"Failed to execute action: fails - error: exit status 3"}',
  ),
  json(
    'unknown action',
    'GET /api/v1/actions/nope',
    400,
    '{"code":400,"message":"Specified action not configured"}',
  ),
  wrongMethod('action by POST', 'POST /api/v1/actions/echo_test', 'GET'),
  json('query string is not passed to the command', 'GET /api/v1/actions/with_args?x=1', 200, DONE),
  json('slow action blocks its own call', 'GET /api/v1/actions/slow', 200, DONE),
];

const actionEvents = (directory: string) =>
  [
    'one line',
    'two',
    'no newline then more',
    '',
    '[system-api] executing action: echo_test = echo out; echo err >&2',
    '[system-api] executing action success: echo_test = echo out; echo err >&2',
    '[system-api] executing action: fails = echo why >&2; exit 3',
    '[system-api] error executing action: fails - error: exit status 3 (stderr: why\n)',
    `[system-api] executing action: with_args = echo $1 > ${directory}/args.out`,
    `[system-api] executing action success: with_args = echo $1 > ${directory}/args.out`,
    '[system-api] executing action: slow = sleep 2',
    '[system-api] executing action success: slow = sleep 2',
  ]
    .map((message) => `T \t ${message}\n`)
    .join('');

const stored = (bytes: number) =>
  `{"file":"blocklist.json","message":"File uploaded successfully","size_bytes":"${bytes}"}`;
const UPLOAD = 'POST /api/v1/file-upload/blocklist';

const UPLOADS: readonly Step[] = [
  json('upload', UPLOAD, 200, stored(7), { send: '{"a":1}' }),
  json(
    'upload, unknown name',
    'POST /api/v1/file-upload/nope',
    400,
    '{"code":400,"message":"Specified file upload not configured"}',
    { send: 'x' },
  ),
  json(
    'upload that cannot be written',
    'POST /api/v1/file-upload/nodir',
    500,
    '{"code":500,"message":"Failed to write content to file"}',
    { send: 'x' },
  ),
  json('empty upload', UPLOAD, 200, stored(0)),
  wrongMethod('upload by GET', 'GET /api/v1/file-upload/blocklist', 'POST'),
  json('upload of 40 MB', UPLOAD, 200, stored(40_000_000), { send: BIG }),
];

const SET = 'POST /api/v1/set-basic-auth';

const PASSWORD: readonly Step[] = [
  json('set password', SET, 200, UPDATED, { send: 'foobar' }),
  refused('without credentials', 'GET /livez'),
  refused('wrong password', 'GET /livez', 'admin:x'),
  refused('other user', 'GET /livez', 'root:foobar'),
  json('right', 'GET /livez', 200, OK, { auth: 'admin:foobar' }),
  refused('404 needs them too', 'GET /nope'),
  {
    name: '404',
    request: 'GET /nope',
    auth: 'admin:foobar',
    status: 404,
    type: 'text/plain',
    body: '404 page not found\n',
    same: true,
  },
  json('change password', SET, 200, UPDATED, { auth: 'admin:foobar', send: 'new secret\n' }),
  refused('old one', 'GET /livez', 'admin:foobar'),
  refused('the body is taken as it is, newline included', 'GET /livez', 'admin:new secret'),
  json('with the newline', 'GET /livez', 200, OK, { auth: 'admin:new secret\n' }),
  json('an empty body sets the empty password', SET, 200, UPDATED, { auth: 'admin:new secret\n' }),
  json('empty password logs in', 'GET /livez', 200, OK, { auth: 'admin:' }),
];

async function replay(api: TestApi, compat: Compat, steps: readonly Step[]): Promise<void> {
  for (const step of steps) {
    const answer = await api.call(step.request, { auth: step.auth, body: step.send });
    expect(answer.status, step.name).toBe(step.status);
    const empty = compat === '0.7' && step.same !== true;
    const body = answer.body
      .replaceAll(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ(?= \t)/g, 'T')
      .replaceAll(/"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z"/g, '"T"');
    expect(body, step.name).toBe(empty ? '' : step.body);
    const type = answer.headers['content-type']?.split(';')[0];
    expect(type, step.name).toBe(empty ? undefined : step.type);
    for (const [name, value] of Object.entries(step.headers ?? {})) {
      expect(answer.headers[name], `${step.name}: ${name}`).toBe(value);
    }
  }
}

describe.each([['none'], ['0.7']] as const)('with --compat %s', (compat) => {
  test('the recorded session', async () => {
    const api = await startTestApi({ general: DEPLOYED, tables: TABLES, compat });
    const { directory } = api;
    expect((await stat(join(directory, 'pipe'))).isFIFO()).toBe(true);
    await replay(api, compat, BEFORE_PIPE);

    for (const text of PIPE_WRITES) await appendFile(join(directory, 'pipe'), text);
    await api.seen('event:pipe', 4);
    const began = performance.now();
    await replay(api, compat, AFTER_PIPE);
    expect(performance.now() - began).toBeGreaterThan(2000);
    expect(await readFile(join(directory, 'args.out'), 'utf8')).toBe('\n');
    await replay(api, compat, [
      {
        name: 'events (12 kept)',
        request: 'GET /logs',
        status: 200,
        type: 'text/plain',
        body: actionEvents(directory),
        same: true,
      },
    ]);

    await replay(api, compat, UPLOADS);
    const file = await stat(join(directory, 'blocklist.json'));
    expect(file.mode & 0o777).toBe(0o644);
    expect(file.size).toBe(40_000_000);

    await replay(api, compat, PASSWORD.slice(0, 1));
    const hashFile = join(directory, 'password');
    expect(await readFile(hashFile, 'utf8')).toBe(createHash('sha256').update(`foobar${SALT}`).digest('hex'));
    expect((await stat(hashFile)).mode & 0o777).toBe(0o600);
    await replay(api, compat, PASSWORD.slice(1));

    // Deployed: the new salted hash is visible to whoever may read the log. Not here.
    const log = (await api.call('GET /logs', { auth: 'admin:' })).body;
    expect(log).toContain('[system-api] basic auth secret updated\n');
    expect(log).not.toMatch(/[0-9a-f]{64}/);

    // After a restart, with no file for the events.
    await api.handle.close();
    const again = await startTestApi({ general: DEPLOYED, tables: TABLES, compat, directory });
    await replay(again, compat, [refused('after a restart', 'GET /api/v1/events')]);
    await replay(again, compat, [
      json('after a restart', 'GET /api/v1/events', 200, '[]', { auth: 'admin:', same: true }),
    ]);
  });

  test('no place for a password: 501, empty', async () => {
    const api = await startTestApi({
      general: 'basic_auth_secret_path = ""\nwithout_password = "open"',
      compat,
    });
    const { status, body, headers } = await api.call(SET, { body: 'x' });
    expect({ status, body }).toEqual({ status: 501, body: '' });
    expect(headers['content-type']).toBeUndefined();
  });

  test('a shell that is not there', async () => {
    const api = await startTestApi({ general: DEPLOYED, tables: TABLES, compat, shell: '/bin/no-such-ash' });
    await replay(api, compat, [
      json(
        'action',
        'GET /api/v1/actions/echo_test',
        500,
        '{"code":500,"message":"Failed to execute action: echo_test - error: fork/exec /bin/no-such-ash: no such file or directory"}',
      ),
    ]);
  });
});
