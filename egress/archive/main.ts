/** The archive's commands: `npm run archive -- tail|replay|verify|export|stats`. They only read; a node may be writing. */
import { type Command, EXIT, UsageError } from './commands/command.ts';
import { exportCommand } from './commands/export.ts';
import { replayCommand } from './commands/replay.ts';
import { statsCommand } from './commands/stats.ts';
import { tailCommand } from './commands/tail.ts';
import { verifyCommand } from './commands/verify.ts';
import { asError } from './failure.ts';

const COMMANDS: readonly Command[] = [tailCommand, replayCommand, verifyCommand, exportCommand, statsCommand];

const HELP = `Usage: npm run archive -- COMMAND [options]

${COMMANDS.map(({ name, summary }) => `  ${name.padEnd(8)}${summary}`).join('\n')}

  COMMAND --help  tells the options of a command`;

async function main(args: readonly string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === '--help' || name === '-h' || name === 'help') {
    process.stdout.write(`${HELP}\n`);
    return EXIT.ok;
  }
  const command = COMMANDS.find((candidate) => candidate.name === name);
  if (command === undefined) {
    const problem = name === undefined ? 'a command is missing' : `unknown command '${name}'`;
    process.stderr.write(`archive: ${problem}\n\n${HELP}\n`);
    return EXIT.usage;
  }
  if (rest.includes('--help') || rest.includes('-h')) {
    process.stdout.write(`${command.help}\n`);
    return EXIT.ok;
  }
  const interrupted = new AbortController();
  process.once('SIGINT', () => interrupted.abort());
  process.once('SIGTERM', () => interrupted.abort());
  try {
    return await command.run(rest, {
      stdout: process.stdout,
      stderr: process.stderr,
      env: process.env,
      signal: interrupted.signal,
      now: () => Date.now(),
    });
  } catch (error) {
    const usage = error instanceof UsageError;
    const hint = usage ? ` (${command.name} --help tells the options)` : '';
    process.stderr.write(`archive ${command.name}: ${asError(error).message}${hint}\n`);
    return usage ? EXIT.usage : EXIT.problem;
  }
}

// A reader that has enough (`| head`) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});
process.exitCode = await main(process.argv.slice(2));
