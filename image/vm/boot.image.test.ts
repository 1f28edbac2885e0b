/** A booted development image: what it measured, what it lets in and out, what it does with orders, over two boots. */

import { hash, randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { createUserClient, type UserClient } from '../../devnet/client.ts';
import { answerProblem } from '../../devnet/once.ts';
import { createOrderSource, type GeneratedOrder } from '../../devnet/orders.ts';
import { sysctls } from '../build/settings.ts';
import { readEventLog, replay } from '../measure/event-log.ts';
import type { Measurement } from '../measure/measurements.ts';
import { BANKS, extensionsOf } from '../measure/registers.ts';
import { servicesOf } from '../services.ts';
import { makeDataDisk } from './boot.ts';
import { type Machine, startMachine } from './machine.ts';
import { FORWARDED, type StandIns, startStandIns } from './stand-ins.ts';

/** Guards against a hang alone: some 50 s on an idle machine, and a busy one only takes longer. */
const HANG_S = 900;
const DISK_KEY = randomBytes(32).toString('hex');
const CONFIGURATION = {
  instance_name: 'vm',
  disk_encryption: { key: DISK_KEY },
  flowproxy: { builder_region: 'nowhere "$`\\ & here' },
};
/** Guest ports that must not answer, forwarded to the same port plus this. */
const SHIFT = 20_000;
const CLOSED = [22, 3535, 5542, 5543, 8090, 8405, 8645, 9100, 14_727, 40_192];

interface ListedNode {
  readonly name: string;
  readonly orderflow_proxy?: { readonly tls_cert?: string; readonly ecdsa_pubkey_address?: string };
}

let folder: string;
let standIns: StandIns;
let machine: Machine;
const orders = createOrderSource({ seed: 'image' });

/** Tries again until it does not throw. */
async function eventually<T>(attempt: () => Promise<T>): Promise<T> {
  const deadline = Date.now() + HANG_S * 1000;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  }
}

async function listed(name: string): Promise<{ certificate: string; address: string }> {
  const answer = await fetch(`${standIns.hub.url}/api/internal/l1-builder/v1/builders`);
  const entry = ((await answer.json()) as ListedNode[]).find((one) => one.name === name)?.orderflow_proxy;
  if (entry?.tls_cert === undefined) throw new Error(`${name} has not registered`);
  return { certificate: entry.tls_cert, address: entry.ecdsa_pubkey_address ?? '' };
}

async function client(): Promise<UserClient> {
  const { certificate } = await listed('vm');
  return createUserClient(`https://localhost:${FORWARDED[443]}`, certificate);
}

/** Up to the moment when a user outside sees that the node is ready. */
async function bootUntilReady(clock?: string): Promise<number> {
  const start = Date.now();
  machine = await startMachine({
    tools: inject('tools'),
    disk: join(inject('image'), 'disk.raw'),
    dataDisk: join(folder, 'data.raw'),
    forwards: { ...FORWARDED, ...Object.fromEntries(CLOSED.map((port) => [port, port + SHIFT])) },
    ...(clock === undefined ? {} : { clock }),
  });
  return start;
}

async function waitUntilReady(start: number): Promise<void> {
  await machine.waitFor(/the node runs/u, HANG_S);
  await eventually(async () => {
    const user = await client();
    try {
      expect(await user.status('/readyz')).toBe(200);
    } finally {
      user.close();
    }
  });
  // An order goes to the peers that are known when it comes, and peers are asked for now and then.
  await eventually(async () => {
    const { host, port } = standIns.node.addresses.metrics!;
    const outside = await (await fetch(`http://${host}:${port}/metrics`)).text();
    for (const text of [outside, await machine.report<string>('get', 'http://127.0.0.1:8090/metrics')])
      expect(text).toMatch(/^orderflow_peers 1$/mu);
  });
  console.log(`ready for orders after ${((Date.now() - start) / 1000).toFixed(1)} s`);
}

/** Sends a user order through 443; it must reach the builder inside, the builder outside, and the archive. */
async function orderComesThrough(order: GeneratedOrder): Promise<void> {
  const user = await client();
  try {
    expect(answerProblem(order, await user.send(order))).toBeNull();
  } finally {
    user.close();
  }
  const digest = hash('sha256', order.canonical);
  await machine.waitFor(new RegExp(`builder-standin: order .* sha256 ${digest}`, 'u'), HANG_S);
  await eventually(async () => {
    expect(standIns.builder.records().map(({ sha256 }) => sha256)).toContain(digest);
  });
  expect(await machine.report<string[]>('archived', '/var/lib/persistent/orderflow-proxy/archive')).toContain(
    digest,
  );
}

