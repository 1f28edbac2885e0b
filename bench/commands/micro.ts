/** `micro`: each stage of an order's way alone, beside the alternatives that were rejected. */

import { startChild } from '../child.ts';
import { COMMON_HELP, COMMON_OPTIONS, optionsOf, positive, publishTo, say, whole } from '../command.ts';
import type { MicroResult } from '../micro/case.ts';
import type { MicroCalls } from '../micro-child.ts';
import { surroundings } from '../report.ts';
import { runsInWords, type Section } from '../section.ts';
import { median } from '../statistics.ts';

export const name = 'micro';

export const help = `
each stage alone: ns/op and bytes/op, beside the alternatives that were rejected

Usage: npm run bench -- micro [options]

  --only TEXT       stages whose name has this in it
  --ms N            time for each case (default 300)
  --repeats N       passes, each in a fresh process (default 5)
${COMMON_HELP.split('\n')
  .filter((line) => !/--set|--entry/.test(line))
  .join('\n')}
`;

export interface MicroPlan {
  readonly only: string;
  readonly measureMs: number;
  readonly repeats: number;
}

export async function run(args: readonly string[]): Promise<number> {
  const { quick, seed, out, only, ms, repeats } = optionsOf(args, {
    quick: COMMON_OPTIONS.quick,
    seed: COMMON_OPTIONS.seed,
    out: COMMON_OPTIONS.out,
    only: { type: 'string', default: '' },
    ms: { type: 'string' },
    repeats: { type: 'string' },
  }).values;
  const plan: MicroPlan = {
    only,
    measureMs: positive('--ms', ms ?? (quick ? '60' : '300')),
    repeats: whole('--repeats', repeats ?? (quick ? '1' : '5')),
  };
  const around = surroundings(seed);
  return publishTo({ ...around, sections: [await measureMicro(plan, seed, say)] }, out);
}

export async function measureMicro(
  plan: MicroPlan,
  seed: string,
  tell: (text: string) => void,
): Promise<Section> {
  const passes: MicroResult[][] = [];
  const times = { measureMs: plan.measureMs, warmUpMs: plan.measureMs / 3 };
  for (let repeat = 1; repeat <= plan.repeats; repeat++) {
    tell(`stages alone: pass ${repeat} of ${plan.repeats}`);
    const child = startChild<MicroCalls>(new URL('../micro-child.ts', import.meta.url), [
      '--max-semi-space-size=64',
    ]);
    try {
      passes.push(await child.call('measure', seed, times, plan.only));
    } finally {
      await child.close();
    }
  }
  return microSection(passes);
}

/** @param passes one list of the same cases per pass */
export function microSection(passes: readonly (readonly MicroResult[])[]): Section {
  const rows = (passes[0] ?? []).map((first, index) => {
    const all = passes.map((pass) => pass[index] ?? first);
    const ns = all.map(({ nsPerOp }) => nsPerOp);
    return { ...first, ns, nsPerOp: median(ns), bytesPerOp: median(all.map(({ bytesPerOp }) => bytesPerOp)) };
  });
  const stages = [...new Set(rows.map(({ stage }) => stage))];
  return {
    id: 'micro',
    title: 'Each stage alone',
    text: [
      `Inputs are seeded and made before the timed part. The first bar of a stage is what the node does, the others are what was rejected. ${runsInWords(passes.length)}, each in a fresh process. Time is CPU time, V8's helper threads included, except for the archive, which waits for a disk. Bytes are what is allocated on V8's heap and in buffers, give or take some dozens.`,
    ],
    charts: [
      {
        kind: 'bars',
        title: 'time for one order',
        unit: 'ns',
        groups: stages.map((stage) => ({
          name: stage,
          bars: rows
            .filter((row) => row.stage === stage)
            .map((row) => ({ name: row.name, value: row.nsPerOp })),
        })),
      },
    ],
    tables: [
      {
        title: 'stages',
        headings: ['stage', 'how', 'in use', 'ns/op', 'bytes/op', 'times the chosen'],
        rows: rows.map((row) => {
          const chosen = rows.find(({ stage, inUse }) => stage === row.stage && inUse);
          return [
            row.stage,
            row.name,
            row.inUse ? 'yes' : '',
            row.nsPerOp,
            Math.round(row.bytesPerOp),
            row.inUse || chosen === undefined ? null : row.nsPerOp / chosen.nsPerOp,
          ];
        }),
      },
    ],
    figures: rows.map((row) => ({
      name: `${row.stage}: ${row.name}`,
      unit: 'ns',
      better: 'lower' as const,
      samples: row.ns,
    })),
    faults: [],
  };
}
