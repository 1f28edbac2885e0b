/** A fresh process for one pass over all stages: what V8 made of the code in the pass before must not count. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createOrderSource, type GeneratedOrder } from '../devnet/orders.ts';
import { serveParent } from './child.ts';
import type { MicroCase, MicroResult } from './micro/case.ts';
import { canonicalCases, jsonCases, orderCases, transactionCases } from './micro/decode-cases.ts';
import { type MicroTimes, measureCase } from './micro/measure.ts';
import { keccakCases, signatureCheckCases, signCases } from './micro/signature-cases.ts';
import { dedupeCases, frameCases, hopCases, spoolCases } from './micro/state-cases.ts';

const ORDERS = 64;

const calls = {
  /** @param only a part of the stages' names; empty for all */
  async measure(seed: string, times: MicroTimes, only: string): Promise<MicroResult[]> {
    const dir = await mkdtemp(join(tmpdir(), 'orderflow-micro-'));
    const spool = await spoolCases(dir, ordersOf(seed, 3_279));
    const cases = [...casesOf(seed), ...spool.cases].filter(({ stage }) => stage.includes(only));
    const results: MicroResult[] = [];
    try {
      for (const one of cases) results.push(await measureCase(one, times));
    } finally {
      await spool.close();
      await rm(dir, { recursive: true, force: true });
    }
    return results;
  },
};
export type MicroCalls = typeof calls;

function ordersOf(seed: string, bodyBytes: number): GeneratedOrder[] {
  const source = createOrderSource({ seed, bodyBytes, methods: 'bundles' });
  return Array.from({ length: ORDERS }, () => source.next());
}

function casesOf(seed: string): MicroCase[] {
  const [small, usual, large] = [ordersOf(seed, 1_000), ordersOf(seed, 3_279), ordersOf(seed, 20_000)];
  return [
    ...signatureCheckCases('1 KB', small, false),
    ...signatureCheckCases('3 KB', usual, true),
    ...signatureCheckCases('20 KB', large, false),
    ...keccakCases('1 KB', small),
    ...keccakCases('3 KB', usual),
    ...keccakCases('20 KB', large),
    ...jsonCases('3 KB', usual),
    ...jsonCases('20 KB', large),
    ...orderCases('1 KB', small, false),
    ...orderCases('3 KB', usual, true),
    ...orderCases('20 KB', large, false),
    ...canonicalCases('3 KB', usual),
    ...transactionCases(usual),
    ...dedupeCases(seed),
    ...hopCases(),
    ...signCases(usual),
    ...frameCases(usual),
  ];
}

serveParent(calls);
