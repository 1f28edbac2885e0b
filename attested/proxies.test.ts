/** The table of the deployed proxies' behaviour, row by row, on two mock machines: images a0…a4 and b0…b4. */
import { describe, expect, test } from 'vitest';
import { CertificateMaker } from '../identity/attestation/attested-certificate.ts';
import { byRegister } from '../identity/attestation/measurements.ts';
import { MockMachine, patternMeasurements } from '../identity/attestation/mock/machine.ts';
import { type MockSide, mockAppraiser, mockSide } from '../identity/attestation/testing/mock-world.ts';
import { createCredentials } from '../identity/certificate.ts';
import { ask, startTarget, startTestClient, startTestServer } from './testing/pair.ts';

const A_HEADERS = {
  'x-flashbots-attestation-type': 'qemu-tdx',
  'x-flashbots-measurement': JSON.stringify(byRegister(patternMeasurements('a'))),
};
const B_HEADERS = {
  'x-flashbots-attestation-type': 'qemu-tdx',
  'x-flashbots-measurement': JSON.stringify(byRegister(patternMeasurements('b'))),
};

/** Two machines under one mock root cannot be: each has its own, and each side trusts the other's. */
async function twoSides(): Promise<{ server: MockSide; client: MockSide }> {
  const [server, client] = await Promise.all([mockSide('a'), mockSide('b')]);
  return { server, client };
}

async function withoutQuotes(): Promise<CertificateMaker> {
  return CertificateMaker.create({}, { quotes: undefined });
}

function expectNoAttestation(headers: object): void {
  for (const name of Object.keys(A_HEADERS)) expect(headers).not.toHaveProperty(name);
}

describe('server attests, client verifies', () => {
  test('match: the answer, and all five registers', async () => {
    const { server } = await twoSides();
    const target = await startTarget();
    const proxy = await startTestServer(target.url, {
      certificates: server.certificates,
      appraiser: undefined,
    });
    const appraiser = await mockAppraiser(server.machine, 'a');
    const client = await startTestClient(proxy.address, {
      trust: { by: 'attestation', appraiser },
      own: undefined,
    });
    const answer = await ask(client, '/x?y=1');
    expect(answer).toMatchObject({ status: 200, body: 'target', headers: A_HEADERS });
    expect(target.seen).toMatchObject([{ method: 'GET', url: '/x?y=1', headers: { host: target.url.host } }]);
    expectNoAttestation(target.seen[0]!.headers);
    // A connection is kept and used again.
    expect((await ask(client, '/again')).status).toBe(200);
    expect(server.asked).toHaveLength(2);
  });

  test('another image: 502, nothing forwarded, the register named', async () => {
    const { server } = await twoSides();
    const target = await startTarget();
    const proxy = await startTestServer(target.url, {
      certificates: server.certificates,
      appraiser: undefined,
    });
    const appraiser = await mockAppraiser(server.machine, 'c');
    const client = await startTestClient(proxy.address, {
      trust: { by: 'attestation', appraiser },
      own: undefined,
    });
    expect(await ask(client, '/x')).toMatchObject({ status: 502, body: '' });
    expect(client.refused[0]).toMatch(/^measurements: image 0: MRTD is a0a0.*, expected c0c0/u);
    expect(target.seen).toEqual([]);
  });

  test('a certificate without the extension: 502', async () => {
    const { server } = await twoSides();
    const target = await startTarget();
    const proxy = await startTestServer(target.url, {
      certificates: await withoutQuotes(),
      appraiser: undefined,
    });
    const appraiser = await mockAppraiser(server.machine, 'a');
    const client = await startTestClient(proxy.address, {
      trust: { by: 'attestation', appraiser },
      own: undefined,
    });
    expect(await ask(client, '/x')).toMatchObject({ status: 502, body: '' });
    expect(client.refused).toEqual(['evidence: the certificate holds no attestation']);
  });

  test('a client told to check nothing: 200, no headers', async () => {
    const { server } = await twoSides();
    const target = await startTarget();
    const proxy = await startTestServer(target.url, {
      certificates: server.certificates,
      appraiser: undefined,
    });
    const client = await startTestClient(proxy.address, { trust: { by: 'nothing' }, own: undefined });
    const answer = await ask(client, '/x');
    expect(answer.status).toBe(200);
    expectNoAttestation(answer.headers);
  });
});

