/** `npm run hub`: the development hub as a process of its own. Prints its URL, stops on SIGTERM and SIGINT. */
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { parseArgs } from 'node:util';
import { Appraiser } from '../attestation/appraiser.ts';
import { INTEL_SGX_ROOT, keyFingerprint } from '../attestation/certificates.ts';
import { CollateralSource } from '../attestation/collateral-source.ts';
import { INTEL_SERVICE, provisioningService } from '../attestation/provisioning-service.ts';
import { parseHostAndPort } from '../host.ts';
import { DEFAULT_PEER_PORT } from '../hub-list.ts';
import type { AttestedHubOptions } from './attested.ts';
import { type BuilderEntry, startHub } from './hub.ts';

const HELP = `Usage: npm run hub -- [options]

A development hub: BuilderHub's API for a private network.

  --listen HOST:PORT   where it listens (default 127.0.0.1:14892; port 0 takes a free one)
  --state FILE         keeps what it knows in FILE (default: in memory)
  --builder name=NAME,address=HOST:PORT[,network=NETWORK]
                       a builder of the network, active at once; may be given many times
  --demand-attestation nodes are known by the headers of an attesting proxy alone, which must fit a measurement
                       that has been entered; the paths /as/NAME are closed
  --attested-listen HOST:PORT
                       a second listener, with TLS, where nodes attest themselves
  --attested-cert FILE, --attested-key FILE
                       its certificate and key
  --pccs-url URL       where it gets collateral (default Intel's service)
  --dev-mock-root FILE takes this root instead of Intel's, which PROVES NOTHING
  --allow-remote       lets it listen on an address that other machines can reach
  --help               this text

  HUB_ADMIN_PASSWORD   (environment) asks for admin:PASSWORD on the admin API; without it
                       only this machine may use that API

A node whose builder is called NAME takes http://HOST:PORT/as/NAME as its hub URL; behind an
attesting proxy it takes http://HOST:PORT and is told by X-Forwarded-For.
`;

/** @returns the builder that a --builder option describes, or undefined if it describes none */
function readBuilder(text: string): BuilderEntry | undefined {
  const fields = new Map<string, string>();
  for (const part of text.split(',')) {
    const [key = '', value = ''] = part.split(/=(?<rest>.*)/su);
    if (!['name', 'address', 'network'].includes(key) || value === '' || fields.has(key)) return undefined;
    fields.set(key, value);
  }
  const name = fields.get('name');
  const address = fields.get('address');
  const place = address === undefined ? undefined : parseHostAndPort(address, DEFAULT_PEER_PORT);
  if (name === undefined || place === undefined) return undefined;
  return {
    name,
    dns_name: address,
    network: fields.get('network'),
    ip: isIP(place.name) === 0 ? undefined : place.name,
  };
}

function fail(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}

function readOptions() {
  try {
    return parseArgs({
      options: {
        listen: { type: 'string', default: '127.0.0.1:14892' },
        state: { type: 'string' },
        builder: { type: 'string', multiple: true, default: [] },
        'demand-attestation': { type: 'boolean', default: false },
        'attested-listen': { type: 'string' },
        'attested-cert': { type: 'string' },
        'attested-key': { type: 'string' },
        'pccs-url': { type: 'string', default: INTEL_SERVICE },
        'dev-mock-root': { type: 'string' },
        'allow-remote': { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    }).values;
  } catch (error) {
    return fail(`${error instanceof Error ? error.message : String(error)}\n\n${HELP}`);
  }
}

/** @throws Error naming what is missing or cannot be read */
async function attestedOptions(): Promise<AttestedHubOptions | undefined> {
  const {
    'attested-listen': listen,
    'attested-cert': cert,
    'attested-key': key,
    'dev-mock-root': mock,
  } = options;
  if (listen === undefined) return undefined;
  const match = /^(.+):(\d{1,5})$/u.exec(listen);
  if (match === null || cert === undefined || key === undefined) {
    throw new Error('--attested-listen HOST:PORT needs --attested-cert and --attested-key');
  }
  let root = INTEL_SGX_ROOT;
  if (mock !== undefined) {
    process.stderr.write("A MOCK ROOT IS TRUSTED INSTEAD OF INTEL'S: ATTESTATION PROVES NOTHING\n");
    root = keyFingerprint(new X509Certificate(await readFile(mock)));
  }
  const roots = new Set([root]);
  const collateral = new CollateralSource(
    { directory: undefined, roots },
    { fetch: provisioningService({ url: options['pccs-url'] }) },
  );
  return {
    listen: { host: match[1] ?? '', port: Number(match[2]) },
    certificate: { cert: await readFile(cert, 'utf8'), key: await readFile(key, 'utf8') },
    appraiser: new Appraiser(
      { roots, acceptedTcb: new Set(['UpToDate']) },
      { collateral, policy: () => undefined, now: Date.now },
    ),
    refused: (reason) => process.stderr.write(`refused: ${reason}\n`),
  };
}

const options = readOptions();
if (options.help) {
  process.stdout.write(HELP);
} else {
  const builders = options.builder.map(
    (text) => readBuilder(text) ?? fail(`--builder ${text}: it should be name=NAME,address=HOST:PORT`),
  );
  const hub = await startHub({
    listen: options.listen,
    stateFile: options.state,
    allowRemote: options['allow-remote'],
    adminPassword: process.env.HUB_ADMIN_PASSWORD,
    builders,
    nodes: options['demand-attestation'] ? 'header' : 'trusting',
    attested: await attestedOptions().catch((error: unknown) =>
      fail(error instanceof Error ? error.message : String(error)),
    ),
  }).catch((error: unknown) => fail(error instanceof Error ? error.message : String(error)));
  process.stdout.write(`development hub on ${hub.url}\n`);
  if (hub.attestedUrl !== undefined) process.stdout.write(`attested nodes on ${hub.attestedUrl}\n`);
  let stopping = false;
  const stop = (): void => {
    if (stopping) process.exit(1);
    stopping = true;
    hub.close().catch((error: unknown) => fail(error instanceof Error ? error.message : String(error)));
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
}
