/**
 * `npm run bench`: everything, or one subcommand. A subcommand is a file in commands/ that exports `name`, `help`
 * and `run`; it stands in the list below and in README.md.
 */
import type { Command } from './command.ts';
import * as all from './commands/all.ts';
import * as archive from './commands/archive.ts';
import * as attested from './commands/attested.ts';
import * as burst from './commands/burst.ts';
import * as compare from './commands/compare.ts';
import * as compression from './commands/compression.ts';
import * as consumer from './commands/consumer.ts';
import * as limit from './commands/limit.ts';
import * as load from './commands/load.ts';
import * as micro from './commands/micro.ts';
import * as network from './commands/network.ts';
import * as saturation from './commands/saturation.ts';
import * as soak from './commands/soak.ts';
import * as stream from './commands/stream.ts';

const COMMANDS: readonly Command[] = [
  all,
  load,
  limit,
  saturation,
  burst,
  soak,
  micro,
  stream,
  network,
  attested,
  compression,
  archive,
  consumer,
  compare,
];

const [first = '', ...rest] = process.argv.slice(2);
const named = COMMANDS.find(({ name }) => name === first);
// Without a name, options are those of the whole bench.
const command = named ?? (first === '' || first.startsWith('-') ? all : null);
const args = named === undefined ? process.argv.slice(2) : rest;

if (args.includes('--help') || args.includes('-h') || command === null) {
  const unknown = command === null ? `no subcommand ${first}\n\n` : '';
  process.stdout.write(named === undefined ? unknown + overview() : `${named.help.trim()}\n`);
  process.exitCode = command === null ? 2 : 0;
} else {
  try {
    process.exitCode = await command.run(args);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 2;
  }
}

function overview(): string {
  const lines = COMMANDS.map(
    ({ name, help }) => `  ${name.padEnd(12)}${help.trim().split('\n', 1)[0] ?? ''}`,
  );
  return `Usage: npm run bench -- [SUBCOMMAND] [options]\n\n${lines.join('\n')}\n\nnpm run bench -- SUBCOMMAND --help says more. Without a subcommand: all.\n\n${all.help.trim()}\n`;
}
