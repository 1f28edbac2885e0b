import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

/** The image's tests alone: they take minutes, need root of a namespace, and run one after the other. */
export default defineConfig({
  root: join(import.meta.dirname, '..'),
  test: {
    name: 'image',
    include: ['image/**/*.image.test.ts'],
    globalSetup: ['image/testing/setup.ts'],
    pool: 'forks',
    fileParallelism: false,
    passWithNoTests: false,
    allowOnly: false,
    disableConsoleIntercept: true,
    // Guards against a hang alone: a busy machine boots in minutes.
    testTimeout: 1_200_000,
    hookTimeout: 1_200_000,
  },
});
