/** Walks a file tree in one fixed order and describes each entry, so that two images can be compared file by file. */
import { lstatSync, readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { digestOf } from './store.ts';

export interface Entry {
  /** Relative to the root of the tree. */
  readonly path: string;
  readonly type: 'file' | 'folder' | 'link';
  /** Permission bits in octal, 4 digits. */
  readonly mode: string;
  /** Of a file. */
  readonly size?: number;
  readonly sha256?: string;
  /** Of a link. */
  readonly target?: string;
}

/** Paths below `root`, parents before children, names sorted by their bytes. */
export function* walk(root: string, folder = ''): Generator<{ path: string; type: Entry['type'] }> {
  const names = readdirSync(join(root, folder)).sort((a, b) =>
    Buffer.compare(Buffer.from(a), Buffer.from(b)),
  );
  for (const name of names) {
    const path = folder === '' ? name : `${folder}/${name}`;
    const stat = lstatSync(join(root, path));
    if (stat.isSymbolicLink()) yield { path, type: 'link' };
    else if (stat.isDirectory()) {
      yield { path, type: 'folder' };
      yield* walk(root, path);
    } else if (stat.isFile()) yield { path, type: 'file' };
    else throw new Error(`${path} is no file, folder or link`);
  }
}

/** Every entry of a tree; all are owned by root in the image. */
export async function manifestOf(root: string): Promise<Entry[]> {
  const entries: Entry[] = [];
  for (const { path, type } of walk(root)) {
    const full = join(root, path);
    const mode = (lstatSync(full).mode & 0o7777).toString(8).padStart(4, '0');
    if (type === 'link') entries.push({ path, type, mode: '0777', target: readlinkSync(full) });
    else if (type === 'folder') entries.push({ path, type, mode });
    else entries.push({ path, type, mode, ...(await digestOf(full)) });
  }
  return entries;
}

/** What differs between two manifests, one line each, in order of path. */
export function compareManifests(a: readonly Entry[], b: readonly Entry[]): string[] {
  const before = new Map(a.map((entry) => [entry.path, entry]));
  const after = new Map(b.map((entry) => [entry.path, entry]));
  const paths = [...new Set([...before.keys(), ...after.keys()])].sort();
  return paths.flatMap((path) => {
    const [from, to] = [before.get(path), after.get(path)];
    if (from === undefined) return [`+ ${path} ${describe(to)}`];
    if (to === undefined) return [`- ${path} ${describe(from)}`];
    return describe(from) === describe(to) ? [] : [`~ ${path} ${describe(from)} => ${describe(to)}`];
  });
}

function describe(entry: Entry | undefined): string {
  if (entry === undefined) return '';
  const { type, mode, size, sha256, target } = entry;
  if (type === 'link') return `-> ${target}`;
  return type === 'folder' ? `${mode}/` : `${mode} ${size} ${sha256?.slice(0, 16)}`;
}
