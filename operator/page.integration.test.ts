/**
 * The page in a real browser. With SCREENSHOTS=DIR in the environment, pictures of it are left there.
 */
import { appendFile, mkdir } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { hashPassword } from './password.ts';
import { startTestApi, type TestApi } from './testing/api.ts';
import { startBrowser, type TestBrowser } from './testing/browser.ts';

const PASSWORD = 'correct horse battery';
const CREDENTIALS = { username: 'admin', password: PASSWORD };
const HASH = await hashPassword(Buffer.from(PASSWORD));
const GENERAL = `
basic_auth_secret_hash = "${HASH}"
pipe_file = "DIR/pipe"
boot_steps = ["network", "time", "config", "disk", "node"]
`;
const TABLES = `
[actions]
rbuilder_restart = ["/bin/true"]
fetch_config = ["/bin/sh", "-c", "echo no answer >&2; exit 1"]
reboot = ["/bin/true", "now"]
`;

let browser: TestBrowser;
beforeAll(async () => {
  browser = await startBrowser();
});
afterAll(() => browser.close());

const start = (general = GENERAL): Promise<TestApi> => startTestApi({ general, tables: TABLES });

/** What a machine that is starting would have written. */
async function writeBoot(api: TestApi): Promise<void> {
  const lines = [
    'boot network done 10.0.2.15 by DHCP',
    'boot time done 3 sources, offset 0.4 ms',
    'boot config running',
    'waiting for the hub (attempt 3): connection refused',
    'boot disk failed no LUKS header on /dev/disk/by-id/virtio-persistent',
    '<script>document.title = "hacked"</script> <b>bold</b> & "quoted"',
  ];
  await appendFile(join(api.directory, 'pipe'), lines.map((line) => `${line}\n`).join(''));
  await api.seen('event:pipe', lines.length);
}

async function picture(page: Page, name: string): Promise<void> {
  const directory = process.env.SCREENSHOTS;
  if (directory === undefined || directory === '') return;
  await mkdir(directory, { recursive: true });
  await page.screenshot({ path: join(directory, `${name}.png`), fullPage: true });
}

