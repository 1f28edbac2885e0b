/**
 * `node devnet/builder-main.ts [--listen 127.0.0.1:8645] [--keep-bodies] [--journal FILE]`: a builder stand-in in a
 * process of its own, to try a node without rbuilder: BUILDER_ENDPOINT and BUILDER_READY_ENDPOINT both point at its
 * URL.
 *
 * The journal gets one line per order (a record as JSON, without its body) before the order is answered, so that it
 * holds everything the builder took even when the builder is killed. See builder-journal.ts.
 */
import { openSync, writeSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { type BuilderOptions, startBuilder } from './builder-stand-in.ts';

const { values } = parseArgs({
  options: {
    listen: { type: 'string', default: '127.0.0.1:8645' },
    'keep-bodies': { type: 'boolean', default: false },
    journal: { type: 'string' },
  },
});

const builder = await startBuilder({
  listen: values.listen,
  keepBodies: values['keep-bodies'],
  ...(values.journal !== undefined && { onOrder: journalIn(values.journal) }),
});
console.log(JSON.stringify({ event: 'listening', server: 'builder', address: builder.url }));
console.log(`orders as NDJSON: ${builder.url}/orders`);

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void builder.close());
}

function journalIn(file: string): NonNullable<BuilderOptions['onOrder']> {
  const journal = openSync(file, 'a', 0o600);
  return (record) => {
    // One write: a process that is killed leaves the whole line or nothing of it.
    writeSync(journal, `${JSON.stringify({ ...record, body: undefined })}\n`);
  };
}
