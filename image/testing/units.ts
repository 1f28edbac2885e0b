/** The configuration of a profile as it is written into an image, with its units read again. */
import { globSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { artifacts } from '../artifacts.ts';
import { writeConfiguration } from '../build/configure.ts';
import type { Profile } from '../profiles.ts';
import { surroundingsOf } from '../surroundings.ts';

const SOURCES = join(import.meta.dirname, '../..');
const UNITS = 'usr/lib/systemd/system';

/** A unit's file with what its folders add. */
export interface Unit {
  readonly name: string;
  readonly text: string;
  /** All values of a key, in any section. */
  readonly all: (key: string) => string[];
  /** The same where a value is a list. */
  readonly list: (key: string) => string[];
}

export interface Configured {
  /** Text by path. */
  readonly files: ReadonlyMap<string, string>;
  readonly units: ReadonlyMap<string, Unit>;
  /** Units by what wants them. */
  readonly wanted: ReadonlyMap<string, readonly string[]>;
}

/** Writes and reads the configuration of a profile. */
export function configured(profile: Profile): Configured {
  const root = mkdtempSync(join(tmpdir(), 'image-units-'));
  try {
    mkdirSync(join(root, 'usr/share/ca-certificates'), { recursive: true });
    const around = surroundingsOf(profile);
    writeConfiguration(root, { profile, around, manifest: artifacts(SOURCES), epoch: 0 });
    const paths = globSync('**/*', { cwd: root }).filter(
      (path) => !lstatSync(join(root, path)).isDirectory(),
    );
    const isLink = (path: string): boolean => lstatSync(join(root, path)).isSymbolicLink();
    const files = new Map(
      paths.filter((path) => !isLink(path)).map((path) => [path, readFileSync(join(root, path), 'utf8')]),
    );
    const wanted = new Map<string, string[]>();
    for (const path of paths.filter((one) => one.startsWith(`${UNITS}/`) && one.includes('.wants/'))) {
      const by = basename(dirname(path), '.wants');
      wanted.set(by, [...(wanted.get(by) ?? []), basename(path)]);
    }
    return { files, units: unitsIn(files), wanted };
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

function unitsIn(files: ReadonlyMap<string, string>): Map<string, Unit> {
  const texts = new Map<string, string>();
  for (const [path, text] of files) {
    if (!path.startsWith(`${UNITS}/`)) continue;
    const folder = dirname(path);
    const name = folder === UNITS ? basename(path) : basename(folder, '.d');
    texts.set(name, `${texts.get(name) ?? ''}${text}`);
  }
  return new Map([...texts].map(([name, text]) => [name, unit(name, text)]));
}

function unit(name: string, text: string): Unit {
  const all = (key: string): string[] =>
    text
      .split('\n')
      .filter((line) => line.startsWith(`${key}=`))
      .map((line) => line.slice(key.length + 1).trim());
  return { name, text, all, list: (key) => all(key).flatMap((value) => value.split(/\s+/u)) };
}

/**
 * Everything that a unit waits for, directly or not.
 * @param strict only what it also requires: what fails holds it back
 */
export function waitsFor({ units }: Configured, name: string, strict: boolean): Set<string> {
  const reached = new Set<string>();
  const queue = [name];
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    const unitThere = units.get(next);
    const before = [...units.values()].filter(
      (one) => next !== undefined && one.list('Before').includes(next),
    );
    const after = [...(unitThere?.list('After') ?? []), ...before.map((one) => one.name)];
    const required = new Set(unitThere?.list('Requires') ?? []);
    for (const one of after) {
      if (reached.has(one) || (strict && !required.has(one))) continue;
      reached.add(one);
      queue.push(one);
    }
  }
  return reached;
}

/** Everything without which a unit does not run, directly or not. */
export function needs({ units }: Configured, name: string): Set<string> {
  const reached = new Set<string>();
  const queue = [name];
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    for (const one of units.get(next)?.list('Requires') ?? []) {
      if (reached.has(one)) continue;
      reached.add(one);
      queue.push(one);
    }
  }
  return reached;
}
