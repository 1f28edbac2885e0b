/**
 * A virtual machine with firmware and a software TPM, run by QEMU of the locked tools tree. It has QEMU's user
 * network only: it reaches this machine at 10.0.2.2, and what is forwarded to it. Started inside a network namespace
 * that has no more than loopback, it reaches nothing else.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { runTool, sandboxed } from '../build/sandbox.ts';

export interface MachineOptions {
  /** Root of the tools tree. */
  readonly tools: string;
  /** The image's disk; changes of the machine are thrown away with it. */
  readonly disk: string;
  /** The data disk, kept. */
  readonly dataDisk?: string;
  /** Where on the data disk every write fails, in bytes; nowhere when absent. */
  readonly failsAt?: number;
  /** Port of this machine by port of the guest, TCP. */
  readonly forwards?: Readonly<Record<number, number>>;
  /** TCP port of this machine by `ADDRESS:PORT` that the guest calls, in 10.0.2.0/24. */
  readonly outside?: Readonly<Record<string, number>>;
  /** MiB. */
  readonly memory?: number;
  /** ISO time at which the machine's clock starts; now when absent. */
  readonly clock?: string;
  /** Further arguments of QEMU. */
  readonly extra?: readonly string[];
}

/** Text of a running machine's console and how to end it. */
export interface Machine {
  /** What it has written to its serial port so far. */
  readonly console: string;
  /** Resolves with the first match; rejects when the machine ends before, or after `seconds`. */
  waitFor(pattern: RegExp, seconds: number): Promise<RegExpExecArray>;
  /** Resolves when the machine has ended by itself; rejects after `seconds`. */
  waitForEnd(seconds: number): Promise<void>;
  /** Asks the report of a development image. */
  report<T>(name: string, argument?: string): Promise<T>;
  /** Ends it as if the power failed. */
  kill(): Promise<void>;
}

/**
 * One processor: with two, an idle one sometimes misses its timer under emulation and the machine stands still.
 * Without string instructions by the byte: emulation takes every byte of them alone, and kernel and libc prefer them.
 */
const CPU = 'max,-la57,-erms,-fsrm';

/** Starts the machine; returns as soon as QEMU runs. */
export async function startMachine(options: MachineOptions): Promise<Machine> {
  const { tools } = options;
  const folder = mkdtempSync(join(tmpdir(), 'image-vm-'));
  mkdirSync(join(folder, 'tpm'));
  const child = spawn('unshare', command(options, folder), { stdio: ['ignore', 'pipe', 'pipe'] });
  // It must not outlive who started it.
  const end = (): boolean => child.kill('SIGKILL');
  process.once('exit', end);
  child.once('close', () => process.off('exit', end));
  await prepareTpm(tools, folder);
  copyFileSync(join(tools, 'usr/share/OVMF/OVMF_VARS_4M.fd'), join(folder, 'vars.fd'));
  return new RunningMachine(child, folder);
}

function prepareTpm(tools: string, folder: string): Promise<string> {
  return runTool(
    ['swtpm_setup', '--tpm2', '--tpmstate', '/work/tpm', '--pcr-banks', 'sha256,sha384', '--overwrite'],
    { tools, mounts: { '/work': folder } },
  );
}

function dataFile({ failsAt }: MachineOptions): string {
  if (failsAt === undefined) return 'file.driver=file,file.filename=/store/data.raw';
  const rule = { event: 'none', iotype: 'write', sector: failsAt / 512, errno: 5, once: 'off' };
  return [
    'file.driver=blkdebug',
    'file.image.driver=file',
    'file.image.filename=/store/data.raw',
    ...Object.entries(rule).map(([key, value]) => `file.inject-error.0.${key}=${value}`),
  ].join(',');
}

function command(options: MachineOptions, folder: string): string[] {
  const { tools, disk, dataDisk, forwards = {}, outside = {}, memory = 1024, clock, extra = [] } = options;
  const net = ['user', 'id=net'];
  for (const [guest, host] of Object.entries(forwards)) net.push(`hostfwd=tcp:127.0.0.1:${host}-:${guest}`);
  for (const [place, host] of Object.entries(outside))
    net.push(`guestfwd=tcp:${place}-cmd:/usr/bin/busybox nc 127.0.0.1 ${host}`);
  const arguments_ = [
    'qemu-system-x86_64',
    '-accel',
    'tcg,thread=multi',
    '-M',
    'q35',
    '-cpu',
    CPU,
    '-m',
    String(memory),
    '-nodefaults',
    '-display',
    'none',
    '-no-reboot',
    '-drive',
    'if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd',
    '-drive',
    'if=pflash,unit=1,format=raw,file=/work/vars.fd',
    '-chardev',
    'socket,id=tpm,path=/work/tpm.sock',
    '-tpmdev',
    'emulator,id=tpm,chardev=tpm',
    '-device',
    'tpm-crb,tpmdev=tpm',
    '-device',
    'virtio-rng-pci',
    '-drive',
    'if=none,id=image,format=raw,snapshot=on,file=/work2/disk.raw',
    '-device',
    'virtio-blk-pci,drive=image,bootindex=1',
    '-netdev',
    net.join(','),
    '-device',
    'virtio-net-pci,netdev=net,romfile=',
    '-serial',
    'file:/work/console',
    '-device',
    'virtio-serial-pci',
    '-chardev',
    'socket,id=report,path=/work/report.sock,server=on,wait=off',
    '-device',
    'virtserialport,chardev=report,name=report',
    ...(clock === undefined ? [] : ['-rtc', `base=${clock}`]),
    ...(dataDisk === undefined
      ? []
      : [
          '-drive',
          `if=none,id=data,cache=writethrough,driver=raw,${dataFile(options)}`,
          '-device',
          'virtio-blk-pci,drive=data,serial=persistent',
        ]),
    ...extra,
  ];
  // Both programs share one namespace of processes: neither outlives the other.
  const script = `
swtpm socket --tpm2 --tpmstate dir=/work/tpm --ctrl type=unixio,path=/work/tpm.sock --flags startup-clear --daemon
exec "$@"`;
  const mounts: Record<string, string> = { '/work': folder, '/work2': join(disk, '..') };
  if (dataDisk !== undefined) mounts['/store'] = join(dataDisk, '..');
  const wait = ['sh', '-c', `while [ ! -e /work/vars.fd ]; do sleep 0.05; done; ${script}`, 'sh'];
  return sandboxed([...wait, ...arguments_], { tools, mounts, network: true });
}

