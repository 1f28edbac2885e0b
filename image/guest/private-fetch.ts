/**
 * Boot step: fetches the programs that no public place offers, and makes each executable once its digest is the one
 * that this image was built with. Tries for ever; a wrong file is thrown away and fetched again.
 *
 * Environment: LIST (JSON: name, size, sha256), RELEASES (base URL), TARGET (folder in RAM), CREDENTIALS_DIRECTORY
 * (holds `token`; empty: none is shown).
 */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';

interface Program {
  readonly name: string;
  readonly size: number;
  readonly sha256: string;
}

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 30_000;
const TIMEOUT_MS = 600_000;

const { LIST = '', RELEASES = '', TARGET = '', CREDENTIALS_DIRECTORY = '' } = process.env;
const token = readFileSync(join(CREDENTIALS_DIRECTORY, 'token'), 'utf8').trim();

/** @throws Error when the file cannot be had or is another one; nothing of it stays then */
async function fetchProgram({ name, size, sha256 }: Program): Promise<void> {
  const partial = join(TARGET, `.${name}`);
  const response = await fetch(`${RELEASES}/${name}`, {
    signal: AbortSignal.timeout(TIMEOUT_MS),
    headers: token === '' ? {} : { authorization: `Bearer ${token}` },
  });
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new Error(`the release host answers ${response.status}`);
  }
  const hash = createHash('sha256');
  let length = 0;
  // What a run that was ended has left can neither be written nor trusted.
  rmSync(partial, { force: true });
  const file = openSync(partial, 'wx', 0o600);
  try {
    for await (const chunk of response.body ?? []) {
      const bytes = chunk as Uint8Array;
      length += bytes.length;
      if (length > size) throw new Error(`it has more than ${size} bytes`);
      hash.update(bytes);
      for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done, bytes.length - done);
    }
    const found = hash.digest('hex');
    if (length !== size || found !== sha256) throw new Error(`it is ${length} bytes of sha256 ${found}`);
    chmodSync(partial, 0o555);
    renameSync(partial, join(TARGET, name));
  } finally {
    closeSync(file);
    rmSync(partial, { force: true });
  }
}

const programs = JSON.parse(readFileSync(LIST, 'utf8')) as readonly Program[];
for (const program of programs) {
  let delay = FIRST_WAIT_MS;
  while (!existsSync(join(TARGET, program.name))) {
    try {
      await fetchProgram(program);
      console.log(`private programs: ${program.name} is the one of this image`);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      console.log(`private programs: ${program.name}: ${reason}; next try in ${delay / 1000} s`);
      await wait(delay);
      delay = Math.min(delay * 2, LONGEST_WAIT_MS);
    }
  }
}
