/**
 * Tells the tests what a development machine looks like from inside. It is asked over a virtio port that the test's
 * QEMU has: each line that comes in names a report, one line of JSON goes back. Images that hold keys do not have it.
 */
import { execFile } from 'node:child_process';
import { hash } from 'node:crypto';
import {
  createReadStream,
  existsSync,
  globSync,
  lstatSync,
  openSync,
  readFileSync,
  readlinkSync,
  writeSync,
} from 'node:fs';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { readArchivedOrders } from '../../devnet/archive-reader.ts';

const PORT = '/dev/virtio-ports/report';
const CONNECT_MS = 3000;
const run = promisify(execFile);

const text = (file: string): string => readFileSync(file, 'latin1').trim();

/** What cannot be read is said, not left out. */
function attempt(read: () => unknown): unknown {
  try {
    return read();
  } catch (error) {
    return `error: ${error instanceof Error ? error.message : String(error)}`;
  }
}

async function outputOf(command: string, ...args: string[]): Promise<string> {
  const { stdout } = await run(command, args, { maxBuffer: 1 << 24 }).catch((error: { stdout?: string }) => ({
    stdout: error.stdout ?? '',
  }));
  return stdout;
}

/** `/proc/net/tcp`: sockets that listen (state 0A) or, for UDP, that are bound (07). */
function sockets(): { protocol: string; address: string; port: number; uid: number }[] {
  return ['tcp', 'udp'].flatMap((protocol) =>
    text(`/proc/net/${protocol}`)
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/\s+/u))
      .filter(([, , , state]) => state === (protocol === 'tcp' ? '0A' : '07'))
      .map(([, local = '', , , , , , uid]) => {
        const [hex = '', port = ''] = local.split(':');
        const address = [...Buffer.from(hex, 'hex')].toReversed().join('.');
        return { protocol, address, port: Number.parseInt(port, 16), uid: Number(uid) };
      }),
  );
}

function processes(): { pid: number; uid: number; program: string; arguments: string }[] {
  return globSync('/proc/[0-9]*').flatMap((folder) => {
    const found = attempt(() => ({
      pid: Number(folder.slice('/proc/'.length)),
      uid: Number(/^Uid:\s+(\d+)/mu.exec(text(`${folder}/status`))?.[1]),
      program: readlinkSync(`${folder}/exe`),
      arguments: text(`${folder}/cmdline`).replaceAll('\0', ' '),
    }));
    // Threads of the kernel have no program.
    return typeof found === 'string' ? [] : [found as ReturnType<typeof processes>[number]];
  });
}

/** What a connection to HOST:PORT comes to; a firewall that drops is seen by the time that passes. */
async function connects(place: string): Promise<string> {
  const [host = '', port = ''] = place.split(':');
  const { promise, resolve } = Promise.withResolvers<string>();
  const socket = connect({ host, port: Number(port) });
  socket.setTimeout(CONNECT_MS, () => resolve('nothing'));
  socket.once('connect', () => resolve('connected'));
  socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'error'));
  return promise.finally(() => socket.destroy());
}

/** The same for users and places, `UID,…;HOST:PORT,…`, all at once. @returns what came of each, by user and place */
async function connectsAs(argument: string): Promise<Record<string, Record<string, string>>> {
  const [users = '', places = ''] = argument.split(';');
  const tried: Promise<readonly [string, Record<string, string>]>[] = [];
  for (const uid of users.split(',')) {
    process.seteuid?.(Number(uid));
    const found = places.split(',').map(async (place) => [place, await connects(place)] as const);
    // A socket belongs to whoever opens it, and that is a tick later.
    await new Promise((resolve) => setImmediate(resolve));
    process.seteuid?.(0);
    tried.push(Promise.all(found).then((entries) => [uid, Object.fromEntries(entries)] as const));
  }
  return Object.fromEntries(await Promise.all(tried));
}

const REPORTS: Readonly<Record<string, (argument: string) => unknown>> = {
  registers: () =>
    Object.fromEntries(
      ['sha256', 'sha384'].map((bank) => [
        bank,
        Object.fromEntries(
          Array.from({ length: 24 }, (_, index) => [
            index,
            text(`/sys/class/tpm/tpm0/pcr-${bank}/${index}`).toLowerCase(),
          ]),
        ),
      ]),
    ),
  events: () => readFileSync('/sys/kernel/security/tpm0/binary_bios_measurements').toString('base64'),
  commandLine: () => text('/proc/cmdline'),
  sockets,
  processes,
  mounts: () => text('/proc/self/mountinfo').split('\n'),
  hostMounts: () => text('/proc/1/mounts').split('\n'),
  modules: () =>
    text('/proc/modules')
      .split('\n')
      .map((line) => line.split(' ')[0]),
  read: (file) => attempt(() => text(file)),
  modes: (pattern) =>
    globSync(pattern).flatMap((path) => {
      const found = lstatSync(path, { throwIfNoEntry: false });
      // It may be gone by now.
      return found === undefined ? [] : [{ path, mode: found.mode.toString(8), uid: found.uid }];
    }),
  // What it says of itself at its start, a field of its files (sd-messages(3), SD_MESSAGE_JOURNAL_USAGE).
  journalLimits: () => [
    ...new Set(
      globSync('/run/log/journal/*/*.journal').flatMap((file) =>
        [...text(file).matchAll(/\bMAX_USE=(\d+)/gu)].map(([, bytes]) => Number(bytes)),
      ),
    ),
  ],
  // As the first program sees it: from a unit the credentials of others are hidden.
  exists: (file) => existsSync(`/proc/1/root${file}`),
  writable: (file) => attempt(() => openSync(file, 'w')),
  sysctl: (name) => attempt(() => text(`/proc/sys/${name.replaceAll('.', '/')}`)),
  environment: () => globSync('/proc/[0-9]*/environ').map((file) => attempt(() => text(file))),
  unit: (name) =>
    outputOf(
      '/usr/bin/systemctl',
      'show',
      '--no-pager',
      '-p',
      'ActiveState,SubState,Result,NRestarts,MainPID',
      name,
    ),
  times: () =>
    outputOf(
      '/usr/bin/systemctl',
      'show',
      '--no-pager',
      '-p',
      'Id,ExecMainStartTimestampMonotonic,ActiveEnterTimestampMonotonic',
      '*.service',
    ),
  connect: (place) => connects(place),
  connectAs: (argument) => connectsAs(argument),
  get: async (url) => (await fetch(url)).text(),
  memory: () => text('/proc/meminfo'),
  archived: async (folder) => (await readArchivedOrders(folder)).map((order) => hash('sha256', order)),
  clock: () => Date.now(),
  hostname: () => text('/proc/sys/kernel/hostname'),
  restart: (unit) => outputOf('/usr/bin/systemctl', 'restart', unit),
  poweroff: () => outputOf('/usr/bin/systemctl', 'poweroff'),
};

// The port can be opened once only.
const port = openSync(PORT, 'r+');

function say(report: Readonly<Record<string, unknown>>): void {
  const bytes = Buffer.from(`${JSON.stringify(report)}\n`);
  for (let done = 0; done < bytes.length; ) done += writeSync(port, bytes, done);
}

say({ listening: true });
for await (const line of createInterface({ input: createReadStream('', { fd: port }) })) {
  const [name = '', argument = ''] = line.split(' ', 2);
  const report = REPORTS[name];
  const value =
    report === undefined
      ? `error: no report ${name}`
      : await Promise.resolve()
          .then(() => report(argument))
          .catch((error: unknown) => `error: ${String(error)}`);
  say({ [name]: value });
}
