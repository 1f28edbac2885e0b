/**
 * Times cases one by one: tinybench for the time, V8's count of allocated bytes for memory. One sample does it so often
 * that neither the clock's own cost nor its resolution count.
 *
 * The clock is the process's CPU time, which does not run while another program has the core: on a shared machine the
 * time on the wall says more about the neighbours. V8's helpers (garbage collection, compilation) are in it. (The
 * thread's own CPU time would be the better clock, but the kernel counts it in steps of milliseconds.) What waits for a
 * disk is timed by the wall.
 */
import { getHeapStatistics } from 'node:v8';
import { Bench } from 'tinybench';
import { median } from '../statistics.ts';
import type { MicroCase, MicroResult } from './case.ts';

export interface MicroTimes {
  /** Per case, milliseconds. */
  readonly measureMs: number;
  readonly warmUpMs: number;
}

const ALLOCATION_ROUNDS = 5;
/** V8 hands out memory in pieces: fewer operations than this, and the pieces are what is measured. */
const ALLOCATION_OPS = 2_048;
/** Slow ones (noble) need no more than this. */
const ALLOCATION_MS = 100;

/** Least length of a sample by CPU time: the system counts whole microseconds. */
const LEAST_SAMPLE_MS = 0.5;

/** Milliseconds of CPU time of this process, in steps of a microsecond. */
function cpuNow(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** @returns how many calls make a sample of the least length */
function callsPerSample(work: () => unknown): number {
  work();
  const start = cpuNow();
  let calls = 0;
  do {
    work();
    calls++;
  } while (cpuNow() - start < LEAST_SAMPLE_MS);
  return calls;
}

/** @throws what a case throws */
export async function measureCase(one: MicroCase, times: MicroTimes): Promise<MicroResult> {
  const calls = one.waits ? 1 : callsPerSample(one.work);
  const repeated = () => {
    for (let call = 0; call < calls; call++) one.work();
  };
  const bench = new Bench({
    ...(!one.waits && { now: cpuNow }),
    time: times.measureMs,
    iterations: 8,
    warmupTime: times.warmUpMs,
    warmupIterations: 4,
    throws: true,
  });
  bench.add(one.name, one.waits ? one.work : repeated, { async: one.waits });
  const [task] = await bench.run();
  const result = task?.result;
  if (result?.state !== 'completed') throw new Error(`${one.stage}, ${one.name} was not measured`);
  const { stage, name, inUse, ops } = one;
  return {
    stage,
    name,
    inUse,
    nsPerOp: (result.latency.p50 * 1e6) / ops / calls,
    bytesPerOp: await allocatedPerOp(one),
  };
}

/** Median of a few rounds; a round in which buffers were freed says too little, never too much. */
async function allocatedPerOp({ work, ops }: MicroCase): Promise<number> {
  const rounds: number[] = [];
  for (let round = 0; round < ALLOCATION_ROUNDS; round++) {
    const start = performance.now();
    const heap = getHeapStatistics().total_allocated_bytes;
    const buffers = process.memoryUsage().arrayBuffers;
    let done = 0;
    while (done < ALLOCATION_OPS && performance.now() - start < ALLOCATION_MS) {
      await work();
      done += ops;
    }
    const grown = Math.max(0, process.memoryUsage().arrayBuffers - buffers);
    rounds.push((getHeapStatistics().total_allocated_bytes - heap + grown) / done);
  }
  return median(rounds);
}