describe('without JavaScript', () => {
  test('shows steps, events and actions, from nowhere else', async () => {
    const api = await start();
    await writeBoot(api);
    const context = await browser.open({ javaScriptEnabled: false, httpCredentials: CREDENTIALS });
    const page = await context.newPage();
    const [asked, complaints]: [string[], string[]] = [[], []];
    page.on('request', (request) => asked.push(request.url()));
    page.on('console', (message) => complaints.push(message.text()));
    const answer = await page.goto(`${api.url}/`);
    expect(answer?.status()).toBe(200);
    expect(page.url()).toBe(`${api.url}/ui`);

    const steps = page.getByRole('table').first().getByRole('row');
    expect((await steps.allInnerTexts()).map((text) => text.split('\t').slice(0, 2))).toEqual([
      ['Step', 'State'],
      ['network', '✓ done'],
      ['time', '✓ done'],
      ['config', '… running'],
      ['disk', '✗ failed'],
      ['node', '· pending'],
    ]);
    await page.getByText('no LUKS header on /dev/disk/by-id/virtio-persistent', { exact: true }).waitFor();
    const events = page.getByRole('table').last().getByRole('row');
    expect(await events.nth(1).innerText()).toContain(
      '<script>document.title = "hacked"</script> <b>bold</b> & "quoted"',
    );
    expect(await events.count()).toBe(1 + 6);
    expect(await page.getByRole('listitem').count()).toBe(3);
    expect(new Set(asked.map((url) => new URL(url).origin))).toEqual(new Set([api.url]));
    expect(complaints.filter((text) => /Content Security Policy/i.test(text))).toEqual([]);
  });

  test('runs actions, and says how they ended', async () => {
    const api = await start();
    const context = await browser.open({ javaScriptEnabled: false, httpCredentials: CREDENTIALS });
    const page = await context.newPage();
    await page.goto(`${api.url}/ui`);
    const run = async (name: string) => {
      await page.getByText(name, { exact: true }).click();
      await page.getByRole('button', { name: `Run ${name} now` }).click();
      await page.waitForURL(`${api.url}/ui#actions`);
    };
    await run('rbuilder_restart');
    const items = page.getByRole('listitem');
    expect(await items.nth(0).innerText()).toMatch(/^rbuilder_restart\s*done/);
    await run('fetch_config');
    expect(await items.nth(1).innerText()).toMatch(/^fetch_config\s*failed: exit status 1/);
    expect(await items.nth(2).innerText()).toMatch(/^reboot\s*not run/);
    expect(api.reported.filter((text) => text.startsWith('action:'))).toEqual([
      'action:rbuilder_restart:done',
      'action:fetch_config:exit status 1',
    ]);
    // Loading again repeats nothing.
    await page.reload();
    expect(api.reported.filter((text) => text.startsWith('action:'))).toHaveLength(2);
    expect(await page.getByRole('table').last().innerText()).toContain('(stderr: no answer');
  });

  test('takes the first password, and then asks for it', async () => {
    const api = await start('');
    const context = await browser.open({ javaScriptEnabled: false, httpCredentials: CREDENTIALS });
    const page = await context.newPage();
    await page.goto(api.url);
    expect(await page.getByRole('heading').allInnerTexts()).toContain('First password');
    expect(await page.getByText('rbuilder_restart').count()).toBe(0);
    await picture(page, 'first-password');
    await page.getByLabel('New password').fill(PASSWORD);
    await page.getByLabel('The same again').fill(`${PASSWORD}!`);
    await page.getByRole('button').click();
    await page.getByRole('status').getByText('The two are not the same.').waitFor();
    await page.getByLabel('New password').fill(PASSWORD);
    await page.getByLabel('The same again').fill(PASSWORD);
    await page.getByRole('button').click();
    await page.getByRole('heading', { name: 'Actions' }).waitFor();
    expect((await api.call('GET /ui')).status).toBe(401);
    expect((await api.call('GET /ui', { auth: `admin:${PASSWORD}` })).status).toBe(200);
  });

  test('loads itself again where asked to', async () => {
    const api = await start();
    const context = await browser.open({ javaScriptEnabled: false, httpCredentials: CREDENTIALS });
    const page = await context.newPage();
    await page.goto(`${api.url}/ui`);
    await page.getByRole('link', { name: 'every 5 seconds' }).click();
    // The page, what the link leads to, and that again.
    await api.seen('answered:200', 3);
  });
});

describe('looks', () => {
  test.each(['light', 'dark'] as const)('%s: all text can be read', async (colorScheme) => {
    const api = await start();
    await writeBoot(api);
    await api.call('GET /api/v1/actions/rbuilder_restart', { auth: `admin:${PASSWORD}` });
    await api.call('GET /api/v1/actions/fetch_config', { auth: `admin:${PASSWORD}` });
    const context = await browser.open({
      colorScheme,
      httpCredentials: CREDENTIALS,
      viewport: { width: 1100, height: 900 },
      bypassCSP: true,
    });
    const page = await context.newPage();
    await page.goto(`${api.url}/ui`);
    const contrasts = await page.evaluate<{ text: string; contrast: number }[]>(CONTRASTS);
    expect(contrasts.length).toBeGreaterThan(20);
    // WCAG 2.2, 1.4.3.
    for (const { text, contrast } of contrasts) expect(contrast, text).toBeGreaterThanOrEqual(4.5);
    const background = await page.evaluate<string>('getComputedStyle(document.body).backgroundColor');
    const [red = 0] = (background.match(/\d+/g) ?? []).map(Number);
    expect(red > 128).toBe(colorScheme === 'light');
    await page.getByText('reboot', { exact: true }).click();
    await picture(page, colorScheme);
  });

  test('a telephone: nothing is wider than the screen', async () => {
    const api = await start();
    await writeBoot(api);
    const context = await browser.open({
      httpCredentials: CREDENTIALS,
      viewport: { width: 360, height: 700 },
      bypassCSP: true,
    });
    const page = await context.newPage();
    await page.goto(`${api.url}/ui`);
    await picture(page, 'narrow');
    expect(await page.evaluate<number>('document.documentElement.scrollWidth')).toBeLessThanOrEqual(360);
  });
});