/** What a forwarded port says to a request before it is closed or has been silent for a while. */
function answerOf(port: number): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const socket = connect({ host: '127.0.0.1', port });
  let received = '';
  socket.setTimeout(3000, () => resolve(received));
  socket.on('connect', () => socket.write('GET / HTTP/1.0\r\n\r\n'));
  socket.on('data', (chunk) => {
    received += chunk.toString();
  });
  socket.on('close', () => resolve(received));
  socket.on('error', () => resolve(received));
  return promise.finally(() => socket.destroy());
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'image-boot-'));
  makeDataDisk(join(folder, 'data.raw'), 512 * 1024 * 1024);
  standIns = await startStandIns(CONFIGURATION);
  await waitUntilReady(await bootUntilReady());
});

afterAll(async () => {
  await machine?.kill();
  await standIns?.close();
  if (existsSync(folder)) rmSync(folder, { recursive: true, force: true });
});

describe('measurements', () => {
  const expected = (bank: string): Record<string, string> => {
    const all = JSON.parse(readFileSync(join(inject('image'), 'measurements.json'), 'utf8')) as Measurement[];
    const found = all.find(({ measurement_id: id }) => id.endsWith(`-tpm-${bank}`))!;
    return Object.fromEntries(
      Object.entries(found.measurements).map(([index, { expected: value }]) => [index, value]),
    );
  };

  test('B1: the registers of the booted machine are those computed from the outputs', async () => {
    const read = await machine.report<Record<string, Record<string, string>>>('registers');
    for (const bank of BANKS) {
      for (const [index, value] of Object.entries(expected(bank))) {
        console.log(`PCR ${index} ${bank} ${read[bank]![index]}`);
        expect(read[bank]![index], `PCR ${index} ${bank}`).toBe(value);
      }
    }
  });

  test('B2: the event log gives the registers, and its events are the expected ones and no others', async () => {
    const log = readEventLog(Buffer.from(await machine.report<string>('events'), 'base64'));
    const read = await machine.report<Record<string, Record<string, string>>>('registers');
    const image = inject('image');
    const table = readFileSync(join(image, 'disk.raw')).subarray(0, 34 * 512);
    for (const bank of BANKS) {
      for (const [index, value] of Object.entries(replay(log, bank))) {
        if (Number(index) <= 15) expect(value, `PCR ${index} ${bank}`).toBe(read[bank]![index]);
      }
      for (const register of [4, 5, 9, 11, 12, 13]) {
        const digests = log
          .filter((event) => event.register === register && event.type !== 3)
          .map(({ digests: all }) => all[bank]?.toString('hex'));
        const wanted = extensionsOf(readFileSync(join(image, 'uki.efi')), table, bank)
          .filter((one) => one.register === register)
          .map(({ digest }) => digest.toString('hex'));
        expect(digests, `PCR ${register}`).toEqual(wanted);
      }
    }
    console.log(`${log.length} events replayed in ${BANKS.join(' and ')}`);
  });
});

describe('what is open', () => {
  test('every socket is one of the table, of the right user and address (B8)', async () => {
    const users = new Map(servicesOf('devnet').map(({ unit, user }) => [unit, user.uid]));
    const table = servicesOf('devnet').flatMap(({ unit, listens }) =>
      listens.map(
        ({ port, protocol, open }) =>
          `${protocol} ${open === 'all' ? '0.0.0.0' : '127.0.0.1'}:${port} uid ${users.get(unit)}`,
      ),
    );
    const sockets =
      await machine.report<{ protocol: string; address: string; port: number; uid: number }[]>('sockets');
    const found = sockets
      // DHCP's, and the two other addresses of the resolver.
      .filter(({ port, address }) => port !== 68 && !(port === 53 && address !== '127.0.0.53'))
      .map(
        ({ protocol, address, port, uid }) =>
          `${protocol} ${port === 53 ? '127.0.0.1' : address}:${port} uid ${uid}`,
      )
      // Sockets from which it asks, such as chrony's to its server, have ports of their own.
      .filter((line) => !/^udp .*:(?:3[2-9]|[45]\d|60)\d{3} /u.test(line));
    for (const line of found) console.log(line);
    expect([...new Set(found)].sort()).toEqual([...new Set(table)].sort());
  });

  test('no other port answers outside (B8)', async () => {
    const answers = await Promise.all(CLOSED.map(async (port) => [port, await answerOf(port + SHIFT)]));
    console.log(`nothing at ${CLOSED.join(', ')}`);
    expect(answers).toEqual(CLOSED.map((port) => [port, '']));
  });

  test('even root opens no connection that its row does not list (B8)', async () => {
    expect(await machine.report('connect', '10.0.2.2:14892')).toBe('connected');
    expect(await machine.report('connect', '10.0.2.2:5544')).toBe('nothing');
    expect(await machine.report('connect', '10.0.2.2:10443')).toBe('nothing');
  });

  test('80 leads to https, which answers with the certificate that the hub lists', async () => {
    const answer = await fetch(`http://127.0.0.1:${FORWARDED[80]}/`, { redirect: 'manual' });
    expect(answer.status).toBe(301);
    const user = await client();
    expect(await user.status('/livez')).toBe(200);
    user.close();
  });
});

