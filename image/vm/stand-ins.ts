/**
 * What a development machine finds outside: the hub, which hands out its configuration to an image it knows, the
 * hardware that quotes, an NTP server, and a second node with its own builder, all on loopback of a network namespace.
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BuilderStandIn, startBuilder } from '../../devnet/builder-stand-in.ts';
import { Appraiser } from '../../identity/attestation/appraiser.ts';
import { CollateralSource } from '../../identity/attestation/collateral-source.ts';
import { provisioningService } from '../../identity/attestation/provisioning-service.ts';
import { type DevelopmentHub, startHub } from '../../identity/hub/hub.ts';
import { createLogger } from '../../log.ts';
import { type RunningNode, startNode } from '../../node.ts';
import { readSettings } from '../../settings.ts';
import type { Measurement } from '../measure/measurements.ts';
import { DEVELOPMENT } from '../surroundings.ts';
import { DEVELOPMENT_HUB_CERTIFICATE, developmentHubKey } from './development-hub.ts';
import { type NtpServer, startNtpServer } from './ntp.ts';
import { type Quotes, startQuotes } from './quotes.ts';

/** Where the machine's ports are on this side. */
export const FORWARDED = { 80: 10_081, 443: 10_443, 3535: 13_535, 5544: 15_544, 7936: 17_936 } as const;
/** Where any other guest port is: below those that the kernel gives to whoever asks for none in particular. */
export const onThisSide = (guest: number): number => 20_000 + (guest % 10_000);
const HUB_PORT = 14_892;

export interface StandIns {
  readonly hub: DevelopmentHub;
  readonly ntp: NtpServer;
  readonly quotes: Quotes;
  /** Whom the hub has turned away, and why. */
  readonly refused: readonly string[];
  readonly node: RunningNode;
  readonly builder: BuilderStandIn;
  /** Replaces the configuration that the hub hands to the machine. */
  configure(configuration: unknown): Promise<void>;
  close(): Promise<void>;
}

/** A configuration as the hub would hold it. */
export function exampleConfiguration(): { disk_encryption: { key: string }; instance_name: string } {
  return {
    instance_name: 'vm',
    disk_encryption: { key: randomBytes(32).toString('hex') },
  };
}

export interface StandInsOptions {
  /** Root of the tools tree, for the firmware. */
  readonly tools: string;
  /** Folder of the image that the hub takes for the right one. */
  readonly image: string;
  /** What the hub hands to it. */
  readonly configuration: unknown;
}

/** Starts them; the ports are those that the image's firewall lets out to. */
export async function startStandIns({ tools, image, configuration }: StandInsOptions): Promise<StandIns> {
  const folder = mkdtempSync(join(tmpdir(), 'image-outside-'));
  const builder = await startBuilder({ keepBodies: true });
  const ntp = await startNtpServer(123);
  const quotes = await startQuotes(
    Number(new URL(DEVELOPMENT.quotes ?? '').port),
    join(tools, 'usr/share/OVMF/OVMF_CODE_4M.fd'),
  );
  const refused: string[] = [];
  const hub = await startAttestingHub(quotes, refused);
  await enterMeasurement(hub.url, image);
  const settings = readSettings([], {
    USER_LISTEN_ADDR: '127.0.0.1:0',
    SYSTEM_LISTEN_ADDR: '127.0.0.1:5544',
    CERT_LISTEN_ADDR: '127.0.0.1:0',
    METRICS_ADDR: '127.0.0.1:0',
    BUILDER_ENDPOINT: builder.url,
    BUILDER_READY_ENDPOINT: builder.url,
    BUILDERHUB_ENDPOINT: `${hub.url}/as/outside`,
    PEER_POLL_SEC: '1',
    SHARDS: '1',
    DATA_DIR: folder,
    CERT_HOSTS: '127.0.0.1,10.0.2.2,localhost',
  });
  const log = createLogger({ json: true, debug: false, service: 'outside' });
  log.level = 'error';
  const node = await startNode(settings, log);
  const configure = async (value: unknown): Promise<void> => {
    const answer = await fetch(`${hub.url}/api/admin/v1/builders/secrets/vm`, {
      method: 'POST',
      body: JSON.stringify(value),
    });
    if (!answer.ok) throw new Error(`the hub takes no configuration: ${answer.status}`);
  };
  await configure(configuration);
  return {
    hub,
    ntp,
    quotes,
    refused,
    node,
    builder,
    configure,
    async close() {
      await node.close();
      await hub.close();
      await quotes.close();
      await ntp.close();
      await builder.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** The hub knows a machine by its quote, as it would behind the attesting proxy; the second node by its path. */
function startAttestingHub(quotes: Quotes, refused: string[]): Promise<DevelopmentHub> {
  const roots = new Set([quotes.rootFingerprint]);
  const collateral = new CollateralSource(
    { directory: undefined, roots },
    { fetch: provisioningService({ url: quotes.collateral.url }) },
  );
  const { hostname, port } = new URL(DEVELOPMENT.hub ?? '');
  return startHub({
    listen: `127.0.0.1:${HUB_PORT}`,
    builders: [
      { name: 'vm', dns_name: `127.0.0.1:${FORWARDED[5544]}` },
      { name: 'outside', ip: '127.0.0.2', dns_name: `${hostname}:5544` },
    ],
    attested: {
      listen: { host: '127.0.0.1', port: port === '' ? 443 : Number(port) },
      certificate: { cert: DEVELOPMENT_HUB_CERTIFICATE, key: developmentHubKey() },
      appraiser: new Appraiser(
        { roots, acceptedTcb: new Set(['UpToDate']) },
        { collateral, policy: () => undefined, now: Date.now },
      ),
      refused: (reason) => refused.push(reason),
    },
  });
}

/** Tells the hub what the image measures. */
async function enterMeasurement(hub: string, image: string): Promise<void> {
  const all = JSON.parse(readFileSync(join(image, 'measurements.json'), 'utf8')) as Measurement[];
  const ours = all.find(({ measurement_id: id }) => id.endsWith('-tdx-page'));
  for (const [path, body] of [
    ['measurements', ours],
    [`measurements/activation/${ours?.measurement_id}`, { enabled: true }],
  ] as const) {
    const url = `${hub}/api/admin/v1/${path}`;
    const answer = await fetch(url, { method: 'POST', body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`the hub takes no measurement: ${answer.status}`);
  }
}
