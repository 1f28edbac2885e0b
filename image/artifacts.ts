/**
 * The artifact manifest: programs that no registry offers, with the digest that an image may contain or fetch. A
 * profile that lacks one is not built, and nothing can make it go on regardless.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Store } from './build/store.ts';
import type { Profile } from './profiles.ts';

export interface Artifact {
  readonly name: string;
  readonly version: string;
  readonly origin: string;
  readonly licence: string;
  /** Bytes; null until somebody has built and reviewed it. */
  readonly size: number | null;
  /** 64 hex digits; null likewise. */
  readonly sha256: string | null;
  /** Path in the root file system (`build`), or name in the folder of fetched programs (`boot`). */
  readonly target: string;
  readonly profiles: readonly Profile[];
  /** `boot`: only the digest is in the image; the machine fetches the file, checks it and then makes it executable. */
  readonly when: 'build' | 'boot';
}

/** The manifest of the project in `sources`. */
export function artifacts(sources: string): Artifact[] {
  return JSON.parse(readFileSync(join(sources, 'image/artifacts.json'), 'utf8')) as Artifact[];
}

/** Those of a profile. */
export function ofProfile(manifest: readonly Artifact[], profile: Profile): Artifact[] {
  return manifest.filter(({ profiles }) => profiles.includes(profile));
}

/** `private-programs.json` of the image: what it fetches at boot, and the digest without which nothing runs. */
export function privatePrograms(manifest: readonly Artifact[], profile: Profile): string {
  const programs = ofProfile(manifest, profile)
    .filter(({ when }) => when === 'boot')
    .map(({ target, size, sha256 }) => ({ name: target, size, sha256 }));
  return `${JSON.stringify(programs, null, 2)}\n`;
}

/** What keeps a profile from being built: every artifact of it without digest or, if it is built in, without file. */
export function artifactProblems(manifest: readonly Artifact[], profile: Profile, store: Store): string[] {
  return ofProfile(manifest, profile).flatMap(({ name, version, origin, size, sha256, when }) => {
    const what = `artifact ${name} (${version}; ${origin})`;
    if (sha256 === null || size === null) return [`${what}: image/artifacts.json names no size and sha256`];
    if (when === 'build' && !store.has({ size, sha256 })) {
      return [
        `${what}: the file of sha256 ${sha256} is not in the store; put it at ${store.blob({ size, sha256 })}`,
      ];
    }
    return [];
  });
}
