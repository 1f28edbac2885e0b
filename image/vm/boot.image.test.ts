/**
 * A booted development image: what it measured, what it lets in and out, what it does with orders; and again with the
 * same disk after a power cut, where the clock, the hub and the key are wrong at first.
 */

import { hash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { createUserClient } from '../../devnet/client.ts';
import { answerProblem } from '../../devnet/once.ts';
import { createOrderSource } from '../../devnet/orders.ts';
import { sysctls } from '../build/settings.ts';
import { readEventLog, replay, runtimeRegisters } from '../measure/event-log.ts';
import type { Measurement } from '../measure/measurements.ts';
import { BANKS, extensionsOf } from '../measure/registers.ts';
import { servicesOf } from '../services.ts';
import { type Broker, startBroker } from '../testing/broker.ts';
import { answerOf, BOOTED, eventually, HANG_S, outputOf, type ProgramEnd, World } from '../testing/world.ts';
import { FORWARDED, onThisSide } from './stand-ins.ts';

const DISK_KEY = randomBytes(32).toString('hex');
const CONFIGURATION = {
  instance_name: 'vm',
  disk_encryption: { key: DISK_KEY },
  flowproxy: { builder_region: 'nowhere "$`\\ & here' },
};
const CHANGED = {
  ...CONFIGURATION,
  flowproxy: {
    builder_region: 'elsewhere',
    cert_hosts: ['localhost', '127.0.0.1', '10.0.2.2', 'renamed.example'],
  },
};
/** Guest ports that must not answer. */
const CLOSED = [22, 5542, 5543, 7937, 8090, 8405, 8645, 9100, 14_727, 40_192];
const FORWARDS = {
  ...FORWARDED,
  ...Object.fromEntries(CLOSED.map((port) => [port, onThisSide(port)])),
};

/** By which a host hands things to systemd. */
const CREDENTIALS = [
  '-smbios',
  'type=11,value=io.systemd.credential:passwd.hashed-password.root=',
  '-fw_cfg',
  'name=opt/io.systemd.credentials/tmpfiles.extra,string=f /run/said 0644 root root -',
];
/** This machine, as the booted one sees it. */
const HOST = '10.0.2.2';

let world: World;
let broker: Broker;
const orders = createOrderSource({ seed: 'image' });

/** The configuration with the broker outside. */
function withBroker<T extends { readonly flowproxy: object }>(configuration: T) {
  return { ...configuration, flowproxy: { ...configuration.flowproxy, kafka: broker.configuration } };
}

/** Of a file, a folder (4…) or a link (12…). */
interface Mode {
  readonly path: string;
  /** Octal. */
  readonly mode: string;
  readonly uid: number;
}

interface Socket {
  readonly protocol: string;
  readonly address: string;
  readonly port: number;
  readonly uid: number;
}

/** Listening sockets as lines, but for DHCP's and the two other addresses of the resolver. */
function socketLines(sockets: readonly Socket[]): string[] {
  const lines = sockets
    .filter(({ port, address }) => port !== 68 && !(port === 53 && address !== '127.0.0.53'))
    .map(
      ({ protocol, address, port, uid }) =>
        `${protocol} ${port === 53 ? '127.0.0.1' : address}:${port} uid ${uid}`,
    )
    // Sockets from which it asks, such as chrony's to its server, have ports of their own.
    .filter((line) => !/^udp .*:(?:3[2-9]|[45]\d|60)\d{3} /u.test(line));
  return [...new Set(lines)].sort();
}

/** What the node was told of where it is. */
async function regionOf(): Promise<string | undefined> {
  const environments = await world.machine.report<string[]>('environment');
  return environments
    .map((one) => /(?:^|\0)REGION=([^\0]*)/u.exec(one)?.[1])
    .find((one) => one !== undefined);
}

/** The operator's action; a busy machine may not reach the hub in time, and an operator asks again. */
async function fetchConfiguration(): Promise<void> {
  await eventually(async () => {
    expect((await world.operator('/api/v1/actions/fetch_config')).status).toBe(200);
  });
}

/** What anyone gets over 7936 who asks for this measurement. */
function provenCertificate(entries: readonly Measurement[]): Promise<ProgramEnd> {
  const policy = join(world.folder, 'policy.json');
  const root = join(world.folder, 'root.pem');
  writeFileSync(root, world.standIns.quotes.rootPem);
  writeFileSync(policy, JSON.stringify(entries));
  const url = `https://127.0.0.1:${FORWARDED[7936]}/cert`;
  const collateral = ['--pccs-url', world.standIns.quotes.collateral.url, '--dev-mock-root', root];
  const options = ['--policy', policy, ...collateral, '--timeout-ms', String(HANG_S * 1000)];
  return outputOf('attested/get-main.ts', [url, ...options]);
}

/** The measurement that the image must show. */
function ownMeasurement(): Measurement[] {
  const all = JSON.parse(readFileSync(join(inject('image'), 'measurements.json'), 'utf8')) as Measurement[];
  return all.filter(({ measurement_id: id }) => id.endsWith('-tdx-page'));
}

/** Waits until the topic outside has the order below a checkpoint of the node that the hub lists, and all of it is well. */
async function shipped(digest: string): Promise<void> {
  const node = (await world.listed('vm')).address.toLowerCase();
  const topic = await eventually(async () => {
    const found = await broker.read();
    if (found.problems.length === 0) expect(found.signed.get(node)).toContain(digest);
    return found;
  });
  console.log(`topic: ${topic.summary}`);
  expect(topic.problems).toEqual([]);
}

beforeAll(async () => {
  broker = await startBroker();
  const configuration = withBroker(CONFIGURATION);
  world = new World({ tools: inject('tools'), image: inject('image'), configuration });
  await world.open();
  await world.boot({ forwards: FORWARDS });
  await world.ready();
});

afterAll(async () => {
  await world?.close();
  await broker?.close();
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
    const read = await world.machine.report<Record<string, Record<string, string>>>('registers');
    for (const bank of BANKS) {
      for (const [index, value] of Object.entries(expected(bank))) {
        console.log(`PCR ${index} ${bank} ${read[bank]![index]}`);
        expect(read[bank]![index], `PCR ${index} ${bank}`).toBe(value);
      }
    }
  });

  test('B2: the event log gives the registers, and its events are the expected ones and no others', async () => {
    const log = readEventLog(Buffer.from(await world.machine.report<string>('events'), 'base64'));
    const read = await world.machine.report<Record<string, Record<string, string>>>('registers');
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

  test('B3: RTMR1 and RTMR2 of that log are those computed from the outputs', async () => {
    const log = readEventLog(Buffer.from(await world.machine.report<string>('events'), 'base64'));
    const { rtmr1, rtmr2 } = runtimeRegisters(log);
    console.log(`RTMR1 ${rtmr1}\nRTMR2 ${rtmr2}`);
    console.log('MRTD, of the firmware alone, not compared with hardware here:');
    const all = JSON.parse(readFileSync(join(inject('image'), 'measurements.json'), 'utf8')) as Measurement[];
    const { measurements } = all.find(({ measurement_id: id }) => id.endsWith('-tdx-page'))!;
    expect([measurements['2']?.expected, measurements['3']?.expected]).toEqual([rtmr1, rtmr2]);
    for (const { measurement_id: id, measurements: tdx } of all.filter(({ attestation_type: type }) =>
      type.endsWith('tdx'),
    ))
      console.log(`${id} ${tdx['0']?.expected}`);
  });
});

describe('what is open', () => {
  test('every socket is one of the table, of the right user and address (B8)', async () => {
    const table = servicesOf('devnet').flatMap(({ user, listens }) =>
      listens.map(
        ({ port, protocol, open }) =>
          `${protocol} ${open === 'all' ? '0.0.0.0' : '127.0.0.1'}:${port} uid ${user.uid}`,
      ),
    );
    // The last of them open when the boot is through.
    const found = await eventually(async () => {
      const lines = socketLines(await world.machine.report<Socket[]>('sockets'));
      expect(lines).toEqual([...new Set(table)].sort());
      return lines;
    });
    for (const line of found) console.log(line);
  });

  test('no other port answers outside (B8)', async () => {
    const answers = await Promise.all(CLOSED.map(async (port) => [port, await answerOf(onThisSide(port))]));
    console.log(`nothing at ${CLOSED.join(', ')}`);
    expect(answers).toEqual(CLOSED.map((port) => [port, '']));
  });

  test('a connection opens for the user whose row lists it and for nobody else, root included (B8)', async () => {
    // Each is there for some user: the hub, a peer, the hardware that quotes, a broker; but for the hub's own window.
    const ports = [443, 5544, 8081, 9093, 14_892];
    const services = servicesOf('devnet');
    const users = new Map(
      [...services.map(({ user }) => user), { name: 'nobody', uid: 65_534 }].map(({ name, uid }) => [
        uid,
        name,
      ]),
    );
    const listed = (uid: number, port: number): boolean =>
      services.some(
        ({ user, calls }) =>
          user.uid === uid &&
          calls.some(
            (call) => call.protocol === 'tcp' && call.port === port && (call.address ?? HOST) === HOST,
          ),
      );
    const places = ports.map((port) => `${HOST}:${port}`);
    const question = `${[...users.keys()].join(',')};${places.join(',')}`;
    const opened = new Set<string>();
    await eventually(async () => {
      const found = await world.machine.report<Record<string, Record<string, string>>>('connectAs', question);
      const closed: string[] = [];
      for (const [uid, name] of users) {
        for (const port of ports) {
          const came = found[uid]?.[`${HOST}:${port}`];
          if (!listed(uid, port) && came !== 'nothing') opened.add(`${name} ${port} ${came}`);
          if (listed(uid, port) && came !== 'connected') closed.push(`${name} ${port} ${came}`);
        }
      }
      // A busy machine may be late with what it lets through, never with what it does not.
      expect(closed).toEqual([]);
    });
    for (const [uid, name] of users)
      console.log(`${name}: ${ports.filter((port) => listed(uid, port)).join(', ') || 'nothing'}`);
    expect([...opened]).toEqual([]);
    expect(await world.machine.report('connect', '127.0.0.1:7937')).toBe('connected');
  });

  test('80 leads to https, which answers with the certificate that the hub lists', async () => {
    const answer = await fetch(`http://127.0.0.1:${FORWARDED[80]}/`, { redirect: 'manual' });
    expect(answer.status).toBe(301);
    const user = await world.client();
    expect(await user.status('/livez')).toBe(200);
    user.close();
  });
});

describe('what is closed off', () => {
  test('B9: nothing that can be written can be executed, the root cannot be written', async () => {
    const mounts = (await world.machine.report<string[]>('hostMounts')).map((line) => line.split(' '));
    const writable = mounts.filter(([, , , options = '']) => options.split(',').includes('rw'));
    const executable = writable.filter(([, , , options = '']) => !options.split(',').includes('noexec'));
    for (const [, where, type, options] of writable) console.log(`${where} ${type} ${options}`);
    expect(executable).toEqual([]);
    expect(mounts.find(([, where]) => where === '/')?.slice(2, 4)).toEqual([
      'erofs',
      expect.stringMatching(/^ro,/u),
    ]);
    const refusal = await world.machine.report<string>('writable', '/usr/bin/node');
    console.log(refusal);
    expect(refusal).toMatch(/EROFS|read-only/u);
  });

  test('no kernel module can be loaded, and every kernel setting is as written', async () => {
    expect(await world.machine.report('sysctl', 'kernel.modules_disabled')).toBe('1');
    for (const [name, value] of sysctls()) {
      const found = await world.machine.report<string>('sysctl', name);
      console.log(`${name} = ${found}`);
      expect(found, name).toBe(value);
    }
  });

  test('the journal is in memory, and as large as it may be', async () => {
    expect(await world.machine.report('journalLimits')).toEqual([64 * 1024 * 1024]);
    expect(await world.machine.report('exists', '/var/log/journal')).toBe(false);
  });

  test('disk key and key for the brokers are nowhere: no environment, no file, no console', async () => {
    const environments = await world.machine.report<string[]>('environment');
    expect(environments.length).toBeGreaterThan(5);
    expect(environments.join('\n')).not.toContain(DISK_KEY);
    // Any line of it.
    const [, line = ''] = String(broker.configuration.client_key).split('\n');
    expect(line).toMatch(/^[\w+/=]{40,}$/u);
    expect(environments.join('\n')).not.toContain(line);
    expect(world.machine.console).not.toContain(line);
    expect(await world.machine.report('exists', '/run/credentials/haproxy.service')).toBe(true);
    for (const file of ['/run/node/persistent-setup/disk-key', '/run/credentials/persistent-setup.service']) {
      expect(await world.machine.report('exists', file), file).toBe(false);
    }
    expect(world.machine.console).not.toContain(DISK_KEY);
    expect(await world.machine.report('exists', '/.extra')).toBe(false);
  });

  test('the node runs on the libsecp256k1 that is compiled for the image', async () => {
    const processes = await world.machine.report<{ pid: number; arguments: string }[]>('processes');
    const node = processes.find(({ arguments: line }) => line.includes(' /usr/lib/orderflow/main.js'))!;
    const maps = await world.machine.report<string>('read', `/proc/${node.pid}/maps`);
    const addons = new Set(maps.match(/\/\S+\.node$/gmu));
    console.log([...addons].join(', '));
    expect([...addons]).toEqual(['/usr/lib/orderflow/identity/native/secp256k1.node']);
  });

  test('what root runs, and where it looks for more, only root can write', async () => {
    type Process = { uid: number; program: string; arguments: string };
    const processes = await world.machine.report<Process[]>('processes');
    const words = processes
      .filter(({ uid }) => uid === 0)
      .flatMap((one) => [one.program, ...one.arguments.split(' ')]);
    const files = new Set(words.filter((word) => word.startsWith('/')));
    for (const file of files) if (dirname(file) !== file) files.add(dirname(file));
    const folders = [
      '/run/systemd/{system,transient,generator*,system.*}/**',
      '/run/{udev/rules.d,sysctl.d,tmpfiles.d,node}',
      '/etc/**',
      '/usr/lib/systemd/**',
    ];
    const found: Mode[] = [];
    for (const pattern of [...files, ...folders])
      found.push(...(await world.machine.report<Mode[]>('modes', pattern)));
    console.log(`${files.size} files and folders of what root runs, ${found.length} in all`);
    expect(files).toContain('/usr/lib/systemd/systemd');
    const others = found.filter(
      ({ mode, uid }) => uid !== 0 || (!mode.startsWith('12') && (Number.parseInt(mode, 8) & 0o022) !== 0),
    );
    expect(others).toEqual([]);
  });

  test('what the hub said is readable by root alone', async () => {
    const rendered = await world.machine.report<Mode[]>('modes', '/run/node/**/*');
    const files = rendered.filter(({ mode }) => mode.startsWith('10'));
    for (const { path, mode, uid } of rendered) console.log(`${mode} ${uid} ${path}`);
    expect(files.length).toBeGreaterThan(5);
    expect(files.filter(({ mode, uid }) => mode !== '100400' || uid !== 0)).toEqual([]);
    expect(rendered.filter(({ mode }) => mode.startsWith('4') && mode !== '40700')).toEqual([]);
  });
});

describe('orders', () => {
  test('one from outside reaches the builder inside, a second node outside, and the archive with its topic', async () => {
    await shipped(await world.orderComesThrough(orders));
  });

  test('one that a peer has taken comes in over 5544 and reaches the builder inside', async () => {
    const { certificate } = await world.listed('outside');
    const { port } = world.standIns.node.addresses.user!;
    await eventually(async () => {
      const user = createUserClient(`https://localhost:${port}`, certificate);
      const order = orders.next();
      try {
        expect(answerProblem(order, await user.send(order))).toBeNull();
      } finally {
        user.close();
      }
      await world.takenInside(hash('sha256', order.canonical), 60);
    });
  });
});

test('anyone gets the certificate over 7936, with a proof of the image that gave it out', async () => {
  const ours = ownMeasurement();
  const proven = await eventually(async () => {
    const end = await provenCertificate(ours);
    expect(end).toMatchObject({ status: 0 });
    return end;
  });
  console.log(proven.errors.trim());
  expect(proven.output.trim()).toBe((await world.listed('vm')).certificate.trim());
  const other = ours.map((entry) => ({
    ...entry,
    measurements: { ...entry.measurements, 3: { expected: '00'.repeat(48) } },
  }));
  await eventually(async () =>
    expect(await provenCertificate(other)).toMatchObject({ status: 1, output: '' }),
  );
});

test('the operator sees the boot, gets in with a password alone, and has only the listed actions', async () => {
  expect((await world.stranger('/livez')).status).toBe(200);
  expect((await world.stranger('/api/v1/events')).status).not.toBe(200);
  const text = await world.logged(...BOOTED);
  console.log(text.trim());
  expect(text).not.toContain(DISK_KEY);
  expect((await world.operator('/api/v1/actions/ssh_start')).status).toBe(400);
  // The action ends with the restart, whose first sign is another process.
  const before = await world.machine.report<string>('unit', 'haproxy.service');
  // The API of before the configuration has no actions yet.
  await eventually(async () =>
    expect((await world.operator('/api/v1/actions/haproxy_restart')).status).toBe(200),
  );
  const after = await world.machine.report<string>('unit', 'haproxy.service');
  expect(before).toContain('ActiveState=active');
  expect(after).toContain('ActiveState=active');
  const pid = /^MainPID=(\d+)$/mu;
  expect(pid.exec(after)?.[1]).not.toBe(pid.exec(before)?.[1]);
  // A disk that is open is not wiped, whatever the operator names.
  expect((await world.operator('/api/v1/file-upload/disk_wipe', 'persistent')).status).toBe(200);
  expect((await world.operator('/api/v1/actions/disk_wipe')).status).toBe(500);
  await world.logged('disk_wipe: refused: the data disk is open');
});

test('keys are readable by their service alone; the operator API keeps its own, and the password, in RAM', async () => {
  const modes = (pattern: string) => world.machine.report<Mode[]>('modes', pattern);
  const uidOf = (unit: string) => servicesOf('devnet').find((one) => one.unit === unit)?.user.uid;
  const window = await modes('/run/operator-api/*');
  const kept = await modes('/var/lib/persistent/**');
  for (const { mode, uid, path } of [...window, ...kept]) console.log(`${mode} ${uid} ${path}`);
  for (const name of ['run-key.pem', 'run-password'])
    expect(window).toContainEqual({
      path: `/run/operator-api/${name}`,
      mode: '100600',
      uid: uidOf('operator-api.service'),
    });
  // The disk holds the node's files and nobody else's: the attested server has its key in its memory.
  const ofNode = kept.filter(({ path }) => path.startsWith('/var/lib/persistent/orderflow-proxy/'));
  expect(ofNode.filter(({ mode }) => (Number.parseInt(mode, 8) & 0o077) !== 0)).toEqual([]);
  expect(new Set(ofNode.map(({ uid }) => uid))).toEqual(new Set([uidOf('orderflow-proxy.service')]));
  expect(ofNode.map(({ path }) => path)).toContain('/var/lib/persistent/orderflow-proxy/tls.pem');
  const others = kept.filter((entry) => !ofNode.includes(entry)).map(({ path }) => path);
  expect(others.sort()).toEqual([
    '/var/lib/persistent',
    '/var/lib/persistent/lost+found',
    '/var/lib/persistent/orderflow-proxy',
  ]);
});

test('fetch_config: what the hub says now is in force, up to the certificate that is served', async () => {
  const pid = async (unit: string) =>
    /^MainPID=(\d+)$/mu.exec(await world.machine.report<string>('unit', unit))?.[1];
  const before = { chrony: await pid('chrony.service'), listed: await world.listed('vm') };
  expect(await regionOf()).toBe(CONFIGURATION.flowproxy.builder_region);
  await world.configure(withBroker(CHANGED));
  await fetchConfiguration();
  await eventually(async () => expect(await regionOf()).toBe('elsewhere'));
  // The new name needs a new certificate: the hub lists it, and 443 serves it.
  await eventually(async () =>
    expect((await world.listed('vm')).certificate).not.toBe(before.listed.certificate),
  );
  await world.ready();
  // So does the attested server.
  const { certificate } = await world.listed('vm');
  await eventually(async () =>
    expect((await provenCertificate(ownMeasurement())).output.trim()).toBe(certificate.trim()),
  );
  // Only what reads the change was restarted, and the disk's key is not written again.
  expect(await pid('chrony.service')).toBe(before.chrony);
  expect(await world.machine.report('exists', '/run/node/persistent-setup/disk-key')).toBe(false);
  // A configuration that cannot be is refused whole, and the action says so.
  await world.configure({ ...withBroker(CHANGED), disk_encryption: { key: '' } });
  expect((await world.operator('/api/v1/actions/fetch_config')).status).toBe(500);
  expect(await regionOf()).toBe('elsewhere');
  await world.configure(withBroker(CHANGED));
});

test('after a power cut, a wrong clock, a late hub and a wrong key: as before, once the key is right', async () => {
  const before = await world.listed('vm');
  const memory = await world.machine.report<string>('memory');
  console.log(memory.split('\n').slice(0, 3).join(', '));
  await world.machine.kill();
  await world.shut();
  await world.boot({ clock: '2020-01-01T00:00:00', extra: CREDENTIALS });
  // Nothing is outside yet: the operator sees the boot, and has no action that could be misused.
  expect((await world.operator('/api/v1/actions/reboot')).status).toBe(400);
  await world.configure({
    ...withBroker(CHANGED),
    disk_encryption: { key: randomBytes(32).toString('hex') },
  });
  await world.open();

  await world.machine.waitFor(/data disk: Command failed/u, HANG_S);
  // What the host says behind the firmware's back is not measured, and not taken (B6).
  expect(await world.machine.report('exists', '/run/credentials/@system')).toBe(false);
  const console_ = world.machine.console;
  // The configuration step waited for the clock.
  const right = console_.indexOf('time: the clock is right');
  expect(right).toBeGreaterThan(0);
  expect(right).toBeLessThan(console_.search(/configuration: \d+ files written/u));
  // Nothing that keeps state starts without the disk.
  for (const unit of ['var-lib-persistent.mount', 'orderflow-proxy.service', 'haproxy.service']) {
    expect(await world.machine.report<string>('unit', unit), unit).toContain('ActiveState=inactive');
  }
  expect(await world.machine.report('exists', '/var/lib/persistent/orderflow-proxy')).toBe(false);
  // The operator sees why, and what the hub says then is taken without a reboot.
  await world.logged('boot disk failed');
  await world.configure(withBroker(CHANGED));
  await fetchConfiguration();
  await world.machine.waitFor(/data disk: unlocked/u, HANG_S);
  await world.ready();
  expect(await world.listed('vm')).toEqual(before);
  // It was years off; minutes leave room for a machine that stands still for a while.
  expect(Math.abs((await world.machine.report<number>('clock')) - Date.now())).toBeLessThan(600_000);
  // The topic goes on where the power cut left it.
  await shipped(await world.orderComesThrough(orders));
});