describe('what is closed off', () => {
  test('B9: nothing that can be written can be executed, the root cannot be written', async () => {
    const mounts = (await machine.report<string[]>('hostMounts')).map((line) => line.split(' '));
    const writable = mounts.filter(([, , , options = '']) => options.split(',').includes('rw'));
    const executable = writable.filter(([, , , options = '']) => !options.split(',').includes('noexec'));
    for (const [, where, type, options] of writable) console.log(`${where} ${type} ${options}`);
    expect(executable).toEqual([]);
    expect(mounts.find(([, where]) => where === '/')?.slice(2, 4)).toEqual([
      'erofs',
      expect.stringMatching(/^ro,/u),
    ]);
    expect(await machine.report('writable', '/usr/bin/node')).toMatch(/EROFS|read-only/u);
  });

  test('no kernel module can be loaded, and every kernel setting is as written', async () => {
    expect(await machine.report('sysctl', 'kernel.modules_disabled')).toBe('1');
    for (const [name, value] of sysctls()) expect(await machine.report('sysctl', name), name).toBe(value);
  });

  test('the disk key is nowhere: no environment, no file, no console', async () => {
    const environments = await machine.report<string[]>('environment');
    expect(environments.length).toBeGreaterThan(5);
    expect(environments.join('\n')).not.toContain(DISK_KEY);
    for (const file of ['/run/node/persistent-setup/disk-key', '/run/credentials/persistent-setup.service']) {
      expect(await machine.report('exists', file), file).toBe(false);
    }
    expect(machine.console).not.toContain(DISK_KEY);
    expect(await machine.report('exists', '/.extra')).toBe(false);
  });
});

describe('orders', () => {
  test('one from outside reaches the builder inside, a second node outside, and the archive', async () => {
    await orderComesThrough(orders.next());
  });

  test('one that a peer has taken comes in over 5544 and reaches the builder inside', async () => {
    const { certificate } = await listed('outside');
    const { port } = standIns.node.addresses.user!;
    const user = createUserClient(`https://localhost:${port}`, certificate);
    const order = orders.next();
    expect(answerProblem(order, await user.send(order))).toBeNull();
    user.close();
    await machine.waitFor(
      new RegExp(`builder-standin: order .* sha256 ${hash('sha256', order.canonical)}`, 'u'),
      HANG_S,
    );
  });
});

test('the same disk after a power cut: same identity, orders again; the clock was in 2020 and the hub late', async () => {
  const before = await listed('vm');
  const memory = await machine.report<string>('memory');
  console.log(memory.split('\n').slice(0, 3).join(', '));
  await machine.kill();
  await standIns.close();
  const start = await bootUntilReady('2020-01-01T00:00:00');
  await machine.waitFor(/chronyd version/u, HANG_S);
  standIns = await startStandIns(CONFIGURATION);
  await waitUntilReady(start);
  expect(machine.console).toContain('data disk: unlocked');
  // The configuration step waited for the clock.
  const console_ = machine.console;
  expect(console_.search(/System clock was stepped|Selected source/u)).toBeLessThan(
    console_.indexOf('configuration: '),
  );
  expect(await listed('vm')).toEqual(before);
  // It was years off; minutes leave room for a machine that stands still for a while.
  expect(Math.abs((await machine.report<number>('clock')) - Date.now())).toBeLessThan(600_000);
  await orderComesThrough(orders.next());
});

test('another key from the hub: the disk is not opened, nothing that keeps state starts', async () => {
  await machine.kill();
  await standIns.configure({ ...CONFIGURATION, disk_encryption: { key: randomBytes(32).toString('hex') } });
  await bootUntilReady();
  await machine.waitFor(/data disk: Command failed/u, HANG_S);
  for (const unit of ['var-lib-persistent.mount', 'orderflow-proxy.service', 'haproxy.service']) {
    expect(await machine.report<string>('unit', unit), unit).toContain('ActiveState=inactive');
  }
  expect(await machine.report('exists', '/var/lib/persistent/orderflow-proxy')).toBe(false);
});
