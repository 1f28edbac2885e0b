/**
 * A real Chromium for tests: the build that comes with the locked npm package @sparticuz/chromium, unpacked (200 MB,
 * 2 s) into a directory of its own and driven by playwright-core. It needs libnss3 on the machine.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import chromium from '@sparticuz/chromium';
import {
  type Browser,
  type BrowserContext,
  type BrowserContextOptions,
  chromium as driver,
} from 'playwright-core';
import { onTestFinished } from 'vitest';

export interface TestBrowser {
  /** A context that takes any certificate; ends with the test. */
  open(options?: BrowserContextOptions): Promise<BrowserContext>;
  close(): Promise<void>;
}

/** It asks nobody for anything, and has no GPU. As root it cannot have its sandbox. */
const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--no-first-run',
];

export async function startBrowser(): Promise<TestBrowser> {
  const directory = await mkdtemp(join(tmpdir(), 'operator-browser-'));
  const remove = () => rm(directory, { recursive: true, force: true });
  let browser: Browser;
  try {
    browser = await driver.launch({ executablePath: await unpack(directory), args: ARGUMENTS });
  } catch (error) {
    await remove();
    throw error;
  }
  return {
    async open(options) {
      const context = await browser.newContext({ ignoreHTTPSErrors: true, ...options });
      onTestFinished(() => context.close());
      return context;
    },
    async close() {
      await browser.close();
      await remove();
    },
  };
}

/** The package knows no other place than the directory for temporary files. */
async function unpack(directory: string): Promise<string> {
  const before = process.env.TMPDIR;
  process.env.TMPDIR = directory;
  try {
    return await chromium.executablePath();
  } finally {
    if (before === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = before;
  }
}
