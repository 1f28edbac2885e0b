import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    pool: 'forks',
    passWithNoTests: false,
    allowOnly: false,
    testTimeout: 20_000,
    hookTimeout: 30_000,
    // As long as `eventually` of the harness: a busy machine takes its time.
    expect: { poll: { timeout: 15_000 } },
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['**/*.test.ts'],
          exclude: ['node_modules/**', '**/*.integration.test.ts', '**/*.image.test.ts'],
        },
      },
      {
        extends: true,
        test: {
          name: 'integration',
          include: ['**/*.integration.test.ts'],
          exclude: ['node_modules/**'],
          testTimeout: 120_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
