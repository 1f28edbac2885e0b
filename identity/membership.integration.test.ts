/** A node's identity, hub client and registry together, with a development hub in between and real TLS. */
import { once } from 'node:events';
import { connect, createServer, type Server, type TLSSocket } from 'node:tls';
import { firstValueFrom } from 'rxjs';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { temporaryDirectory } from '../testing/directory.ts';
import { certificateFingerprint } from './certificate.ts';
import { type DevelopmentHub, startHub } from './hub/hub.ts';
import { HubClient } from './hub-client.ts';
import { type Identity, type IdentityOptions, openIdentity } from './identity.ts';
import { joinNetwork, type Membership } from './membership.ts';
import type { SendablePeer } from './peer.ts';
import { PeerRegistry } from './registry.ts';

interface Member {
  readonly identity: Identity;
  readonly hub: HubClient;
  readonly registry: PeerRegistry;
  readonly membership: Membership;
}

async function hubOn(listen = '127.0.0.1:0', stateFile?: string): Promise<DevelopmentHub> {
  const hub = await startHub({ listen, stateFile });
  onTestFinished(() => hub.close());
  return hub;
}

async function join(
  url: string,
  options: Partial<IdentityOptions> & { pollMs?: number; registers?: boolean } = {},
): Promise<Member> {
  const { directory, names = ['localhost', '127.0.0.1'], pollMs = 50, registers = true } = options;
  const identity = await openIdentity({ directory, names });
  const hub = new HubClient({ url, list: registers ? 'node' : 'sender', maxBackoffMs: 100 });
  const registry = new PeerRegistry(
    {
      own: () => ({ address: identity.signer.addressLower, fingerprint: identity.current.fingerprint }),
      directory,
      pollMs,
      refreshMs: 10,
    },
    { hub },
  );
  const membership = await joinNetwork({ registers, region: 'test' }, { identity, hub, registry });
  onTestFinished(() => membership.close());
  return { identity, hub, registry, membership };
}

/** Waits for a list that fits; each look follows a fetch. */
async function until(member: Member, fits: (names: string[]) => boolean): Promise<void> {
  while (!fits(member.registry.peers.map(({ name }) => name))) await firstValueFrom(member.registry.fetches);
}

describe('a network', () => {
  test('nodes find each other, one that joins late too, and the sender finds all', async () => {
    const hub = await hubOn();
    for (const name of ['a', 'b', 'c']) hub.addBuilder({ name, dns_name: `localhost:${name.charCodeAt(0)}` });
    const a = await join(`${hub.url}/as/a`);
    const b = await join(`${hub.url}/as/b`);
    await until(a, (names) => names.join() === 'b');
    await until(b, (names) => names.join() === 'a');
    const c = await join(`${hub.url}/as/c`);
    await Promise.all([a, b].map((member) => until(member, (names) => names.includes('c'))));
    await until(c, (names) => names.join() === 'a,b');
    expect(a.registry.byAddress(c.identity.signer.addressLower)).toMatchObject([
      { name: 'c', host: 'localhost', port: 99, fingerprint: c.identity.current.fingerprint },
    ]);
    expect(a.registry.byFingerprint(b.identity.current.fingerprint)).toMatchObject([{ name: 'b' }]);
    expect(a.registry.own).toMatchObject([{ name: 'a' }]);
    expect(a.membership.state).toEqual({ registered: true, attempts: 1, lastError: undefined });

    const sender = await join(hub.url, { registers: false });
    await until(sender, (names) => names.join() === 'a,b,c');
    expect(sender.membership.state.registered).toBe(true);
  });

  test('a node whose hub is down knows its peers from the last run, and registers once it is up', async () => {
    const stateFile = `${await temporaryDirectory()}/hub.json`;
    const directory = await temporaryDirectory();
    const first = await startHub({
      listen: '127.0.0.1:0',
      stateFile,
      builders: [{ name: 'a' }, { name: 'b' }],
    });
    const listen = `127.0.0.1:${first.port}`;
    await join(`${first.url}/as/b`);
    const before = await join(`${first.url}/as/a`, { directory });
    await until(before, (names) => names.join() === 'b');
    await before.membership.close();
    await first.close();

    const after = await join(`http://${listen}/as/a`, { directory });
    expect(after.identity.signer.address).toBe(before.identity.signer.address);
    expect(after.registry.peers.map(({ name }) => name)).toEqual(['b']);
    await vi.waitFor(() => expect(after.membership.state.attempts).toBeGreaterThan(1));
    expect(after.membership.state).toMatchObject({
      registered: false,
      lastError: expect.stringContaining('ECONNREFUSED'),
    });
    await hubOn(listen, stateFile);
    await firstValueFrom(after.registry.fetches);
    expect(after.membership.state).toMatchObject({ registered: true, lastError: undefined });
    expect(after.registry.peers.map(({ name }) => name)).toEqual(['b']);
  });

  test('a node that the hub has forgotten registers again', async () => {
    const first = await startHub({ listen: '127.0.0.1:0', builders: [{ name: 'a' }] });
    const listen = `127.0.0.1:${first.port}`;
    const a = await join(`${first.url}/as/a`);
    while (a.registry.own.length === 0) await firstValueFrom(a.registry.fetches);
    await first.close();
    const second = await hubOn(listen); // an empty memory
    second.addBuilder({ name: 'a' });
    while (a.registry.own.length > 0) await firstValueFrom(a.registry.fetches);
    while (a.registry.own.length === 0) await firstValueFrom(a.registry.fetches);
    expect(a.registry.own).toMatchObject([{ fingerprint: a.identity.current.fingerprint }]);
  });
});

