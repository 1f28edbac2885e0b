/** Runs a command as a shell would, in this process, with its output kept. */
import { Writable } from 'node:stream';
import type { Command } from '../commands/command.ts';

/** A stream that keeps what is written to it. */
export function collector(isTTY = false) {
  let text = '';
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      text += chunk.toString();
      done();
    },
  });
  return Object.assign(stream, { isTTY, text: () => text });
}

export interface CommandRun {
  readonly isTTY?: boolean;
  readonly env?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
  /** Unix ms. */
  readonly now?: number;
}

/** Runs a command to its end. @throws what the command throws. */
export async function runCommand(
  command: Command,
  args: readonly string[],
  { isTTY = false, env = {}, signal = new AbortController().signal, now = Date.now() }: CommandRun = {},
) {
  const stdout = collector();
  const stderr = collector(isTTY);
  const code = await command.run(args, { stdout, stderr, env, signal, now: () => now });
  const out = stdout.text();
  return { code, out, lines: out === '' ? [] : out.trimEnd().split('\n'), err: stderr.text() };
}
