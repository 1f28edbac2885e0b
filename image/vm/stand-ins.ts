/**
 * What a development machine finds outside: the hub with a configuration for it, an NTP server, and a second node
 * with its own builder, all on loopback of a network namespace.
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BuilderStandIn, startBuilder } from '../../devnet/builder-stand-in.ts';
import { type DevelopmentHub, startHub } from '../../identity/hub/hub.ts';
import { createLogger } from '../../log.ts';
import { type RunningNode, startNode } from '../../node.ts';
import { readSettings } from '../../settings.ts';
import { DEVNET_HUB } from '../services.ts';
import { type NtpServer, startNtpServer } from './ntp.ts';

/** Where the machine's ports are on this side. */
export const FORWARDED = { 80: 10_081, 443: 10_443, 5544: 15_544 } as const;

export interface StandIns {
  readonly hub: DevelopmentHub;
  readonly ntp: NtpServer;
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

/** Starts them; the ports are those that the image's firewall lets out to. */
export async function startStandIns(configuration: unknown): Promise<StandIns> {
  const folder = mkdtempSync(join(tmpdir(), 'image-outside-'));
  const builder = await startBuilder({ keepBodies: true });
  const ntp = await startNtpServer(123);
  const hub = await startHub({
    listen: `127.0.0.1:${new URL(DEVNET_HUB).port}`,
    builders: [
      { name: 'vm', dns_name: `127.0.0.1:${FORWARDED[5544]}` },
      { name: 'outside', dns_name: '10.0.2.2:5544' },
    ],
  });
  const settings = readSettings([], {
    USER_LISTEN_ADDR: '127.0.0.1:0',
    SYSTEM_LISTEN_ADDR: '127.0.0.1:5544',
    CERT_LISTEN_ADDR: '127.0.0.1:0',
    METRICS_ADDR: '127.0.0.1:0',
    BUILDER_ENDPOINT: builder.url,
    BUILDER_READY_ENDPOINT: builder.url,
    BUILDERHUB_ENDPOINT: `${hub.url}/as/outside`,
    PEER_POLL_SEC: '1',
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
    node,
    builder,
    configure,
    async close() {
      await node.close();
      await hub.close();
      await ntp.close();
      await builder.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
