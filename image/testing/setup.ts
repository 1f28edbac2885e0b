/** Before all image tests: the development image, built in the network namespace of the tests, so without network. */
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { build, locksOf, toolsOf } from '../build/build.ts';
import { progressToStderr } from '../build/progress.ts';
import { defaultStore } from '../build/store.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** Folder of the built image. */
    image: string;
    /** Root of the tools tree. */
    tools: string;
  }
}

export default async function setup(project: TestProject): Promise<void> {
  const store = defaultStore();
  const sources = join(import.meta.dirname, '../..');
  const progress = progressToStderr();
  const tools = await toolsOf(store, locksOf(sources, 'devnet').tools.lock, progress);
  const output = join(store.folder('test'), 'devnet');
  await build({ store, profile: 'devnet', sources, output, progress, missing: [] });
  project.provide('image', output);
  project.provide('tools', tools);
}
