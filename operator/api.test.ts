/** The API over real TLS, with the defaults that differ from the deployed program, and with unclean input. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:fs';
import { open, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import http2 from 'node:http2';
import net from 'node:net';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { gzipSync } from 'node:zlib';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createCredentials } from '../identity/certificate.ts';
import { ManualTimer } from '../identity/testing/manual-timer.ts';
import { temporaryDirectory } from '../testing/directory.ts';
import { hashPassword } from './password.ts';
import { startTestApi } from './testing/api.ts';

const PASSWORD = 'correct horse battery';
const auth = `admin:${PASSWORD}`;
const HASH = await hashPassword(Buffer.from(PASSWORD));
const WITH_HASH = `basic_auth_secret_hash = "${HASH}"\n`;
const ADDRESS = '0x00000000219ab540356cBB839Cbe05303d7705Fa';
const TABLES = `
[actions]
fine = ["/bin/true"]
slow = { command = ["/bin/sh", "-c", "echo started > DIR/started; sleep 600"], timeout_ms = 400 }
loud = { command = ["/usr/bin/yes"], output_bytes = 1024 }
reads = ["/bin/cat", "DIR/fifo"]
[file_uploads]
list = "DIR/list.json"
small = { path = "DIR/small", check = "none", max_bytes = 10, mode = 0o640 }
`;

const start = (general = WITH_HASH) => startTestApi({ general, tables: TABLES });

describe('without a password', () => {
  test('nothing but /livez, set-basic-auth and the form for it', async () => {
    const api = await start('');
    for (const request of [
      'GET /',
      'GET /api/v1/events',
      'GET /logs',
      'GET /api/v1/new_event?message=x',
      'GET /api/v1/actions/fine',
      'POST /api/v1/file-upload/small',
      'POST /ui/actions/fine',
      'GET /nope',
      'POST /livez',
      'GET /api/v1/set-basic-auth',
    ]) {
      const { status, body } = await api.call(request);
      expect([request, status, body]).toEqual([
        request,
        403,
        '{"code":403,"message":"there is no password yet: POST it to /api/v1/set-basic-auth"}',
      ]);
    }
    expect((await api.call('GET /livez')).status).toBe(200);
    expect((await api.call('POST /api/v1/set-basic-auth', { body: 'short' })).body).toBe(
      '{"code":400,"message":"body: is shorter than 8 bytes"}',
    );
    expect((await api.call('POST /api/v1/set-basic-auth', { body: PASSWORD })).status).toBe(200);
    expect((await api.call('GET /livez')).status).toBe(401);
    expect((await api.call('POST /api/v1/set-basic-auth', { body: 'another password' })).status).toBe(401);
    expect((await api.call('GET /', { auth })).status).toBe(200);
  });

  test('a configured hash leaves nothing to the first caller', async () => {
    const api = await start();
    expect((await api.call('POST /api/v1/set-basic-auth', { body: 'of the first caller' })).status).toBe(401);
    expect((await api.call('GET /livez', { auth })).status).toBe(200);
    const change = { auth, body: 'the operator’s own' };
    expect((await api.call('POST /api/v1/set-basic-auth', change)).status).toBe(200);
    await api.handle.close();
    const again = await startTestApi({ general: WITH_HASH, tables: TABLES, directory: api.directory });
    expect((await again.call('GET /livez', { auth })).status).toBe(401);
    expect((await again.call('GET /livez', { auth: `admin:${change.body}` })).status).toBe(200);
  });

  test('/livez can be left open', async () => {
    const api = await start(`${WITH_HASH}livez_open = true`);
    expect((await api.call('GET /livez')).status).toBe(200);
    expect((await api.call('GET /')).status).toBe(401);
  });
});

test('no password, hash or content of a file gets into the log or what is reported', async () => {
  const api = await start('');
  await api.call('POST /api/v1/set-basic-auth', { body: PASSWORD });
  await api.call('POST /api/v1/set-basic-auth', { auth, body: `${PASSWORD} 2` });
  await api.call('GET /', { auth });
  const after = `${auth} 2`;
  await api.call('POST /api/v1/file-upload/list', { auth: after, body: `["${ADDRESS}"]` });
  const stored = await readFile(join(api.directory, 'password'), 'utf8');
  const seen = (await api.call('GET /logs', { auth: after })).body + api.reported.join('\n');
  expect(seen).toContain('basic auth secret updated');
  for (const secret of [PASSWORD, stored, stored.split('$').at(-1) ?? '', ADDRESS]) {
    expect(seen).not.toContain(secret);
  }
});

test('failed logins of an address are limited', async () => {
  const api = await start(`${WITH_HASH}failed_logins_per_minute = 2`);
  expect((await api.call('GET /', { auth: 'admin:1' })).status).toBe(401);
  expect((await api.call('GET /', { auth: 'admin:2' })).status).toBe(401);
  const { status, headers, body } = await api.call('GET /', { auth });
  expect([status, body]).toEqual([429, '{"code":429,"message":"Authorization: too many failed logins"}']);
  expect(Number(headers['retry-after'])).toBeGreaterThan(0);
  expect((await api.call('GET /')).status).toBe(401);
});

describe('actions', () => {
  test('are ended at their bounds, one of a name at a time', async () => {
    const api = await start();
    execFileSync('mkfifo', [join(api.directory, 'fifo')]);
    const reads = api.call('GET /api/v1/actions/reads', { auth });
    await api.seen('event:server');
    expect((await api.call('GET /api/v1/actions/reads', { auth })).body).toBe(
      '{"code":409,"message":"Action is running already: reads"}',
    );
    await writeFile(join(api.directory, 'fifo'), '');
    expect((await reads).status).toBe(200);
    expect((await api.call('GET /api/v1/actions/slow', { auth })).body).toBe(
      '{"code":500,"message":"Failed to execute action: slow - error: timed out after 400 ms"}',
    );
    expect((await api.call('GET /api/v1/actions/loud', { auth })).body).toBe(
      '{"code":500,"message":"Failed to execute action: loud - error: wrote more than 1024 bytes"}',
    );
    expect((await api.call('GET /api/v1/actions/fine', { auth })).status).toBe(200);
  });

  test('HEAD, and a name that is none, run nothing', async () => {
    const api = await start();
    const head = await api.call('HEAD /api/v1/actions/fine', { auth });
    expect([head.status, head.headers.allow]).toEqual([405, 'GET']);
    for (const name of ['fine%00', '..%2Ffine', 'FINE', '__proto__', 'constructor', 'fine%20']) {
      expect((await api.call(`GET /api/v1/actions/${name}`, { auth })).status, name).toBe(400);
    }
    for (const path of ['/api/v1/actions/fine/', '/api/v1/actions//fine', '/api/v1/actions/', '//']) {
      expect((await api.call(`GET ${path}`, { auth })).status, path).toBe(404);
    }
    expect(api.reported.filter((text) => text.startsWith('action:'))).toEqual([]);
  });

  test('a page on another site cannot run one with the credentials that a browser knows', async () => {
    const api = await start();
    const headers = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' };
    const { status, body } = await api.call('GET /api/v1/actions/fine', { auth, headers });
    expect([status, body]).toEqual([
      403,
      '{"code":403,"message":"Origin: the request comes from another site"}',
    ]);
    const own = { 'sec-fetch-site': 'same-origin', origin: api.url };
    expect((await api.call('GET /api/v1/actions/fine', { auth, headers: own })).status).toBe(200);
  });
});

describe('forms of the page', () => {
  const form = (fields: Record<string, string>) => new URLSearchParams(fields).toString();
  const tokenIn = (page: string) => /name="token" value="([^"]+)"/.exec(page)?.[1] ?? '';

  test('count only with a token from the page, which ends with the password', async () => {
    const api = await start();
    const token = tokenIn((await api.call('GET /ui', { auth })).body);
    const run = (fields: Record<string, string>, as = auth) =>
      api.call('POST /ui/actions/fine', { auth: as, body: form(fields) });
    for (const fields of [{}, { token: '' }, { token: `${token}x` }, { token: token.replace(/^./, '9') }]) {
      const { status, body } = await run(fields);
      expect(status).toBe(403);
      expect(body).toContain('Nothing was done');
    }
    expect(api.reported.filter((text) => text.startsWith('action:'))).toEqual([]);
    const { status, headers } = await run({ token });
    expect([status, headers.location]).toEqual([303, '/ui#actions']);
    expect(api.reported).toContain('action:fine:done');

    const [password, other] = ['another password', 'yet another one'];
    const change = (fields: Record<string, string>) =>
      api.call('POST /ui/password', { auth, body: form({ token, ...fields }) });
    expect((await change({ password, again: other })).status).toBe(400);
    expect((await change({ password: 'short', again: 'short' })).body).toContain('shorter than 8 bytes');
    expect((await change({ password, again: password })).status).toBe(303);
    expect((await run({ token })).status).toBe(401);
    expect((await run({ token }, `admin:${password}`)).status).toBe(403);
  });

  test('are bounded, and an action that is none is told', async () => {
    const api = await start();
    const token = tokenIn((await api.call('GET /ui', { auth })).body);
    const long = form({ token, more: 'x'.repeat(10_000) });
    expect((await api.call('POST /ui/actions/fine', { auth, body: long })).status).toBe(413);
    const unknown = await api.call('POST /ui/actions/nope', { auth, body: form({ token }) });
    expect([unknown.status, unknown.body.includes('There is no such action.')]).toEqual([409, true]);
  });

  test('the page takes nothing from elsewhere and is in no frame', async () => {
    const api = await start();
    const { headers } = await api.call('GET /ui', { auth });
    expect(headers['content-security-policy']).toMatch(
      /^default-src 'none'; style-src 'sha256-[\w+/=]{44}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'$/,
    );
    expect(headers).toMatchObject({ 'x-frame-options': 'DENY', 'cache-control': 'no-store' });
  });
});

describe('uploads', () => {
  test('are checked before they replace the file', async () => {
    const api = await start();
    const file = join(api.directory, 'list.json');
    const list = `["${ADDRESS}"]`;
    expect((await api.call('POST /api/v1/file-upload/list', { auth, body: list })).body).toBe(
      `{"file":"list.json","message":"File uploaded successfully","size_bytes":"${list.length}"}`,
    );
    for (const [body, message] of [
      ['', 'body: is not JSON'],
      ['{}', 'body: is not a JSON list of addresses'],
      ['["0x1"]', 'body: entry 0 is no address (0x and 40 hex digits)'],
    ] as const) {
      const answer = await api.call('POST /api/v1/file-upload/list', { auth, body });
      expect([answer.status, JSON.parse(answer.body)]).toEqual([400, { code: 400, message }]);
    }
    expect(await readFile(file, 'utf8')).toBe(list);
    expect((await stat(file)).mode & 0o777).toBe(0o644);
    expect((await readdir(api.directory)).filter((name) => name.startsWith('list'))).toEqual(['list.json']);
  });

  test('are bounded, by announced and by real length, also compressed', async () => {
    const api = await start();
    const limit = '{"code":413,"message":"body: is larger than 10 bytes"}';
    const path = 'POST /api/v1/file-upload/small';
    expect((await api.call(path, { auth, body: '1234567890' })).status).toBe(200);
    expect((await stat(join(api.directory, 'small'))).mode & 0o777).toBe(0o640);
    expect((await api.call(path, { auth, body: '12345678901' })).body).toBe(limit);
    const chunked = { 'transfer-encoding': 'chunked' };
    expect((await api.call(path, { auth, body: '12345678901', headers: chunked })).body).toBe(limit);
    const gzip = { 'content-encoding': 'gzip' };
    const bomb = gzipSync(Buffer.alloc(1_000_000));
    expect((await api.call(path, { auth, body: bomb, headers: gzip })).status).toBe(413);
    expect((await api.call(path, { auth, body: gzipSync('unpacked'), headers: gzip })).status).toBe(200);
    expect(await readFile(join(api.directory, 'small'), 'utf8')).toBe('unpacked');
    const unknown = { 'content-encoding': 'br' };
    expect((await api.call(path, { auth, body: 'x', headers: unknown })).status).toBe(415);
  });

  test('do not follow links that somebody has put in their way', async () => {
    const api = await start();
    const target = join(api.directory, 'target');
    await writeFile(target, 'untouched');
    await symlink(target, join(api.directory, 'small'));
    await symlink(target, join(api.directory, 'small.new'));
    const answer = await api.call('POST /api/v1/file-upload/small', { auth, body: 'new' });
    expect(answer.status).toBe(200);
    expect(await readFile(target, 'utf8')).toBe('untouched');
    expect(await readFile(join(api.directory, 'small'), 'utf8')).toBe('new');
  });

  test('of one file at once: each is whole, and one is last', async () => {
    const api = await start();
    const bodies = Array.from({ length: 40 }, (_, i) =>
      JSON.stringify(Array.from({ length: 200 }, () => `0x${String(i).padStart(40, '0')}`)),
    );
    const answers = await Promise.all(
      bodies.map((body) => api.call('POST /api/v1/file-upload/list', { auth, body })),
    );
    expect(answers.map(({ status }) => status)).toEqual(bodies.map(() => 200));
    expect(bodies).toContain(await readFile(join(api.directory, 'list.json'), 'utf8'));
    expect((await readdir(api.directory)).filter((name) => name.includes('.new'))).toEqual([]);
  });
});

describe('unclean input is answered with field and reason', () => {
  test.each([
    ['GET /api/v1/new_event?message=%ff', 400, 'message: is not percent-encoded UTF-8'],
    ['GET /api/v1/new_event?message=%', 400, 'message: is not percent-encoded UTF-8'],
    ['GET /api/v1/events?format=xml', 400, 'format: must be json or text'],
  ])('%s', async (request, status, message) => {
    const api = await start();
    const answer = await api.call(request, { auth });
    expect(answer.status).toBe(status);
    expect(JSON.parse(answer.body)).toEqual({ code: status, message });
  });

  test('a head that is too big, over HTTP/1.1', async () => {
    const api = await start();
    const request = `GET /api/v1/new_event?message=${'x'.repeat(20_000)}`;
    expect((await api.call(request, { auth })).status).toBe(431);
  });

  test('plain HTTP to the TLS port, and bytes that are neither', async () => {
    const api = await start();
    expect(await raw(api.handle.address.port, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n')).toBe(
      'HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n',
    );
    expect(await raw(api.handle.address.port, '\0\0\0\0\0\0\0\0\0\0\0\0')).not.toContain('HTTP');
  });

  test('bytes that are no HTTP where there is no TLS', async () => {
    const api = await startTestApi({ general: `${WITH_HASH}tls_enabled = false` });
    expect(await raw(api.handle.address.port, 'hello\r\n\r\n')).toMatch(/^HTTP\/1.1 400 Bad Request\r\n/);
  });
});

function raw(port: number, text: string): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const socket = net.connect(port, '127.0.0.1', () => socket.write(text));
  let answer = '';
  socket.on('data', (chunk: Buffer) => {
    answer += chunk.toString();
  });
  socket.on('error', () => undefined);
  socket.on('close', () => resolve(answer));
  return promise;
}

test('HTTP/2 is offered, and the same rules hold', async () => {
  const api = await start();
  const ca = await readFile(join(api.directory, 'cert.pem'), 'utf8');
  const session = http2.connect(api.url, { ca });
  onTestFinished(() => session.destroy());
  const get = (headers: http2.OutgoingHttpHeaders): Promise<number> => {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const stream = session.request(headers);
    stream.on('response', (answer) => resolve(answer[':status'] ?? 0));
    stream.on('error', reject);
    stream.resume();
    return promise;
  };
  const authorization = `Basic ${Buffer.from(auth).toString('base64')}`;
  expect(await get({ ':path': '/livez' })).toBe(401);
  expect(await get({ ':path': '/livez', authorization })).toBe(200);
  expect(await get({ ':path': '/livez', authorization, origin: api.url })).toBe(200);
  expect(await get({ ':path': '/livez', authorization, origin: 'https://evil.example' })).toBe(403);
  expect(await get({ ':path': '/livez', ':method': 'HEAD', authorization })).toBe(405);
});

test('over HTTP/2, too, failed logins are counted by address', async () => {
  const api = await start(`${WITH_HASH}failed_logins_per_minute = 1`);
  const ca = await readFile(join(api.directory, 'cert.pem'), 'utf8');
  const get = async (from: string, credentials: string): Promise<number> => {
    const session = http2.connect(api.url, { ca, localAddress: from } as http2.SecureClientSessionOptions);
    const authorization = `Basic ${Buffer.from(credentials).toString('base64')}`;
    const stream = session.request({ ':path': '/livez', authorization });
    const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders];
    session.destroy();
    return Number(headers[':status']);
  };
  expect(await get('127.0.0.7', 'admin:wrong')).toBe(401);
  expect(await get('127.0.0.7', auth)).toBe(429);
  expect(await get('127.0.0.8', auth)).toBe(200);
});

test('a CPU profile can be taken where it is allowed', async () => {
  const api = await start(`${WITH_HASH}pprof = true`);
  const taking = api.call('GET /debug/pprof/profile?seconds=1', { auth });
  const profile = JSON.parse((await taking).body) as { nodes: unknown[] };
  expect(profile.nodes.length).toBeGreaterThan(0);
  expect((await api.call('GET /debug/pprof/profile?seconds=0', { auth })).status).toBe(400);
  expect((await api.call('GET /debug/pprof/heap', { auth })).status).toBe(404);
  const without = await start();
  expect((await without.call('GET /debug/pprof/profile?seconds=1', { auth })).status).toBe(404);
});

test('events survive a restart where there is a file, and so do the steps of this start', async () => {
  const general = `${WITH_HASH}events_file = "DIR/events"\nboot_steps = ["disk", "node"]`;
  const api = await start(general);
  await api.call('GET /api/v1/new_event?message=boot+disk+failed+no+header', { auth });
  const before = (await api.call('GET /api/v1/events', { auth })).body;
  await api.handle.close();
  const again = await startTestApi({ general, directory: api.directory });
  expect((await again.call('GET /api/v1/events', { auth })).body).toBe(before);
  const page = (await again.call('GET /ui', { auth })).body;
  expect(page).toContain('no header');
  expect(page).toContain('pending');
});

describe('what stops the start, as recorded', () => {
  const cases: readonly [string, Record<string, string>, string, string][] = [
    ['a pipe that is no FIFO', { pipe: '' }, 'pipe_file = "DIR/pipe"', 'pipe is not a named pipe'],
    ['a hash file that holds none', { password: 'x'.repeat(63) }, '', 'neither empty nor a password hash'],
    ['a key without its certificate', { 'key.pem': 'x' }, '', 'key.pem is there, but'],
    ['a certificate without its key', { 'cert.pem': 'x' }, '', 'cert.pem is there, but'],
    [
      'neither, and none may be made',
      {},
      'tls_create_if_missing = false',
      'tls_create_if_missing makes them',
    ],
    ['TOML that is none', {}, 'x = [', 'line'],
  ];
  test.each(cases)('%s', async (_name, files, general, message) => {
    const directory = await temporaryDirectory();
    for (const [name, content] of Object.entries(files)) {
      await writeFile(join(directory, name), content, { mode: 0o600 });
    }
    await expect(startTestApi({ general, directory })).rejects.toThrow(message);
  });

  test('what had been started by then is ended: the address is free, the FIFO has no reader', async () => {
    const first = await start();
    const directory = await temporaryDirectory();
    const general = `${WITH_HASH}pipe_file = "DIR/pipe"\n`;
    const taken = `127.0.0.1:${first.handle.address.port}`;
    await expect(startTestApi({ general, directory, listen: taken })).rejects.toThrow(
      `cannot listen on ${taken}`,
    );
    const writer = open(join(directory, 'pipe'), constants.O_WRONLY | constants.O_NONBLOCK);
    await expect(writer).rejects.toThrow('ENXIO');
  });
});

test('a certificate that is replaced or renewed is shown without a restart', async () => {
  const timer = new ManualTimer(Date.now());
  const api = await startTestApi({ general: WITH_HASH, timer });
  const shown = async (): Promise<string | undefined> => {
    const socket = connect({ ...api.handle.address, rejectUnauthorized: false });
    onTestFinished(() => void socket.destroy());
    await once(socket, 'secureConnect');
    return socket.getPeerX509Certificate()?.fingerprint256.replaceAll(':', '').toLowerCase();
  };
  const first = await shown();
  const { certificateEnds } = api.handle.state();
  timer.advance(336 * 86_400_000);
  await api.seen('certificate changed');
  const renewed = await shown();
  expect(renewed).not.toBe(first);
  expect(api.handle.state().certificateEnds).toBeGreaterThan(certificateEnds!);

  const given = await createCredentials({ names: ['127.0.0.1'], validityDays: 90, now: timer.now() });
  await writeFile(join(api.directory, 'cert.pem'), given.certificatePem);
  await writeFile(join(api.directory, 'key.pem'), given.privateKeyPem);
  // The look that was under way may have met one of the two alone.
  await expect
    .poll(
      () => {
        timer.advance(30_000);
        return api.reported.filter((text) => text === 'certificate changed').length;
      },
      { timeout: 15_000 },
    )
    .toBe(2);
  expect(await shown()).toBe(given.fingerprint);
});
