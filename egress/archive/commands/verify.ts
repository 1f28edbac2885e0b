/** `archive verify`: reads everything and proves that nothing is missing, doubled or altered. */
import { isOrder } from '../walk.ts';
import { type Command, EXIT, parseOptions } from './command.ts';
import { archiveDir, DIR_HELP, openWalk } from './folder.ts';
import { Progress } from './progress.ts';

const OPTIONS = { dir: { type: 'string' } } as const;

export const verifyCommand: Command = {
  name: 'verify',
  summary: 'check that nothing is missing, doubled or altered',
  help: `Usage: npm run archive -- verify [options]

Reads every segment and checks each record's checksum, the sequence without holes, the hash chain, that segments follow
each other, and how epochs begin. Prints each finding with its segment and offset, then the totals. A node may be
writing meanwhile.

${DIR_HELP}

Exit code: 0 all is well, 1 interrupted or a problem was found, 2 wrong usage.`,

  async run(args, surroundings) {
    const values = parseOptions(args, OPTIONS);
    const { stdout, stderr, signal } = surroundings;
    const walk = await openWalk(archiveDir(values.dir, surroundings), 0);
    const progress = new Progress(stderr, walk.totalBytes);
    let problems = 0;
    const records = walk.records(({ kind, segment, offset, message }) => {
      if (kind === 'problem') problems += 1;
      progress.clear();
      stdout.write(`${kind === 'problem' ? 'PROBLEM' : 'note'}  ${segment} at ${offset}: ${message}\n`);
    });
    let orders = 0;
    let oldestUs = Number.POSITIVE_INFINITY;
    let newestUs = 0;
    const epochs = new Set<string>();
    for await (const { record } of records) {
      if (signal.aborted) {
        progress.clear();
        stderr.write('interrupted: not everything was read\n');
        return EXIT.problem;
      }
      progress.update(walk.doneBytes);
      epochs.add(`${record.nodeId} ${record.epoch}`);
      if (!isOrder(record)) continue;
      orders += 1;
      oldestUs = Math.min(oldestUs, record.receivedAtUs);
      newestUs = Math.max(newestUs, record.receivedAtUs);
    }
    progress.clear();
    const from = orders === 0 ? '' : `, received from ${isoTime(oldestUs)} to ${isoTime(newestUs)}`;
    const counts = [
      plural(orders, 'order'),
      plural(walk.segments, 'segment'),
      plural(epochs.size, 'epoch'),
      `${walk.totalBytes} bytes`,
    ];
    stdout.write(`${counts.join(', ')}${from}\n`);
    stdout.write(problems === 0 ? 'all is well\n' : `${plural(problems, 'problem')} found\n`);
    return problems === 0 ? EXIT.ok : EXIT.problem;
  },
};

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

function isoTime(unixUs: number): string {
  return new Date(unixUs / 1000).toISOString();
}
