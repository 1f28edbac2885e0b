/**
 * The operator's page: what the machine's start has come to, the events, the actions. Plain HTML with its one style
 * sheet inside; no script, no other asset, light and dark by the browser's choice. Everything that comes from elsewhere
 * is escaped by hono's `html`.
 */
import { createHash } from 'node:crypto';
import { html, raw } from 'hono/html';
import type { LastRun } from './actions.ts';
import type { BootStep } from './boot-steps.ts';
import { type LoggedEvent, visible } from './event-log.ts';

export interface PageContent {
  /** The machine's own name. */
  readonly host: string;
  readonly token: string;
  readonly steps: readonly BootStep[];
  /** Newest first, not all of them. */
  readonly events: readonly LoggedEvent[];
  readonly eventsInAll: number;
  readonly actions: readonly { name: string; command: string; last: LastRun | undefined }[];
  readonly canSetPassword: boolean;
  /** What came of the form that was sent last. */
  readonly notice: Notice | undefined;
  /** Seconds after which the browser loads the page again; 0 = never. */
  readonly refresh: number;
}

export interface Notice {
  readonly kind: 'good' | 'bad';
  readonly text: string;
}

type Markup = ReturnType<typeof html>;

const STYLE = `
:root{color-scheme:light dark;--ink:#16202a;--dim:#586675;--line:#d5dbe1;--card:#fff;--ground:#f1f4f6;--good:#14713d;--bad:#b3261e;--busy:#8a5a00;--link:#0b5cad}
@media(prefers-color-scheme:dark){:root{--ink:#e4e9ee;--dim:#9aa7b4;--line:#33404c;--card:#1a222a;--ground:#11171c;--good:#57c98a;--bad:#ff8a80;--busy:#e9b949;--link:#7ab8ff}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:64rem;margin:0 auto;padding:1.5rem 1rem 3rem}
header{display:flex;flex-wrap:wrap;gap:.25rem 1rem;align-items:baseline;justify-content:space-between}
h1{font-size:1.35rem;margin:0;overflow-wrap:anywhere}
h2{font-size:1rem;margin:0 0 .75rem}
section{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:1rem 1.25rem;margin-top:1rem}
p{margin:.25rem 0}
a{color:var(--link)}
.dim{color:var(--dim)}
.good{color:var(--good)}.bad{color:var(--bad)}.busy{color:var(--busy)}
.notice{border-left:4px solid currentColor}
table{border-collapse:collapse;width:100%}
th{text-align:left;font-weight:600;color:var(--dim);font-size:.85rem}
th,td{padding:.4rem .75rem .4rem 0;vertical-align:top;border-bottom:1px solid var(--line)}
tr:last-child td{border-bottom:0}
time,code,td.text{font-family:ui-monospace,monospace;font-size:.85rem}
time,.state{white-space:nowrap}
code,td.text{overflow-wrap:anywhere;white-space:pre-wrap}
td.when,td.state{width:1%}
@media(max-width:40rem){thead{display:none}tr,td,td.when,td.state{display:block;width:auto}td{border:0;padding:0}tr{padding:.4rem 0;border-bottom:1px solid var(--line)}tr:last-child{border-bottom:0}}
.actions{list-style:none;margin:0;padding:0}
.actions>li{padding:.6rem 0;border-bottom:1px solid var(--line)}
.actions>li:last-child{border-bottom:0}
summary{cursor:pointer}
summary strong{margin-right:.75rem}
details form{margin:.75rem 0 .25rem}
button{font:inherit;padding:.4rem .9rem;border:1px solid var(--line);border-radius:.35rem;background:var(--ink);color:var(--card);cursor:pointer}
label{display:block;margin:.5rem 0}
input{font:inherit;display:block;width:100%;max-width:22rem;padding:.4rem;border:1px solid var(--dim);border-radius:.35rem;background:var(--ground);color:var(--ink)}
:focus-visible{outline:3px solid var(--link);outline-offset:2px}
`;

/** Nothing but this page's own style sheet is taken by a browser, and forms go nowhere else. */
export const PAGE_POLICY = [
  "default-src 'none'",
  `style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'`,
  "form-action 'self'",
  "frame-ancestors 'none'",
  "base-uri 'none'",
].join('; ');

const MARKS: Readonly<Record<BootStep['state'], readonly [sign: string, look: string]>> = {
  pending: ['·', 'dim'],
  running: ['…', 'busy'],
  done: ['✓', 'good'],
  failed: ['✗', 'bad'],
};