describe('both attest and verify', () => {
  test('match: each hears of the other', async () => {
    const { server, client: own } = await twoSides();
    const target = await startTarget();
    const proxy = await startTestServer(target.url, {
      certificates: server.certificates,
      appraiser: await mockAppraiser(own.machine, 'b'),
    });
    const client = await startTestClient(proxy.address, {
      trust: { by: 'attestation', appraiser: await mockAppraiser(server.machine, 'a') },
      own,
    });
    expect(await ask(client, '/x')).toMatchObject({ status: 200, headers: A_HEADERS });
    expect(await ask(client, '/y')).toMatchObject({ status: 200, headers: A_HEADERS });
    expect(target.seen.map(({ url }) => url)).toEqual(['/x', '/y']);
    expect(target.seen[0]!.headers).toMatchObject(B_HEADERS);
    // One for the certificate, one for the connection.
    expect(own.asked).toHaveLength(2);
    expect(proxy.refused).toEqual([]);
  });

  test("the client's image is not listed: 502", async () => {
    const { server, client: own } = await twoSides();
    const target = await startTarget();
    const proxy = await startTestServer(target.url, {
      certificates: server.certificates,
      appraiser: await mockAppraiser(own.machine, 'c'),
    });
    const client = await startTestClient(proxy.address, {
      trust: { by: 'attestation', appraiser: await mockAppraiser(server.machine, 'a') },
      own,
    });
    expect(await ask(client, '/x')).toMatchObject({ status: 502, body: '' });
    expect(proxy.refused[0]).toMatch(/^measurements: image 0: MRTD is b0b0/u);
    expect(target.seen).toEqual([]);
  });

  test('the client has no attestation: 502', async () => {
    const { server, client: other } = await twoSides();
    const target = await startTarget();
    const proxy = await startTestServer(target.url, {
      certificates: server.certificates,
      appraiser: await mockAppraiser(other.machine, 'b'),
    });
    const trust = { by: 'attestation', appraiser: await mockAppraiser(server.machine, 'a') } as const;
    const plain = await startTestClient(proxy.address, { trust, own: undefined });
    expect(await ask(plain, '/x')).toMatchObject({ status: 502, body: '' });
    const stripped = await startTestClient(proxy.address, {
      trust,
      own: { certificates: await withoutQuotes(), quotes: other.quotes },
    });
    expect(await ask(stripped, '/x')).toMatchObject({ status: 502, body: '' });
    expect(proxy.refused).toEqual([
      'evidence: the client shows no certificate',
      'evidence: the certificate holds no attestation',
    ]);
    expect(target.seen).toEqual([]);
  });

  test('the client attests, the server does not ask: 200, the target hears nothing', async () => {
    const { server, client: own } = await twoSides();
    const target = await startTarget();
    const proxy = await startTestServer(target.url, {
      certificates: server.certificates,
      appraiser: undefined,
    });
    const client = await startTestClient(proxy.address, {
      trust: { by: 'attestation', appraiser: await mockAppraiser(server.machine, 'a') },
      own,
    });
    expect((await ask(client, '/x')).status).toBe(200);
    expectNoAttestation(target.seen[0]!.headers);
    // Nobody asked for a binding.
    expect(own.asked).toHaveLength(1);
  });
});

