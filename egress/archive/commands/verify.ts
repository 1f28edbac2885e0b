/** `archive verify`: reads a range and proves that nothing in it is missing, doubled or altered. */
import { isOrder } from '../walk.ts';
import { type Command, EXIT, parseOptions } from './command.ts';
import { findingLine, INSPECT_HELP, INSPECT_OPTIONS, isoTime, openReading, plural } from './reading.ts';
import { parseSelection } from './select.ts';
import { WHERE_HELP, WHERE_OPTIONS, whereOf } from './where.ts';

const OPTIONS = {
  ...WHERE_OPTIONS,
  ...INSPECT_OPTIONS,
  since: { type: 'string' },
  until: { type: 'string' },
} as const;

export const verifyCommand: Command = {
  name: 'verify',
  summary: 'check that nothing is missing, doubled or altered',
  help: `Usage: npm run archive -- verify [options]

Reads every record and checks the sequence without holes, the hash chain, how epochs begin, the nodes' signed checkpoints,
and that each order is what its headers say and its transactions are signed; in a spool folder also each checksum and that
segments follow each other. Prints each finding with its place, then the totals. A node may be writing meanwhile.

${WHERE_HELP}
  --since TIME      begin with what was received at or after TIME (2025-06-30, 2025-06-30T12:00:00Z, 90s, 15m, 6h, 2d)
  --until TIME      count only what was received before TIME; what follows is checked all the same
${INSPECT_HELP}

Exit code: 0 all is well, 1 interrupted or a problem was found, 2 wrong usage.`,

  async run(args, surroundings) {
    const values = parseOptions(args, OPTIONS);
    const { stdout, stderr, signal } = surroundings;
    const selection = parseSelection(values, surroundings.now());
    const reading = await openReading(
      {
        where: await whereOf(values, surroundings),
        selection,
        inspect: values['no-inspect'] !== true,
        onFinding: (finding) => void stdout.write(findingLine(finding)),
      },
      surroundings,
    );
    let orders = 0;
    let oldestUs = Number.POSITIVE_INFINITY;
    let newestUs = 0;
    const epochs = new Set<string>();
    try {
      for await (const record of reading.records()) {
        epochs.add(`${record.nodeId} ${record.epoch}`);
        if (!isOrder(record) || !selection.matches(record)) continue;
        orders += 1;
        oldestUs = Math.min(oldestUs, record.receivedAtUs);
        newestUs = Math.max(newestUs, record.receivedAtUs);
      }
    } finally {
      await reading.end();
    }
    if (signal.aborted) {
      stderr.write('interrupted: not everything was read\n');
      return EXIT.problem;
    }
    const { source, problems } = reading;
    const from = orders === 0 ? '' : `, received from ${isoTime(oldestUs)} to ${isoTime(newestUs)}`;
    const counts = [
      plural(orders, 'order'),
      source.parts,
      plural(epochs.size, 'epoch'),
      `${source.total} ${source.unit}`,
      ...(source.duplicates > 0 ? [`${plural(source.duplicates, 'duplicate')} left out`] : []),
    ];
    stdout.write(`${counts.join(', ')}${from}\n`);
    stdout.write(problems === 0 ? 'all is well\n' : `${plural(problems, 'problem')} found\n`);
    return problems === 0 ? EXIT.ok : EXIT.problem;
  },
};