interface Report {
  readonly socket: Socket;
  readonly answers: AsyncIterator<string>;
}

class RunningMachine implements Machine {
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #ended: Promise<void>;
  #alive = true;
  #output = '';
  readonly #report: Promise<Report>;

  constructor(child: ChildProcess, folder: string) {
    this.#child = child;
    this.#folder = folder;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#ended = promise;
    const collect = (chunk: Buffer): void => {
      this.#output += chunk.toString();
    };
    child.stdout?.on('data', collect);
    child.stderr?.on('data', collect);
    child.once('error', (error) => {
      this.#output += String(error);
    });
    // From the start: a machine that nobody listens to reports to nobody.
    this.#report = this.#connectReport();
    // Whoever asks is told.
    this.#report.catch(() => undefined);
    child.once('close', () => {
      this.#last = this.console;
      this.#alive = false;
      rmSync(folder, { recursive: true, force: true });
      resolve();
    });
  }

  #last = '';

  get console(): string {
    if (!this.#alive) return this.#last;
    const file = join(this.#folder, 'console');
    return existsSync(file) ? readFileSync(file, 'latin1') : '';
  }

  async waitFor(pattern: RegExp, seconds: number): Promise<RegExpExecArray> {
    const deadline = Date.now() + seconds * 1000;
    for (;;) {
      const found = pattern.exec(this.console);
      if (found !== null) return found;
      if (!this.#alive) throw this.#failure(`the machine ended without ${pattern}`);
      if (Date.now() > deadline) throw this.#failure(`no ${pattern} within ${seconds} s`);
      await pause();
    }
  }

  async waitForEnd(seconds: number): Promise<void> {
    const timeout = AbortSignal.timeout(seconds * 1000);
    const { promise, reject } = Promise.withResolvers<never>();
    const late = (): void => reject(this.#failure(`the machine still runs after ${seconds} s`));
    timeout.addEventListener('abort', late);
    await Promise.race([this.#ended, promise]).finally(() => timeout.removeEventListener('abort', late));
  }

  async report<T>(name: string, argument = ''): Promise<T> {
    const { socket, answers } = await this.#report;
    socket.write(`${name} ${argument}\n`);
    const { value, done } = await answers.next();
    if (done === true) throw this.#failure(`no report ${name}`);
    const answer = (JSON.parse(value) as Record<string, unknown>)[name];
    if (typeof answer === 'string' && answer.startsWith('error: no report')) throw new Error(answer);
    return answer as T;
  }

  /** QEMU makes the socket when it starts. */
  async #connectReport(): Promise<Report> {
    for (;;) {
      const socket = connect(join(this.#folder, 'report.sock'));
      const connected = await new Promise<boolean>((resolve) => {
        socket.once('connect', () => resolve(true));
        socket.once('error', () => resolve(false));
      });
      if (connected) {
        // Its end is the end of the answers.
        socket.on('error', () => undefined);
        void this.#ended.then(() => socket.destroy());
        const answers = createInterface({ input: socket })[Symbol.asyncIterator]();
        // The machine says that it listens: the firmware would take what is written before, and throw it away.
        if ((await answers.next()).done === true) throw this.#failure('the machine ended without a report');
        return { socket, answers };
      }
      if (!this.#alive) throw this.#failure('the machine ended without a report');
      await pause();
    }
  }

  async kill(): Promise<void> {
    if (this.#alive) this.#child.kill('SIGKILL');
    await this.#ended;
  }

  #failure(what: string): Error {
    return new Error(`${what}\n${this.#output.slice(-2000)}\n--- console\n${this.console.slice(-6000)}`);
  }
}

/** The console is a file that QEMU appends to. */
async function pause(): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  setTimeout(resolve, 100);
  await promise;
}
