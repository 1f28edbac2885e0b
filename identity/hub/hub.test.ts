import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createCredentials } from '../certificate.ts';
import { createHubApp } from './app.ts';
import { type DevelopmentHub, type HubOptions, startHub } from './hub.ts';
import { HubState } from './state.ts';

const { certificatePem } = await createCredentials({
  names: ['node.example'],
  validityDays: 1,
  now: Date.now(),
});
const NODE_KEY = '0x321f3426eEc20DE1910af1CD595c4DD83BEA0BA5';
const NODE_HEADERS = {
  'x-flashbots-attestation-type': 'test',
  'x-flashbots-measurement': '{"11":"aa","4":"bb"}',
};

interface Answer {
  readonly status: number;
  readonly type: string | undefined;
  readonly allow: string | undefined;
  readonly text: string;
}

/** node:http, because fetch cannot send two lines of one header. */
function call(
  hub: DevelopmentHub,
  method: string,
  path: string,
  body?: string,
  headers: Record<string, string | string[]> = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const outgoing = request(hub.url + path, { method, headers, agent: false }, (incoming) => {
      incoming.setEncoding('utf8');
      let text = '';
      incoming.on('data', (chunk: string) => {
        text += chunk;
      });
      incoming.on('end', () => {
        const { 'content-type': type, allow } = incoming.headers;
        resolve({ status: incoming.statusCode!, type, allow, text });
      });
    });
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

async function start(options: Partial<HubOptions> = {}): Promise<DevelopmentHub> {
  const hub = await startHub({ listen: '127.0.0.1:0', ...options });
  onTestFinished(() => hub.close());
  return hub;
}

function node(ip = '1.2.3.4'): Record<string, string> {
  return { ...NODE_HEADERS, 'x-forwarded-for': `9.9.9.9, ${ip}` };
}

const JSON_TEXT = 'text/plain; charset=utf-8';

/** The transcript of BuilderHub (live), step by step on one hub; where we differ a comment says so. */
describe('BuilderHub transcript', () => {
  const hub = startHub({ listen: '127.0.0.1:0' });

  type Step = readonly [
    name: string,
    call: readonly [
      method: string,
      path: string,
      body?: string | undefined,
      headers?: Record<string, string | string[]>,
    ],
    status: number,
    body?: unknown,
  ];
  const MEASUREMENT =
    '{"measurement_id":"m1","attestation_type":"test","measurements":{"11":{"expected":"aa"},"4":{"expected_any":["bb","cc"]}}}';
  const SECRETS =
    '{"instance_name":"b1","rbuilder":{"extra_data":"from secrets","relays":[{"name":"x"}]},"n":5}';
  const NO_JSON = {
    message: 'failed to unmarshal request body',
    error: "invalid character 'x' looking for beginning of value",
  };
  const REGISTER = '/api/l1-builder/v1/register_credentials';
  const LIST = '/api/l1-builder/v1/builders';
  const attested = (measurement: string, forwarded: string | string[], type = 'test') => ({
    'x-flashbots-attestation-type': type,
    'x-flashbots-measurement': measurement,
    'x-forwarded-for': forwarded,
  });
  const B1 = { dns_name: 'b1.example:15544', ip: '1.2.3.4', name: 'b1' };
  const ADDRESS = NODE_KEY.toLowerCase();
  const steps: readonly Step[] = [
    ['liveness', ['GET', '/livez'], 200],
    ['readiness', ['GET', '/readyz'], 200],
    ['unknown path', ['GET', '/nope'], 404, '404 page not found\n'],
    ['wrong method', ['DELETE', LIST], 405],

    ['add a measurement', ['POST', '/api/admin/v1/measurements', MEASUREMENT], 200],
    ['same id again', ['POST', '/api/admin/v1/measurements', MEASUREMENT], 500],
    ['a measurement that is no JSON', ['POST', '/api/admin/v1/measurements', 'x'], 400, NO_JSON],
    ['list before activation', ['GET', '/api/l1-builder/v1/measurements'], 200, []],
    ['activate', ['POST', '/api/admin/v1/measurements/activation/m1', '{"enabled":true}'], 200],
    ['activate unknown', ['POST', '/api/admin/v1/measurements/activation/nope', '{"enabled":true}'], 200],
    ['list measurements', ['GET', '/api/l1-builder/v1/measurements'], 200, [JSON.parse(MEASUREMENT)]],

    [
      'add a builder',
      [
        'POST',
        '/api/admin/v1/builders',
        '{"name":"b1","ip_address":"1.2.3.4","dns_name":"b1.example:15544","network":"production"}',
      ],
      200,
    ],
    [
      'no network',
      ['POST', '/api/admin/v1/builders', '{"name":"b2","ip_address":"1.2.3.5"}'],
      400,
      { message: 'network field is required' },
    ],
    [
      'bad IP',
      ['POST', '/api/admin/v1/builders', '{"name":"b2","ip_address":"1.2.3","network":"production"}'],
      400,
      { message: 'failed to convert builder to domain builder', error: 'invalid ip address' },
    ],
    [
      'same name',
      ['POST', '/api/admin/v1/builders', '{"name":"b1","ip_address":"1.2.3.9","network":"production"}'],
      500,
    ],
    [
      'second builder, other network',
      ['POST', '/api/admin/v1/builders', '{"name":"t1","ip_address":"5.5.5.5","network":"testnet"}'],
      200,
    ],
    ['trailing slash', ['POST', '/api/admin/v1/builders/', '{}'], 404, '404 page not found\n'],
    [
      'activate without a configuration',
      ['POST', '/api/admin/v1/builders/activation/b1', '{"enabled":true}'],
      400,
      { message: 'active config not found: please set config for the builder first' },
    ],
    ['configuration, none yet', ['GET', '/api/admin/v1/builders/configuration/b1/active'], 404],
    [
      'set configuration',
      ['POST', '/api/admin/v1/builders/configuration/b1', '{"rbuilder":{"extra_data":"from config"}}'],
      200,
    ],
    [
      'configuration that is no JSON',
      ['POST', '/api/admin/v1/builders/configuration/b1', '{'],
      400,
      { message: 'invalid json' },
    ],
    ['configuration of an unknown builder', ['POST', '/api/admin/v1/builders/configuration/nope', '{}'], 500],
    [
      'active configuration',
      ['GET', '/api/admin/v1/builders/configuration/b1/active'],
      200,
      { rbuilder: { extra_data: 'from config' } },
    ],
    ['full configuration, no secrets yet', ['GET', '/api/admin/v1/builders/configuration/b1/full'], 200],
    ['set secrets', ['POST', '/api/admin/v1/builders/secrets/b1', SECRETS], 200],
    ['full configuration', ['GET', '/api/admin/v1/builders/configuration/b1/full'], 200, JSON.parse(SECRETS)],
    ['activate b1', ['POST', '/api/admin/v1/builders/activation/b1', '{"enabled":true}'], 200],
    ['configure t1', ['POST', '/api/admin/v1/builders/configuration/t1', '{}'], 200],
    ['activate t1', ['POST', '/api/admin/v1/builders/activation/t1', '{"enabled":true}'], 200],

    ['no headers', ['GET', LIST], 403],
    [
      'type missing',
      ['GET', LIST, undefined, { 'x-flashbots-measurement': '{}', 'x-forwarded-for': '1.2.3.4' }],
      403,
    ],
    [
      'measurement no map of texts',
      ['GET', LIST, undefined, attested('{"11":{"expected":"aa"}}', '1.2.3.4')],
      403,
    ],
    ['no X-Forwarded-For', ['GET', LIST, undefined, NODE_HEADERS], 403],
    ['unlisted measurement', ['GET', LIST, undefined, attested('{"11":"zz","4":"bb"}', '1.2.3.4')], 403],
    ['unknown type', ['GET', LIST, undefined, attested('{"11":"aa","4":"bb"}', '1.2.3.4', 'other')], 403],
    ['unknown IP', ['GET', LIST, undefined, attested('{"11":"aa","4":"cc"}', '1.2.3.4, 9.9.9.9')], 403],
    ['IP with port', ['GET', LIST, undefined, attested('{"11":"aa","4":"cc"}', '1.2.3.4:55')], 403],
    [
      'extra registers, the second of two lines',
      ['GET', LIST, undefined, attested('{"11":"aa","4":"cc","9":"dd"}', ['8.8.8.8', '1.2.3.4'])],
      200,
      [B1],
    ],

    [
      'configuration = the secrets alone',
      ['GET', '/api/l1-builder/v1/configuration', undefined, node()],
      200,
      JSON.parse(SECRETS),
    ],
    [
      'configuration, unlisted measurement',
      ['GET', '/api/l1-builder/v1/configuration', undefined, attested('{}', '1.2.3.4')],
      403,
    ],

    [
      'empty credentials',
      ['POST', `${REGISTER}/orderflow_proxy`, '{}', node()],
      400,
      { message: 'no credentials provided' },
    ],
    ['credentials that are no JSON', ['POST', `${REGISTER}/orderflow_proxy`, 'x', node()], 400, NO_JSON],
    [
      'bad address',
      ['POST', `${REGISTER}/orderflow_proxy`, '{"ecdsa_pubkey_address":"0x12"}', node()],
      400,
      {
        message: 'failed to unmarshal request body',
        error: 'hex string has length 2, want 40 for common.Address',
      },
    ],
    [
      'address without 0x',
      ['POST', `${REGISTER}/orderflow_proxy`, `{"ecdsa_pubkey_address":"${NODE_KEY.slice(2)}"}`, node()],
      400,
      {
        message: 'failed to unmarshal request body',
        error:
          'json: cannot unmarshal hex string without 0x prefix into Go struct field ServiceCred.ecdsa_pubkey_address of type common.Address',
      },
    ],
    // BuilderHub takes "OLD" here; we refuse what is no certificate.
    [
      'certificate that does not parse',
      [
        'POST',
        `${REGISTER}/orderflow_proxy`,
        `{"ecdsa_pubkey_address":"${NODE_KEY}","tls_cert":"OLD"}`,
        node(),
      ],
      400,
      { message: 'failed to parse tls_cert', error: 'it holds no certificate in PEM form that can be read' },
    ],
    [
      'certificate and region',
      [
        'POST',
        `${REGISTER}/orderflow_proxy`,
        JSON.stringify({ ecdsa_pubkey_address: NODE_KEY, tls_cert: certificatePem, region: 'europe' }),
        node(),
      ],
      200,
    ],
    [
      'list after it',
      ['GET', LIST, undefined, node()],
      200,
      [
        {
          ...B1,
          orderflow_proxy: { tls_cert: certificatePem, ecdsa_pubkey_address: ADDRESS, region: 'europe' },
        },
      ],
    ],
    [
      'orderflow_proxy again, address only',
      ['POST', `${REGISTER}/orderflow_proxy`, `{"ecdsa_pubkey_address":"${NODE_KEY}"}`, node()],
      200,
    ],
    [
      'the earlier certificate and region are gone',
      ['GET', LIST, undefined, node()],
      200,
      [{ ...B1, orderflow_proxy: { ecdsa_pubkey_address: ADDRESS } }],
    ],
    ['instance', ['POST', `${REGISTER}/instance`, JSON.stringify({ tls_cert: certificatePem }), node()], 200],
    [
      'any service name is taken, unknown fields are dropped',
      ['POST', `${REGISTER}/name`, JSON.stringify({ tls_cert: certificatePem, foo: 'bar' }), node()],
      200,
    ],
    ['no service', ['POST', `${REGISTER}/`, '{"tls_cert":"1"}', node()], 404, '404 page not found\n'],
    [
      'register from an unknown IP',
      ['POST', `${REGISTER}/instance`, '{"tls_cert":"1"}', node('4.4.4.4')],
      403,
    ],
    [
      'a service called name hides the name',
      ['GET', LIST, undefined, node()],
      200,
      [
        {
          ...B1,
          name: { tls_cert: certificatePem },
          instance: { tls_cert: certificatePem },
          orderflow_proxy: { ecdsa_pubkey_address: ADDRESS },
        },
      ],
    ],

    [
      'internal list of production',
      ['GET', '/api/internal/l1-builder/v1/builders'],
      200,
      [
        {
          ...B1,
          name: { tls_cert: certificatePem },
          instance: { tls_cert: certificatePem },
          orderflow_proxy: { ecdsa_pubkey_address: ADDRESS },
        },
      ],
    ],
    [
      'internal list of a network',
      ['GET', '/api/internal/l1-builder/v2/network/testnet/builders'],
      200,
      [{ dns_name: '', ip: '5.5.5.5', name: 't1' }],
    ],
    ['unknown network', ['GET', '/api/internal/l1-builder/v2/network/nope/builders'], 200, []],
    [
      'a node of testnet sees only testnet',
      ['GET', LIST, undefined, node('5.5.5.5')],
      200,
      [{ dns_name: '', ip: '5.5.5.5', name: 't1' }],
    ],

    ['deactivate b1', ['POST', '/api/admin/v1/builders/activation/b1', '{"enabled":false}'], 200],
    ['its calls', ['GET', LIST, undefined, node()], 403],
    ['production list', ['GET', '/api/internal/l1-builder/v1/builders'], 200, []],
    [
      'deactivate the measurement',
      ['POST', '/api/admin/v1/measurements/activation/m1', '{"enabled":false}'],
      200,
    ],
    ['a node of testnet now', ['GET', LIST, undefined, node('5.5.5.5')], 403],
  ];

  // Each step stands on those before it, so they are one test; the name says which one failed.
  test('from an empty hub to the end', async () => {
    onTestFinished(async () => (await hub).close());
    for (const [name, [method, path, body, headers], status, expected] of steps) {
      const answer = await call(await hub, method, path, body, headers);
      expect(answer.status, name).toBe(status);
      if (expected === undefined) {
        expect(answer.text, name).toBe('');
      } else if (typeof expected === 'string') {
        expect(answer.text, name).toBe(expected);
      } else {
        expect(answer.type, name).toBe(JSON_TEXT);
        expect(JSON.parse(answer.text), name).toEqual(expected);
      }
    }
  });
});

describe('form of the answers', () => {
  test('a wrong method is told the right one', async () => {
    expect((await call(await start(), 'DELETE', '/api/l1-builder/v1/builders')).allow).toBe('GET');
  });

  test('keys are in alphabetical order, and the order of entries changes', async () => {
    const names = ['a', 'b', 'c', 'd', 'e', 'f'];
    const hub = await start({ builders: names.map((name) => ({ name })) });
    const seen = new Set<string>();
    for (let times = 0; times < 20; times++) {
      const { text } = await call(hub, 'GET', '/as/a/api/l1-builder/v1/builders');
      const list: { name: string }[] = JSON.parse(text);
      expect(text).toContain('{"dns_name":"","ip":"127.0.0.1","name":"a"}');
      expect(list.map((entry) => entry.name).toSorted()).toEqual(names);
      seen.add(list.map((entry) => entry.name).join(''));
    }
    expect(seen.size).toBeGreaterThan(1);
  });

  test('a body that is too big is refused', async () => {
    const hub = await start({ builders: [{ name: 'a' }] });
    const answer = await call(
      hub,
      'POST',
      '/as/a/api/l1-builder/v1/register_credentials/x',
      'x'.repeat(2 ** 21),
    );
    expect(answer.status).toBe(413);
    const path = '/as/a/api/l1-builder/v1/register_credentials/x';
    const unannounced = await call(hub, 'POST', path, 'x'.repeat(2 ** 21), {
      'transfer-encoding': 'chunked',
    });
    expect(unannounced.status).toBe(413);
    const small = await call(hub, 'POST', path, 'x', { 'transfer-encoding': 'chunked' });
    expect(small.text).toContain("invalid character 'x'");
  });
});

describe('a network on one machine', () => {
  test('nodes are told apart by the path', async () => {
    const hub = await start({ builders: [{ name: 'a', dns_name: '127.0.0.1:1' }] });
    hub.addBuilder({ name: 'b' });
    const body = JSON.stringify({ ecdsa_pubkey_address: NODE_KEY });
    expect(
      (await call(hub, 'POST', '/as/b/api/l1-builder/v1/register_credentials/orderflow_proxy', body)).status,
    ).toBe(200);
    expect(
      (await call(hub, 'POST', '/as/c/api/l1-builder/v1/register_credentials/orderflow_proxy', body)).status,
    ).toBe(403);
    const list: { name: string }[] = JSON.parse(
      (await call(hub, 'GET', '/as/a/api/l1-builder/v1/builders')).text,
    );
    expect(list.toSorted((x, y) => x.name.localeCompare(y.name))).toEqual([
      { dns_name: '127.0.0.1:1', ip: '127.0.0.1', name: 'a' },
      {
        dns_name: '',
        ip: '127.0.0.1',
        name: 'b',
        orderflow_proxy: { ecdsa_pubkey_address: NODE_KEY.toLowerCase() },
      },
    ]);
  });

  test('without measurements the forwarded address alone tells who calls', async () => {
    const hub = await start({ builders: [{ name: 'a', ip: '10.1.2.3' }] });
    expect(
      (await call(hub, 'GET', '/api/l1-builder/v1/builders', undefined, { 'x-forwarded-for': '10.1.2.3' }))
        .status,
    ).toBe(200);
    expect(
      (await call(hub, 'GET', '/api/l1-builder/v1/builders', undefined, { 'x-forwarded-for': '10.1.2.4' }))
        .status,
    ).toBe(403);
  });

  test('moving a builder keeps what it registered', async () => {
    const hub = await start({ builders: [{ name: 'a', dns_name: 'old:1' }] });
    await call(
      hub,
      'POST',
      '/as/a/api/l1-builder/v1/register_credentials/orderflow_proxy',
      JSON.stringify({ ecdsa_pubkey_address: NODE_KEY }),
    );
    hub.addBuilder({ name: 'a', dns_name: 'new:2' });
    const { text } = await call(hub, 'GET', '/as/a/api/l1-builder/v1/builders');
    expect(text).toContain('new:2');
    expect(text).toContain(NODE_KEY.toLowerCase());
  });
});

describe('callers from other machines', () => {
  const from = (remoteAddress: string) => ({ incoming: { socket: { remoteAddress, remotePort: 1 } } });

  test('are not believed to be who the path says, and reach no admin API without a password', async () => {
    const state = await HubState.open(undefined);
    const app = createHubApp(state, { adminPassword: undefined });
    const ask = async (path: string, address: string, init?: RequestInit) =>
      (await app.request(path, init, from(address))).status;
    const add = { method: 'POST', body: '{"name":"a","ip_address":"10.0.0.9","network":"production"}' };
    for (const remote of ['10.0.0.9', '::ffff:10.0.0.9', '2001:db8::1', '1270.0.0.1']) {
      expect(await ask('/api/admin/v1/builders', remote, add)).toBe(401);
    }
    expect(await ask('/api/admin/v1/builders', '127.0.0.1', add)).toBe(200);
    state.builders.get('a')!.active = true;
    expect(await ask('/as/a/api/l1-builder/v1/builders', '10.0.0.9')).toBe(403);
    for (const local of ['127.0.0.1', '127.9.9.9', '::1', '::ffff:127.0.0.1']) {
      expect(await ask('/as/a/api/l1-builder/v1/builders', local)).toBe(200);
    }
  });
});

describe('administration', () => {
  test('asks for the password when one is set', async () => {
    const hub = await start({ adminPassword: 'secret' });
    const post = (authorization?: string) =>
      call(
        hub,
        'POST',
        '/api/admin/v1/measurements',
        '{}',
        authorization === undefined ? {} : { authorization },
      );
    for (const wrong of [undefined, `Basic ${btoa('admin:bad')}`, 'Bearer secret']) {
      expect(await post(wrong)).toMatchObject({ status: 401, text: 'Unauthorized' });
    }
    expect((await post(`Basic ${btoa('admin:secret')}`)).status).toBe(200);
  });
});

describe('state', () => {
  async function directory(): Promise<string> {
    const path = await mkdtemp(join(tmpdir(), 'hub-'));
    onTestFinished(() => rm(path, { recursive: true }));
    return path;
  }

  test('survives a restart', async () => {
    const stateFile = join(await directory(), 'deep', 'hub.json');
    const first = await startHub({ listen: '127.0.0.1:0', stateFile, builders: [{ name: 'a' }] });
    const body = JSON.stringify({ tls_cert: certificatePem });
    await call(first, 'POST', '/as/a/api/l1-builder/v1/register_credentials/instance', body);
    await call(first, 'POST', '/api/admin/v1/builders/secrets/a', '{"n":5}');
    await call(first, 'POST', '/api/admin/v1/measurements', '{"measurement_id":"m","attestation_type":"t"}');
    await first.close();
    const second = await start({ stateFile });
    expect(JSON.parse((await call(second, 'GET', '/as/a/api/l1-builder/v1/builders')).text)).toEqual([
      { dns_name: '', ip: '127.0.0.1', name: 'a', instance: { tls_cert: certificatePem } },
    ]);
    expect((await call(second, 'GET', '/as/a/api/l1-builder/v1/configuration')).text).toBe('{"n":5}');
    expect((await call(second, 'POST', '/api/admin/v1/measurements', '{"measurement_id":"m"}')).status).toBe(
      500,
    );
  });

  test('is on disk before the caller is answered', async () => {
    const stateFile = join(await directory(), 'hub.json');
    const hub = await start({ stateFile, builders: [{ name: 'a' }] });
    const bodies = ['x', 'y', 'z'].map((region) =>
      JSON.stringify({ ecdsa_pubkey_address: NODE_KEY, region }),
    );
    await Promise.all(
      bodies.map((body, index) =>
        call(hub, 'POST', `/as/a/api/l1-builder/v1/register_credentials/s${index}`, body),
      ),
    );
    const stored = await readFile(stateFile, 'utf8');
    for (const region of ['x', 'y', 'z']) expect(stored).toContain(`"region": "${region}"`);
    expect((await stat(stateFile)).mode & 0o777).toBe(0o600);
  });

  test.each(['', '{', 'null', '{"builders":5}'])(
    'a damaged file (%j) stops the start and is named',
    async (content) => {
      const stateFile = join(await directory(), 'hub.json');
      await writeFile(stateFile, content);
      await expect(startHub({ listen: '127.0.0.1:0', stateFile })).rejects.toThrow(`${stateFile} is damaged`);
      expect(await readFile(stateFile, 'utf8')).toBe(content);
    },
  );
});

describe('where it listens', () => {
  test.each(['0.0.0.0:0', '[::]:0', '192.0.2.1:0', 'hub.example:0'])(
    'not on %s unless told',
    async (listen) => {
      await expect(startHub({ listen })).rejects.toThrow('--allow-remote');
    },
  );

  test('on any address when told', async () => {
    const hub = await start({ listen: '0.0.0.0:0', allowRemote: true });
    expect(hub.port).toBeGreaterThan(0);
  });

  test.each(['127.0.0.1:0', '[::1]:0', 'localhost:0'])('on %s', async (listen) => {
    const hub = await start({ listen });
    expect((await call(hub, 'GET', '/livez')).status).toBe(200);
  });

  test('a port that is taken is an error', async () => {
    const hub = await start();
    await expect(startHub({ listen: `127.0.0.1:${hub.port}` })).rejects.toThrow('EADDRINUSE');
  });

  test.each(['', ':1', '127.0.0.1:x', '127.0.0.1:70000'])('%j is no address', async (listen) => {
    await expect(startHub({ listen })).rejects.toThrow('no host:port');
  });
});
