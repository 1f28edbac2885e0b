#!/usr/bin/env node
/**
 * `attested-get URL --policy FILE`: fetches over attested TLS. What the machine proved goes to standard error, the body
 * to standard output, so that `attested-get … > cert.pem` keeps a certificate that a listed image has given out.
 *
 * Exit codes: 0 proven and fetched, 1 not proven (nothing is fetched), 2 wrong use, 3 unreachable or another status
 * than 200.
 */
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { parseArgs } from 'node:util';
import { Appraiser, type Attestation } from '../identity/attestation/appraiser.ts';
import { AttestationError, connectAttested } from '../identity/attestation/attested-client.ts';
import { INTEL_SGX_ROOT, keyFingerprint } from '../identity/attestation/certificates.ts';
import { CollateralSource } from '../identity/attestation/collateral-source.ts';
import { byRegister } from '../identity/attestation/measurements.ts';
import { PolicyFile } from '../identity/attestation/policy-file.ts';
import { INTEL_SERVICE, provisioningService } from '../identity/attestation/provisioning-service.ts';
import { acceptedTcb, SettingError, serviceUrl } from './settings.ts';

const HELP = `Usage: attested-get URL --policy FILE [options]

Fetches URL (https://HOST:PORT/PATH) from a machine that proves to run an image of the policy.

  --policy FILE          measurement policy (also --expected-measurements)
  --any-image            instead of a policy: any image on a genuine machine; the registers are only printed
  --pccs-url URL         where collateral comes from (default ${INTEL_SERVICE})
  --collateral-dir DIR   keeps collateral for the next time
  --accept-tcb LIST      statuses of machines that pass (default UpToDate)
  --timeout-ms N         of the whole (default 30000)
  --dev-mock-root FILE   development: take this root instead of Intel's; PROVES NOTHING
  --help                 this text

Exit codes: 0 proven and fetched, 1 not proven, 2 wrong use, 3 unreachable or another status than 200.
`;

const EXIT = { notProven: 1, usage: 2, unreachable: 3 } as const;
const MAX_BODY_BYTES = 64 * 1024 * 1024;

function fail(code: number, message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(code);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function readOptions() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        addr: { type: 'string' },
        policy: { type: 'string' },
        'expected-measurements': { type: 'string' },
        'any-image': { type: 'boolean', default: false },
        'attestation-type': { type: 'string', default: 'dcap-tdx' },
        'pccs-url': { type: 'string', default: INTEL_SERVICE },
        'collateral-dir': { type: 'string' },
        'accept-tcb': { type: 'string', default: 'UpToDate' },
        'timeout-ms': { type: 'string', default: '30000' },
        'dev-mock-root': { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    });
  } catch (error) {
    return fail(EXIT.usage, `${messageOf(error)}\n\n${HELP}`);
  }
}

const { values: options, positionals } = readOptions();
if (options.help) {
  process.stdout.write(HELP);
  process.exit(0);
}
const url = URL.parse(positionals[0] ?? options.addr ?? '');
if (url?.protocol !== 'https:' || positionals.length > 1)
  fail(EXIT.usage, `an https:// URL is needed\n\n${HELP}`);
const policyPath = options.policy ?? options['expected-measurements'];
if ((policyPath === undefined) !== options['any-image']) {
  fail(EXIT.usage, 'either --policy or --any-image is needed');
}
if (!['dcap-tdx', 'qemu-tdx', 'auto'].includes(options['attestation-type'])) {
  fail(
    EXIT.usage,
    `--attestation-type ${options['attestation-type']}: is not verified by this version; dcap-tdx is`,
  );
}
const timeoutMs = Number(options['timeout-ms']);
if (!Number.isSafeInteger(timeoutMs) || timeoutMs < 1)
  fail(EXIT.usage, '--timeout-ms: a whole number above 0');

const accepted = setting(() => acceptedTcb(options['accept-tcb']));
const pccsUrl = setting(() => serviceUrl('pccs-url', options['pccs-url']));
const policy =
  policyPath === undefined
    ? undefined
    : await PolicyFile.open(policyPath).catch((error: unknown) => fail(EXIT.usage, messageOf(error)));
const roots = new Set([
  await rootFingerprint(options['dev-mock-root']).catch((error: unknown) =>
    fail(EXIT.usage, `--dev-mock-root: ${messageOf(error)}`),
  ),
]);
const collateral = new CollateralSource(
  { directory: options['collateral-dir'], roots, waitMs: timeoutMs },
  { fetch: provisioningService({ url: pccsUrl, timeoutMs }) },
);

async function rootFingerprint(file: string | undefined): Promise<string> {
  if (file === undefined) return INTEL_SGX_ROOT;
  process.stderr.write("A MOCK ROOT IS TRUSTED INSTEAD OF INTEL'S: THIS PROVES NOTHING\n");
  return keyFingerprint(new X509Certificate(await readFile(file)));
}

/** Reads a setting, or ends with what is wrong with it. */
function setting<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof SettingError) return fail(EXIT.usage, error.message);
    throw error;
  }
}

function tell({ measurements, measurementId, tcb }: Attestation): void {
  process.stderr.write(
    `${JSON.stringify(byRegister(measurements), null, 2)}\nTCB ${tcb.status} (${tcb.date})\n`,
  );
  process.stderr.write(
    measurementId === undefined
      ? 'Measurements were compared with nothing\n'
      : `Measurements match expected measurements: ${measurementId}\n`,
  );
}

async function fetchAttested(target: URL): Promise<void> {
  const appraiser = new Appraiser(
    { roots, acceptedTcb: accepted },
    { collateral, policy: () => policy?.current, now: Date.now },
  );
  const { socket, attestation } = await connectAttested(
    {
      host: target.hostname.replace(/^\[(.*)\]$/u, '$1'),
      port: target.port === '' ? 443 : Number(target.port),
      timeoutMs,
    },
    { trust: { by: 'attestation', appraiser }, own: undefined },
  );
  if (attestation !== undefined) tell(attestation);
  const agent = new Agent({ maxSockets: 1 });
  agent.createConnection = () => socket;
  const outgoing = request({
    agent,
    host: target.hostname,
    path: `${target.pathname}${target.search}`,
    headers: { host: target.host },
    signal: AbortSignal.timeout(timeoutMs),
  });
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  outgoing.on('error', reject);
  outgoing.on('response', (response) => {
    if (response.statusCode !== 200) reject(new Error(`status ${response.statusCode}`));
    const chunks: Buffer[] = [];
    let length = 0;
    response.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length > MAX_BODY_BYTES) reject(new Error(`more than ${MAX_BODY_BYTES} bytes`));
      else chunks.push(chunk);
    });
    response.on('error', reject);
    response.on('end', () => resolve(Buffer.concat(chunks)));
  });
  outgoing.end();
  try {
    process.stdout.write(await promise);
  } finally {
    socket.destroy();
  }
}

try {
  await fetchAttested(url);
} catch (error) {
  process.stderr.write(`${messageOf(error)}\n`);
  process.exitCode =
    error instanceof AttestationError && error.refused !== 'tls' ? EXIT.notProven : EXIT.unreachable;
} finally {
  await policy?.close();
  await collateral.close();
}