describe('renewal', () => {
  async function serve(identity: Identity): Promise<Server> {
    const { certificatePem: cert, privateKeyPem: key } = identity.current;
    const server = createServer({ cert, key }, (socket) => {
      socket.on('error', () => undefined);
      socket.pipe(socket);
    });
    server.on('tlsClientError', () => undefined);
    identity.onChange((next) =>
      server.setSecureContext({ cert: next.certificatePem, key: next.privateKeyPem }),
    );
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => void server.close());
    return server;
  }

  function portOf(server: Server): number {
    const at = server.address();
    return typeof at === 'object' && at !== null ? at.port : 0;
  }

  async function connectTo(peer: SendablePeer): Promise<TLSSocket> {
    const { host, port, certificate, servername } = peer;
    const ca = `-----BEGIN CERTIFICATE-----\n${certificate.toString('base64')}\n-----END CERTIFICATE-----\n`;
    const socket = connect({ host, port, ca, ...(servername === undefined ? {} : { servername }) });
    onTestFinished(() => void socket.destroy());
    await once(socket, 'secureConnect');
    return socket;
  }

  async function echo(socket: TLSSocket, text: string): Promise<string> {
    socket.write(text);
    const [data]: Buffer[] = await once(socket, 'data');
    return String(data);
  }

  test('new names: registered, then shown to new connections, and those that stand go on', async () => {
    const directory = await temporaryDirectory();
    const hub = await hubOn();
    const [a, b] = ['a', 'b'];
    hub.addBuilder({ name: a });
    hub.addBuilder({ name: b });
    const watcher = await join(`${hub.url}/as/b`);

    const earlier = await openIdentity({ directory, names: ['127.0.0.1'] });
    await earlier.close();
    const identity = await openIdentity({ directory, names: ['localhost', '127.0.0.1'] });
    const server = await serve(identity);
    hub.addBuilder({ name: a, dns_name: `127.0.0.1:${portOf(server)}` });
    const client = new HubClient({ url: `${hub.url}/as/a` });
    await client.register({
      address: identity.signer.addressLower,
      certificatePem: identity.current.certificatePem,
    });
    await until(watcher, (names) => names.includes('a'));
    const [old] = watcher.registry.sendable;
    expect(old?.fingerprint).toBe(earlier.current.fingerprint);
    const standing = await connectTo(old!);
    expect(await echo(standing, 'before')).toBe('before');

    const renewed = Promise.withResolvers<string>();
    identity.onChange(({ fingerprint }) => renewed.resolve(fingerprint));
    const registry = new PeerRegistry({ own: () => undefined }, { hub: client });
    const membership = await joinNetwork({ registers: true }, { identity, hub: client, registry });
    onTestFinished(() => membership.close());
    const fingerprint = await renewed.promise;
    expect(fingerprint).not.toBe(old?.fingerprint);
    await watcher.registry.refresh();
    const [next] = watcher.registry.sendable;
    expect(next).toMatchObject({ name: 'a', fingerprint });
    const fresh = await connectTo(next!);
    expect(certificateFingerprint(fresh.getPeerX509Certificate()!.raw)).toBe(fingerprint);
    expect(await echo(fresh, 'after')).toBe('after');
    expect(await echo(standing, 'still')).toBe('still');
    await expect(connectTo(old!)).rejects.toThrow();

    await membership.close();
    const restarted = await openIdentity({ directory, names: ['localhost', '127.0.0.1'] });
    expect(restarted.current.fingerprint).toBe(fingerprint);
    expect(restarted.renewalDue()).toBeUndefined();
  });
});