/** Runs in the page: contrast of each element with text of its own to what is painted behind it (WCAG 2.2). */
const CONTRASTS = `(() => {
  const numbers = (color) => (color.match(/[\\d.]+/g) ?? []).map(Number);
  const luminance = (color) => {
    const [r, g, b] = numbers(color).map((part) =>
      part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4,
    );
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    if (element === null) return 'rgb(255, 255, 255)';
    const color = getComputedStyle(element).backgroundColor;
    return numbers(color)[3] === 0 ? behind(element.parentElement) : color;
  };
  return [...document.body.querySelectorAll('*')]
    .filter((element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.nodeValue.trim()))
    .map((element) => {
      const [front, back] = [luminance(getComputedStyle(element).color), luminance(behind(element))];
      return {
        text: element.textContent,
        contrast: (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05),
      };
    });
})()`;

describe('with JavaScript, under attack', () => {
  test('what an event says is text, and no script runs', async () => {
    const api = await start();
    await writeBoot(api);
    const context = await browser.open({ httpCredentials: CREDENTIALS });
    const page = await context.newPage();
    await page.goto(`${api.url}/ui`);
    expect(await page.title()).not.toContain('hacked');
    // Also one that had got into the page somehow would not.
    const complaints: string[] = [];
    page.on('console', (message) => complaints.push(message.text()));
    await page.evaluate(`{
      const script = document.createElement('script');
      script.textContent = 'document.title = "hacked"';
      document.body.append(script);
    }`);
    expect(await page.title()).not.toContain('hacked');
    expect(complaints.join()).toContain('Content Security Policy');
  });

  test('another site cannot use the operator’s browser', async () => {
    const api = await start();
    const attacker = createServer((request, response) => {
      response.setHeader('content-type', 'text/html');
      response.end(ATTACKS(api.url)[request.url ?? ''] ?? 'nothing');
    });
    attacker.listen(0, '127.0.0.1');
    onTestFinished(() => void attacker.close());
    await new Promise((resolve) => attacker.once('listening', resolve));
    let refusals = 0;
    // Another site, and the same site at another port.
    for (const host of ['localhost', '127.0.0.1']) {
      const evil = `http://${host}:${(attacker.address() as AddressInfo).port}`;
      const context = await browser.open({ httpCredentials: CREDENTIALS });
      const page = await context.newPage();
      // The browser knows the credentials from here on.
      await page.goto(`${api.url}/ui`);
      for (const path of Object.keys(ATTACKS(api.url))) {
        // The server's word: what the browser does with the answer is another matter.
        refusals += 1;
        await page.goto(evil + path);
        await api.seen('answered:403', refusals);
      }
      await page.goto(`${evil}/nothing`);
    }
    expect(api.reported.filter((text) => /^(?:action|password)/.test(text))).toEqual([]);
  });
});

/** Pages that make a browser send something to the API. */
const ATTACKS = (api: string): Readonly<Record<string, string>> => ({
  '/picture': `<img src="${api}/api/v1/actions/reboot">`,
  '/fetch': `<script>fetch('${api}/api/v1/actions/reboot', { mode: 'no-cors', credentials: 'include' })</script>`,
  '/form': `<form method="post" action="${api}/ui/actions/reboot"></form><script>document.forms[0].submit()</script>`,
  '/password': `<form method="post" enctype="text/plain" action="${api}/api/v1/set-basic-auth"><input name="new password" value="x"></form><script>document.forms[0].submit()</script>`,
  '/link': `<script>location = '${api}/api/v1/actions/reboot'</script>`,
  '/frame': `<iframe src="${api}/ui"></iframe>`,
});
