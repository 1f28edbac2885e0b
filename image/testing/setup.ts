/** Before all image tests: says where the development image is that run.ts has built. */
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { locksOf, toolsOf } from '../build/build.ts';
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
  const image = process.env.IMAGE_UNDER_TEST;
  if (image === undefined) throw new Error('there is no image: run `npm run test:image -- FILTER`');
  const store = defaultStore();
  const { tools } = locksOf(join(import.meta.dirname, '../..'), 'devnet');
  project.provide('image', image);
  project.provide('tools', await toolsOf(store, tools.lock, progressToStderr()));
}