describe('a policy that no longer lists an image', () => {
  test('at the client: kept connections are not used again', async () => {
    const { server } = await twoSides();
    const target = await startTarget();
    const proxy = await startTestServer(target.url, {
      certificates: server.certificates,
      appraiser: undefined,
    });
    let listed = 'a';
    const appraiser = await mockAppraiser(server.machine, () => listed);
    const client = await startTestClient(proxy.address, {
      trust: { by: 'attestation', appraiser },
      own: undefined,
    });
    expect((await ask(client, '/before')).status).toBe(200);
    listed = 'c';
    expect(await ask(client, '/after')).toMatchObject({ status: 502, body: '' });
    expect(target.seen.map(({ url }) => url)).toEqual(['/before']);
  });

  test('at the client: an answer that is under way is the last of its connection', async () => {
    const { server } = await twoSides();
    let listed = 'a';
    const target = await startTarget((_, response) => {
      listed = 'c';
      response.end('target');
    });
    const proxy = await startTestServer(target.url, {
      certificates: server.certificates,
      appraiser: undefined,
    });
    const appraiser = await mockAppraiser(server.machine, () => listed);
    const trust = { by: 'attestation', appraiser } as const;
    const client = await startTestClient(proxy.address, { trust, own: undefined }, { maxUpstream: 1 });
    // The second waits for the connection of the first.
    const answers = await Promise.all([ask(client, '/first'), ask(client, '/second')]);
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200, 502]));
    expect(target.seen).toHaveLength(1);
  });

  test('at the server: the next request on an open connection is refused, and it ends', async () => {
    const { server, client: own } = await twoSides();
    const target = await startTarget();
    let listed = 'b';
    const proxy = await startTestServer(target.url, {
      certificates: server.certificates,
      appraiser: await mockAppraiser(own.machine, () => listed),
    });
    const appraiser = await mockAppraiser(server.machine, 'a');
    const client = await startTestClient(proxy.address, { trust: { by: 'attestation', appraiser }, own });
    expect((await ask(client, '/before')).status).toBe(200);
    listed = 'c';
    expect((await ask(client, '/after')).status).toBe(403);
    expect(proxy.refused).toEqual(['measurements: the policy lists the image no longer']);
    expect(target.seen.map(({ url }) => url)).toEqual(['/before']);
  });
});

describe("a regular certificate at the server (BuilderHub's way)", () => {
  test('known by its authority, the client attests: 200, no headers back', async () => {
    const { client: own } = await twoSides();
    const target = await startTarget();
    const { certificatePem: cert, privateKeyPem: key } = await createCredentials({
      names: ['127.0.0.1'],
      validityDays: 1,
      now: Date.now(),
    });
    const proxy = await startTestServer(target.url, {
      certificates: () => ({ cert, key }),
      appraiser: await mockAppraiser(own.machine, 'b'),
    });
    const client = await startTestClient(proxy.address, { trust: { by: 'authorities', ca: cert }, own });
    const answer = await ask(client, '/x');
    expect(answer.status).toBe(200);
    expectNoAttestation(answer.headers);
    expect(target.seen[0]!.headers).toMatchObject(B_HEADERS);
    const stranger = await startTestClient(proxy.address, {
      trust: { by: 'authorities', ca: undefined },
      own,
    });
    expect(await ask(stranger, '/x')).toMatchObject({ status: 502, body: '' });
    expect(stranger.refused[0]).toMatch(/self-signed certificate/u);
    const unchecked = await startTestClient(proxy.address, { trust: { by: 'nothing' }, own });
    expect((await ask(unchecked, '/x')).status).toBe(200);
  });
});

