import { expect, test } from 'vitest';
import { type PageContent, renderPage } from './page.ts';

const EVIL = '<script>alert(1)</script>"\'&\u001b[31m\u202e';
const EMPTY: PageContent = {
  host: 'node',
  token: 'token',
  steps: [],
  events: [],
  eventsInAll: 0,
  actions: [],
  canSetPassword: true,
  notice: undefined,
  refresh: 0,
};
const receivedAt = '2026-06-01T00:00:00Z';

test.each([
  ['an event', { events: [{ receivedAt, message: EVIL }] }],
  ['the detail of a step', { steps: [{ name: 'a', state: 'failed', since: receivedAt, detail: EVIL }] }],
] as const)('%s is neither markup nor a control character', async (_, content) => {
  const page = String(await renderPage({ ...EMPTY, ...content }));
  expect(page).toContain('&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;\\x1b[31m\\u202e');
  for (const raw of ['<script', '\u001b', '\u202e']) expect(page).not.toContain(raw);
});

test.each([
  ['a notice', { notice: { kind: 'bad', text: EVIL } }],
  ['an action', { actions: [{ name: 'a', command: EVIL, last: undefined }] }],
  [
    'its failure',
    { actions: [{ name: 'a', command: 'c', last: { startedAt: 1, endedAt: 2, failure: EVIL } }] },
  ],
  ['the name of the machine', { host: EVIL }],
  ['the token', { token: EVIL }],
] as const)('%s is no markup', async (_, content) => {
  const page = String(await renderPage({ ...EMPTY, ...content }));
  expect(page).toContain('&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;');
  expect(page).not.toContain('<script');
});