/** @returns the page of an operator who is logged in. */
export function renderPage(content: PageContent): Markup {
  const { host, steps, events, eventsInAll, actions, token, notice, refresh } = content;
  const refreshing = refresh === 0 ? '' : html`<meta http-equiv="refresh" content="${refresh}" />`;
  return document(
    host,
    refreshing,
    html`<header>
        <h1>${host}</h1>
        <p>
          <a href="/ui">Load again</a> ·
          ${refresh === 0 ? html`<a href="/ui?refresh=5">every 5 seconds</a>` : html`every ${refresh} seconds`}
        </p>
      </header>
      ${renderNotice(notice)}
      <section aria-labelledby="boot">
        <h2 id="boot">Start of the machine</h2>
        ${steps.length === 0 ? html`<p class="dim">No step has been reported.</p>` : renderSteps(steps)}
      </section>
      <section aria-labelledby="actions">
        <h2 id="actions">Actions</h2>
        ${actions.length === 0 ? html`<p class="dim">None is configured.</p>` : renderActions(actions, token)}
      </section>
      <section aria-labelledby="events">
        <h2 id="events">Events</h2>
        ${events.length === 0 ? html`<p class="dim">None so far.</p>` : renderEvents(events)}
        ${
          events.length < eventsInAll
            ? html`<p class="dim">The newest ${events.length} of ${eventsInAll}; <a href="/logs">all of them</a>.</p>`
            : ''
        }
      </section>
      ${
        content.canSetPassword
          ? html`<section aria-labelledby="password">
              <h2 id="password">Password</h2>
              <details><summary>Change it</summary>${passwordForm(token, 'Change the password')}</details>
            </section>`
          : ''
      }`,
  );
}

/** @returns the page of a machine without a password: a form for the first one, if it can be set. */
export function renderFirstPassword(
  host: string,
  token: string,
  canSet: boolean,
  notice: Notice | undefined,
): Markup {
  return document(
    host,
    '',
    html`<header><h1>${host}</h1></header>
      ${renderNotice(notice)}
      <section aria-labelledby="password">
        <h2 id="password">First password</h2>
        ${
          canSet
            ? html`<p>Nothing else is served before there is one. The user is <code>admin</code>.</p>
                ${passwordForm(token, 'Set the password')}`
            : html`<p>There is none, and this machine is not configured to take one.</p>`
        }
      </section>`,
  );
}

function document(host: string, head: Markup | string, body: Markup): Markup {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width" />
${head}
<title>${host}: operator</title>
<style>${raw(STYLE)}</style>
</head>
<body><main>${body}</main></body>
</html>`;
}

function renderNotice(notice: Notice | undefined): Markup | string {
  return notice === undefined
    ? ''
    : html`<section class="notice ${notice.kind}" role="status"><p>${notice.text}</p></section>`;
}

function renderSteps(steps: readonly BootStep[]): Markup {
  return html`<table>
    <thead><tr><th scope="col">Step</th><th scope="col">State</th><th scope="col">Since</th><th scope="col">Detail</th></tr></thead>
    <tbody>${steps.map(({ name, state, since, detail }) => {
      const [sign, look] = MARKS[state];
      return html`<tr><td>${name}</td><td class="state ${look}"><span aria-hidden="true">${sign}</span> ${state}</td><td class="when">${time(since)}</td><td class="text">${visible(detail)}</td></tr>`;
    })}</tbody>
  </table>`;
}

function renderActions(
  actions: readonly { name: string; command: string; last: LastRun | undefined }[],
  token: string,
): Markup {
  return html`<ul class="actions">${actions.map(
    ({ name, command, last }) => html`<li>
      <details>
        <summary><strong>${name}</strong>${renderLast(last)}</summary>
        <p><code>${command}</code></p>
        <form method="post" action="/ui/actions/${name}">
          <input type="hidden" name="token" value="${token}" />
          <button type="submit">Run ${name} now</button>
        </form>
      </details>
    </li>`,
  )}</ul>`;
}

function renderLast(last: LastRun | undefined): Markup {
  if (last === undefined) return html`<span class="dim">not run</span>`;
  const started = new Date(last.startedAt).toISOString();
  if (last.endedAt === null) return html`<span class="busy">running since ${time(started)}</span>`;
  if (last.failure === null)
    return html`<span class="good">done</span> <span class="dim">${time(started)}</span>`;
  return html`<span class="bad">failed: ${last.failure}</span> <span class="dim">${time(started)}</span>`;
}

function renderEvents(events: readonly LoggedEvent[]): Markup {
  return html`<table>
    <thead><tr><th scope="col">Received</th><th scope="col">Event</th></tr></thead>
    <tbody>${events.map(
      ({ receivedAt, message }) =>
        html`<tr><td class="when">${time(receivedAt)}</td><td class="text">${visible(message.trimEnd())}</td></tr>`,
    )}</tbody>
  </table>`;
}

function passwordForm(token: string, button: string): Markup {
  return html`<form method="post" action="/ui/password">
    <input type="hidden" name="token" value="${token}" />
    <label>New password, at least 8 characters
      <input type="password" name="password" autocomplete="new-password" required minlength="8" maxlength="256" /></label>
    <label>The same again
      <input type="password" name="again" autocomplete="new-password" required minlength="8" maxlength="256" /></label>
    <button type="submit">${button}</button>
  </form>`;
}

/** To the second, in UTC; the whole value is for machines. */
function time(receivedAt: string): Markup | string {
  if (receivedAt === '') return '';
  const shown = receivedAt.replace('T', ' ').replace(/(?:\.\d+)?Z$/, ' UTC');
  return html`<time datetime="${receivedAt}">${shown}</time>`;
}
