/** What a process has used so far, read from Linux's /proc: costs the process itself nothing. */
import { readFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';

export interface ProcessFigures {
  /** CPU time of all its threads, user and kernel, microseconds. */
  readonly cpuUs: number;
  /** The same by the thread's name, without the number that Node puts behind some. */
  readonly cpuByThreadUs: Readonly<Record<string, number>>;
  /** Memory now (VmRSS) and the most it ever held (VmHWM), bytes. */
  readonly rssBytes: number;
  readonly peakRssBytes: number;
  /** Open file descriptors, and threads. */
  readonly fds: number;
  readonly threads: number;
}

/**
 * Time comes from each thread's schedstat, exact to the nanosecond, where /proc/PID/stat counts ticks of 10 ms.
 * Threads that ended before are not in it: a node makes its threads at the start and keeps them.
 * @throws when there is no such process, it is another user's, or there is no /proc.
 */
export async function processFigures(pid: number): Promise<ProcessFigures> {
  const threads = await readdir(`/proc/${pid}/task`);
  const times = await Promise.all(threads.map((thread) => threadTime(`/proc/${pid}/task/${thread}`)));
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const cpuByThreadUs: Record<string, number> = {};
  for (const { name, us } of times) cpuByThreadUs[name] = (cpuByThreadUs[name] ?? 0) + us;
  return {
    cpuUs: times.reduce((sum, { us }) => sum + us, 0),
    cpuByThreadUs,
    rssBytes: bytesOf(status, 'VmRSS'),
    peakRssBytes: bytesOf(status, 'VmHWM'),
    fds: (await readdir(`/proc/${pid}/fd`)).length,
    threads: threads.length,
  };
}

/**
 * Memory of a process now, bytes; null when it has ended. For looks during a run: all figures of a process take a core for
 * a millisecond, and whoever is measured may be waiting for it.
 */
export function residentBytes(pid: number): number | null {
  try {
    return bytesOf(readFileSync(`/proc/${pid}/status`, 'utf8'), 'VmRSS');
  } catch {
    return null;
  }
}

/** @returns a field of /proc/PID/status that counts kilobytes; 0 without it. */
function bytesOf(status: string, field: string): number {
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) * 1024;
}

/** A thread may end between the listing and the look: then it is left out. */
async function threadTime(path: string): Promise<{ name: string; us: number }> {
  const [line, comm] = await Promise.all(
    ['schedstat', 'comm'].map((file) => readFile(`${path}/${file}`, 'utf8').catch(() => '')),
  );
  const us = Number((line ?? '').split(' ', 1)[0] || 0) / 1000;
  return { name: (comm ?? '').trim().replace(/[-_]?\d+$/, '') || 'ended', us };
}

/** @returns time used between two looks by each kind of thread; kinds that used none are left out. */
export function threadTimesBetween(
  before: ProcessFigures,
  after: ProcessFigures,
): Readonly<Record<string, number>> {
  const used: Record<string, number> = {};
  for (const [name, us] of Object.entries(after.cpuByThreadUs)) {
    const spent = us - (before.cpuByThreadUs[name] ?? 0);
    if (spent > 0) used[name] = spent;
  }
  return used;
}