describe('headers', () => {
  test.each([
    ['x-flashbots-measurement', 'unexpected measurement header passed\n'],
    ['x-flashbots-attestation-type', 'unexpected attestation type header passed\n'],
  ])('a caller brings %s: 403, never forwarded, at either proxy', async (header, body) => {
    const { server } = await twoSides();
    const target = await startTarget();
    const proxy = await startTestServer(target.url, {
      certificates: server.certificates,
      appraiser: undefined,
    });
    const client = await startTestClient(proxy.address, {
      trust: { by: 'attestation', appraiser: await mockAppraiser(server.machine, 'a') },
      own: undefined,
    });
    expect(await ask(client, '/x', { headers: { [header]: 'x' } })).toMatchObject({ status: 403, body });
    expect(target.seen).toEqual([]);
  });

  test.each(['x-flashbots-measurement', 'x-flashbots-attestation-type'])(
    'a target answers with %s: 502, empty, with the headers of the server proxy',
    async (header) => {
      const { server } = await twoSides();
      const target = await startTarget((_, response) => {
        response.setHeader(header, 'forged');
        response.end('target');
      });
      const proxy = await startTestServer(target.url, {
        certificates: server.certificates,
        appraiser: undefined,
      });
      const client = await startTestClient(proxy.address, {
        trust: { by: 'attestation', appraiser: await mockAppraiser(server.machine, 'a') },
        own: undefined,
      });
      expect(await ask(client, '/x')).toMatchObject({ status: 502, body: '', headers: A_HEADERS });
      expect(proxy.failures[0]).toMatch(/^unexpected .* header passed$/u);
    },
  );

  test('method, path, body and headers go through; X-Forwarded-For grows by each proxy', async () => {
    const { server } = await twoSides();
    const target = await startTarget((_, response) => {
      response.writeHead(207, { 'X-Own': ['1', '2'], Connection: 'X-Hop', 'X-Hop': 'dropped' });
      response.end('answer');
    });
    const proxy = await startTestServer(target.url, {
      certificates: server.certificates,
      appraiser: undefined,
    });
    const client = await startTestClient(proxy.address, {
      trust: { by: 'attestation', appraiser: await mockAppraiser(server.machine, 'a') },
      own: undefined,
    });
    const answer = await ask(client, '/a/b?c=%20d', {
      method: 'PUT',
      headers: {
        'X-Forwarded-For': '6.6.6.6',
        'X-Mine': 'yes',
        Connection: 'x-private',
        'X-Private': 'dropped',
      },
      body: 'hello',
    });
    expect(answer).toMatchObject({ status: 207, body: 'answer', headers: { 'x-own': '1, 2' } });
    expect(answer.headers).not.toHaveProperty('x-hop');
    expect(target.seen).toMatchObject([
      {
        method: 'PUT',
        url: '/a/b?c=%20d',
        body: 'hello',
        headers: {
          host: target.url.host,
          'x-forwarded-for': '6.6.6.6, 127.0.0.1, 127.0.0.1',
          'x-mine': 'yes',
        },
      },
    ]);
    expect(target.seen[0]!.headers).not.toHaveProperty('x-private');
  });
});

describe('machines that are not what they seem', () => {
  test.each([
    ['a TD that can be debugged', { tdAttributes: '0100001000000000' }, /^td-policy: TDATTRIBUTES/u],
    ['a TD with a configuration of its owner', { mrConfigId: 'aa'.repeat(48) }, /^td-policy: MRCONFIGID/u],
    ['a forged quote', { forged: 'quote' }, /^quote-signature/u],
    [
      'an old TDX module',
      { teeTcbSvn: '05010800000000000000000000000000' },
      /^tcb-status: the TCB is OutOfDate/u,
    ],
  ] as const)('%s', async (_, options, reason) => {
    const { server } = await twoSides();
    server.quoteOptions = options;
    const target = await startTarget();
    const proxy = await startTestServer(target.url, {
      certificates: server.certificates,
      appraiser: undefined,
    });
    const client = await startTestClient(proxy.address, {
      trust: { by: 'attestation', appraiser: await mockAppraiser(server.machine, 'a') },
      own: undefined,
    });
    expect(await ask(client, '/x')).toMatchObject({ status: 502, body: '' });
    expect(client.refused[0]).toMatch(reason);
  });

  test('a machine of a root that nobody trusts', async () => {
    const { server } = await twoSides();
    const target = await startTarget();
    const proxy = await startTestServer(target.url, {
      certificates: server.certificates,
      appraiser: undefined,
    });
    const other = await MockMachine.create({ now: Date.now() });
    const client = await startTestClient(proxy.address, {
      trust: { by: 'attestation', appraiser: await mockAppraiser(other, 'a') },
      own: undefined,
    });
    expect(await ask(client, '/x')).toMatchObject({ status: 502 });
    expect(client.refused[0]).toMatch(/^pck-chain: Intel SGX Root CA is not a root that is trusted/u);
  });
});
