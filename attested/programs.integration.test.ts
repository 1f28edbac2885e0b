/**
 * The programs as processes: two mock machines, the hub behind the server proxy, the client proxy before a node, and
 * an order that flows after an attested fetch of the configuration. And the same refused.
 */
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import { createOrderSource } from '../devnet/orders.ts';
import { Appraiser } from '../identity/attestation/appraiser.ts';
import { CertificateMaker } from '../identity/attestation/attested-certificate.ts';
import { checkCollateral } from '../identity/attestation/collateral.ts';
import { patternMeasurements } from '../identity/attestation/mock/machine.ts';
import { mockSide, policyText } from '../identity/attestation/testing/mock-world.ts';
import { startHub } from '../identity/hub/hub.ts';
import { temporaryDirectory } from '../testing/directory.ts';
import { eventually, startTestNodeAt, testCredentials } from '../testing/harness.ts';
import { startProgram } from '../testing/program.ts';
import { ask, startTestClient } from './testing/pair.ts';

/** A mock machine with the files that others need of it. */
async function startMachine(directory: string, image: string) {
  const root = join(directory, `${image}.pem`);
  const policy = join(directory, `${image}.json`);
  const program = startProgram('identity/attestation/mock/main.ts', [
    '--image',
    image,
    '--root',
    root,
    '--policy',
    policy,
  ]);
  const [, url = ''] = await program.line(/^mock TDX machine on (\S+)$/u);
  return { url, root, policy };
}

async function startProxy(role: 'server' | 'client', flags: Readonly<Record<string, string>>) {
  const args = Object.entries(flags).flat();
  const program = startProgram('attested/main.ts', [
    role,
    '--listen-addr',
    '127.0.0.1:0',
    '--listen-addr-healthcheck',
    '127.0.0.1:0',
    ...args,
  ]);
  const [, address = ''] = await program.line(/"event":"listening","role":"\w+","address":"([^"]+)"/u);
  const [, health = ''] = await program.line(/"event":"health","address":"([^"]+)"/u);
  return { ...program, address, health };
}

async function run(
  script: string,
  args: readonly string[],
): Promise<{ code: number | null; output: readonly string[] }> {
  const { ended, output } = startProgram(script, args);
  return { code: (await ended).code, output };
}

