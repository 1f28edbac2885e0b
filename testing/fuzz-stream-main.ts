/**
 * `node testing/fuzz-stream-main.ts [INPUTS] [SEED]`: the stream's decoders against so many damaged inputs (ten million
 * unless set), with the figures and the memory at the end. The tests run a short one.
 */
import { fuzz } from '../pipeline/stream/testing/fuzz.ts';

const inputs = Number(process.argv[2] ?? 10_000_000);
const seed = Number(process.argv[3] ?? 1);
const startMs = performance.now();
const result = fuzz({
  seed,
  inputs,
  progress: (done) => process.stderr.write(`\r${Math.floor((100 * done) / inputs)} %`),
});
const seconds = (performance.now() - startMs) / 1000;
const peak = Math.round(process.resourceUsage().maxRSS / 1024);
process.stdout.write(
  `\r${result.inputs} inputs with seed ${seed} in ${seconds.toFixed(0)} s: ${result.frames} frames decoded, ` +
    `${result.orders} orders came through and every fourth was the same over v1, ${result.refused} refused, ` +
    `nothing thrown; peak memory ${peak} MiB\n`,
);
