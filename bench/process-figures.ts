/** What a process has used so far, read from Linux's /proc. */
import { readdir, readFile } from 'node:fs/promises';

export interface ProcessFigures {
  /** CPU time of all its threads, user and kernel, microseconds. */
  readonly cpuUs: number;
  /** Most memory it ever held (VmHWM), bytes. */
  readonly peakRssBytes: number;
}

/**
 * Time comes from each thread's schedstat, exact to the nanosecond, where /proc/PID/stat counts ticks of 10 ms.
 * Threads that ended before are not in it: a node makes its threads at the start and keeps them.
 * @throws when there is no such process, or no /proc.
 */
export async function processFigures(pid: number): Promise<ProcessFigures> {
  const threads = await readdir(`/proc/${pid}/task`);
  const times = await Promise.all(
    threads.map(async (thread) => {
      const line = await readFile(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').catch(() => '0');
      return Number(line.split(' ', 1)[0]) / 1000;
    }),
  );
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const peakKb = Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0);
  return { cpuUs: times.reduce((sum, time) => sum + time, 0), peakRssBytes: peakKb * 1024 };
}