test('an order flows after an attested fetch of the configuration; another image gets nothing', async () => {
  const directory = await temporaryDirectory();
  const [server, client] = await Promise.all([startMachine(directory, 'a'), startMachine(directory, 'b')]);
  const hub = await startHub({
    listen: '127.0.0.1:0',
    nodes: 'header',
    builders: [{ name: 'node', ip: '127.0.0.1' }],
  });
  onTestFinished(() => hub.close());
  const admin = async (path: string, body: unknown): Promise<void> => {
    const response = await fetch(`${hub.url}/api/admin/v1${path}`, {
      method: 'POST',
      body: JSON.stringify(body),
    });
    expect(response.status).toBe(200);
  };
  const [measurement] = JSON.parse(await readFile(client.policy, 'utf8')) as [{ measurement_id: string }];
  await admin('/measurements', measurement);
  await admin(`/measurements/activation/${encodeURIComponent(measurement.measurement_id)}`, {
    enabled: true,
  });
  await admin('/builders/configuration/node', {});
  await admin('/builders/secrets/node', { instance_name: 'node' });

  const serverProxy = await startProxy('server', {
    '--target-addr': hub.url,
    '--server-attestation-type': 'dummy',
    '--dev-dummy-dcap': server.url,
    '--client-measurements': client.policy,
    '--dev-mock-root': client.root,
    '--pccs-url': client.url,
  });
  const clientArgs = (own: { url: string }) => ({
    '--target-addr': `https://${serverProxy.address}`,
    '--client-attestation-type': 'dummy',
    '--dev-dummy-dcap': own.url,
    '--server-measurements': server.policy,
    '--dev-mock-root': server.root,
    '--pccs-url': server.url,
  });
  const clientProxy = await startProxy('client', clientArgs(client));
  const configuration = await fetch(`http://${clientProxy.address}/api/l1-builder/v1/configuration`);
  expect([configuration.status, await configuration.json()]).toEqual([200, { instance_name: 'node' }]);
  expect(configuration.headers.get('x-flashbots-attestation-type')).toBe('qemu-tdx');

  const node = await startTestNodeAt(`http://${clientProxy.address}`, 'node');
  await eventually(async () => expect(await node.metric('orderflow_hub_registered')).toBe(1));
  const source = createOrderSource({ seed: 'attested', methods: 'bundles', bodyBytes: 1_000 });
  await node.sendAll([source.next(), source.next(), source.next()]);
  await node.builder.received(3);

  // The mock root is loud, and the proxies say how they are.
  expect(clientProxy.output.join('\n')).toContain("A MOCK ROOT IS TRUSTED INSTEAD OF INTEL'S");
  const page = await (await fetch(`http://${serverProxy.health}/metrics`)).text();
  expect(page).toMatch(/^attested_mock_root\{role="server"\} 1$/mu);
  expect(page).toMatch(/^attested_handshakes_total\{attested="true",role="server"\} [1-9]/mu);
  expect((await fetch(`http://${serverProxy.health}/readyz`)).status).toBe(200);
  expect((await fetch(`http://${serverProxy.health}/anything`)).status).toBe(200);

  // Another image on the client's side: its proxy gets no connection.
  const other = await startMachine(directory, 'c');
  const wrong = await startProxy('client', clientArgs(other));
  const refused = await fetch(`http://${wrong.address}/api/l1-builder/v1/configuration`);
  expect([refused.status, await refused.text()]).toEqual([502, '']);
  await serverProxy.line(/"event":"refused","check":"pck-chain"/u);

  // The hub itself: without a proxy's word nobody is known, whatever path is asked.
  expect((await fetch(`${hub.url}/api/l1-builder/v1/configuration`)).status).toBe(403);
  expect((await fetch(`${hub.url}/as/node/api/l1-builder/v1/configuration`)).status).toBe(404);

  // The policy is changed under the running proxy: new connections of the old image are refused.
  await writeFile(client.policy, policyText([patternMeasurements('d')]));
  await serverProxy.line(/the policy is in force/u, 1);
  const late = await startProxy('client', clientArgs(client));
  expect((await fetch(`http://${late.address}/api/l1-builder/v1/configuration`)).status).toBe(502);
  await serverProxy.line(/"event":"refused","check":"measurements"/u);

  serverProxy.child.kill('SIGTERM');
  expect(await serverProxy.ended).toEqual({ code: 0, signal: null });
});

test('attested-get prints what was proven and the body; its exit code is for scripts', async () => {
  const directory = await temporaryDirectory();
  const machine = await startMachine(directory, 'a');
  const target = createServer((request, response) => {
    response.writeHead(request.url === '/cert' ? 200 : 404);
    response.end(request.url === '/cert' ? 'the certificate' : 'none');
  });
  await new Promise<void>((resolve) => target.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void target.close());
  const { port } = target.address() as AddressInfo;
  const proxy = await startProxy('server', {
    '--target-addr': `http://127.0.0.1:${port}`,
    '--server-attestation-type': 'dummy',
    '--dev-dummy-dcap': machine.url,
  });
  const trust = ['--dev-mock-root', machine.root, '--pccs-url', machine.url];
  const url = `https://${proxy.address}/cert`;
  const good = await run('attested/get-main.ts', [url, '--policy', machine.policy, ...trust]);
  expect(good.code, good.output.join('\n')).toBe(0);
  expect(good.output).toContain('the certificate');
  expect(good.output).toContain('Measurements match expected measurements: mock a');
  expect(good.output.join('\n')).toContain(`"4": "${'a4'.repeat(48)}"`);

  const wrong = join(directory, 'wrong.json');
  await writeFile(wrong, policyText([patternMeasurements('f')]));
  const refused = await run('attested/get-main.ts', [url, '--policy', wrong, ...trust]);
  expect(refused.code).toBe(1);
  expect(refused.output.join('\n')).toMatch(/measurements: image 0: MRTD is a0a0/u);
  expect(refused.output).not.toContain('the certificate');
  // Without the mock root it is nobody; the deployed names of the options work too.
  const intel = await run('attested/get-main.ts', ['--addr', url, '--expected-measurements', machine.policy]);
  expect([intel.code, intel.output.at(-1)]).toEqual([
    1,
    'pck-chain: Intel SGX Root CA is not a root that is trusted',
  ]);
  const other = await run('attested/get-main.ts', [
    url.replace('/cert', '/x'),
    '--policy',
    machine.policy,
    ...trust,
  ]);
  expect([other.code, other.output.at(-1)]).toEqual([3, 'status 404']);
  const azure = join(directory, 'azure.json');
  await writeFile(azure, '[{"measurement_id":"x","attestation_type":"azure-tdx","measurements":{}}]');
  const wrongUse: readonly [string[], string][] = [
    [[url], 'either --policy or --any-image is needed'],
    [[url, '--policy', azure], 'azure-tdx evidence (vTPM quote and its certificate) is not verified'],
    [[url, '--any-image', '--attestation-type', 'gcp-tdx'], 'gcp-tdx: is not verified by this version'],
    [[url, '--any-image', '--dev-mock-root', '/no/such'], '--dev-mock-root: ENOENT'],
    [[url, '--any-image', '--pccs-url', 'pccs'], '--pccs-url: "pccs" is no http://'],
  ];
  const answers = await Promise.all(wrongUse.map(([args]) => run('attested/get-main.ts', args)));
  for (const [index, [, reason]] of wrongUse.entries()) {
    expect(answers[index]?.output.join('\n')).toContain(reason);
    expect(answers[index]?.code).toBe(2);
  }
});

test('a hub to which nodes attest themselves', async () => {
  const own = await mockSide('b');
  const { certificatePem: cert, privateKeyPem: key } = await testCredentials();
  const roots = new Set([own.machine.rootFingerprint]);
  const collateral = checkCollateral(await own.machine.collateral(), Date.now(), roots);
  if ('document' in collateral) throw new Error(collateral.reason);
  const refused: string[] = [];
  const hub = await startHub({
    listen: '127.0.0.1:0',
    nodes: 'none',
    builders: [{ name: 'node', ip: '127.0.0.1' }],
    attested: {
      listen: { host: '127.0.0.1', port: 0 },
      certificate: { cert, key },
      appraiser: new Appraiser(
        { roots, acceptedTcb: new Set(['UpToDate']) },
        { collateral: { get: async () => collateral }, policy: () => undefined, now: Date.now },
      ),
      refused: (reason) => refused.push(reason),
    },
  });
  onTestFinished(() => hub.close());
  const { hostname: host, port } = new URL(hub.attestedUrl ?? '');
  const trust = { by: 'authorities', ca: cert } as const;
  const client = await startTestClient({ host, port: Number(port) }, { trust, own });
  const builders = '/api/l1-builder/v1/builders';
  // Proven, but no measurement has been entered that it fits.
  expect((await ask(client, builders)).status).toBe(403);
  const admin = (path: string, body: unknown) =>
    fetch(`${hub.url}/api/admin/v1${path}`, { method: 'POST', body: JSON.stringify(body) });
  const [entry] = JSON.parse(policyText([patternMeasurements('b')])) as [object];
  await admin('/measurements', entry);
  await admin('/measurements/activation/image%200', { enabled: true });
  expect((await ask(client, builders)).status).toBe(200);
  // A claim is not a proof, and the administration is elsewhere.
  expect((await ask(client, '/api/admin/v1/measurements')).status).toBe(403);
  // A certificate with its key, and no binding.
  const stolen = connect({ host, port: Number(port), ca: cert, ...(await own.certificates.standing()) });
  onTestFinished(() => void stolen.destroy());
  stolen.write(`GET ${builders} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
  const [answer] = (await once(stolen, 'data')) as [Buffer];
  expect(answer.toString()).toMatch(/^HTTP\/1\.1 403 /u);
  const without = await CertificateMaker.create({}, { quotes: undefined });
  const liar = await startTestClient(
    { host, port: Number(port) },
    { trust, own: { ...own, certificates: without } },
  );
  expect((await ask(liar, builders)).status).toBe(502);
  expect(refused).toEqual(['evidence: the certificate holds no attestation']);
  expect((await fetch(`${hub.url}${builders}`)).status).toBe(404);
});

test('a machine that is no TD does not start a server that should prove it is one', async () => {
  const { code, output } = await run('attested/main.ts', ['server', '--target-addr', 'http://127.0.0.1:1']);
  expect(code).toBe(1);
  expect(output.join('\n')).toContain('this machine is no TD that can attest');
});
