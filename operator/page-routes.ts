/**
 * The page's requests: reading it, and its two forms. A form counts only with a token from the page itself; its answer
 * leads back to the page, so that loading it again repeats nothing.
 */
import { hostname } from 'node:os';
import type { Context } from 'hono';
import { MAX_PASSWORD_BYTES } from './access.ts';
import type { ActionOutcome } from './actions.ts';
import type { Answers } from './answers.ts';
import { type AddRoute, type AppModules, changePassword, type Env } from './app-context.ts';
import { FormTokens } from './form-tokens.ts';
import { type Notice, PAGE_POLICY, renderFirstPassword, renderPage } from './page.ts';
import { readBody } from './request-body.ts';

/** Percent-encoding triples a password, which is there twice. */
const MAX_FORM_BYTES = 6 * MAX_PASSWORD_BYTES + 1024;
/** As many as a person reads; the whole list is on /logs. */
const EVENTS_SHOWN = 200;
const REFRESH_SECONDS = 5;
const HEADERS = {
  'content-security-policy': PAGE_POLICY,
  'cache-control': 'no-store',
  // Not `no-referrer`: browsers would then send the forms with `Origin: null`.
  'referrer-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
};

export function addPage(on: AddRoute, answers: Answers, modules: AppModules): void {
  const { access, actions, bodies, bootSteps, log, now } = modules;
  const tokens = new FormTokens(now);
  const host = hostname();

  const show = (c: Context<Env>, status: 200 | 400 | 403 | 409 | 500 | 503, notice: Notice | undefined) => {
    const generation = c.get('generation');
    const token = tokens.make(generation);
    if (!access.hasPassword && !access.open) {
      return c.html(renderFirstPassword(host, token, access.canChange, notice), status, HEADERS);
    }
    const events = log.list();
    const page = renderPage({
      host,
      token,
      notice,
      steps: bootSteps.list(),
      events: events.slice(-EVENTS_SHOWN).toReversed(),
      eventsInAll: events.length,
      actions: actions.list(),
      canSetPassword: access.canChange,
      refresh: c.req.query('refresh') === String(REFRESH_SECONDS) ? REFRESH_SECONDS : 0,
    });
    return c.html(page, status, HEADERS);
  };
  const bad = (text: string): Notice => ({ kind: 'bad', text });

  /** @returns the fields of a form of ours, or the answer to one that is not. */
  const readForm = async (c: Context<Env>): Promise<URLSearchParams | Response> => {
    const body = await readBody(c.env.incoming, MAX_FORM_BYTES, bodies);
    if (!Buffer.isBuffer(body)) return answers.error(body.status, body.reason);
    const form = new URLSearchParams(body.toString('utf8'));
    if (tokens.isGood(form.get('token') ?? '', c.get('generation'))) return form;
    return show(c, 403, bad('This form was too old, or not of this page. Nothing was done; try again.'));
  };

  on('GET', '/ui', (c) => show(c, 200, undefined));
  on('POST', '/ui/actions/:name', async (c) => {
    const form = await readForm(c);
    if (form instanceof Response) return form;
    const name = c.req.param('name') ?? '';
    const outcome = await actions.run(name);
    // How it went stands beside the action.
    if (outcome.kind === 'done' || outcome.kind === 'failed') return c.redirect('/ui#actions', 303);
    return show(c, outcome.kind === 'crowded' ? 503 : 409, bad(whyNotRun(outcome, name)));
  });
  on('POST', '/ui/password', async (c) => {
    const form = await readForm(c);
    if (form instanceof Response) return form;
    const password = form.get('password') ?? '';
    if (password !== form.get('again')) return show(c, 400, bad('The two are not the same.'));
    const change = await changePassword(Buffer.from(password), c.get('generation'), modules);
    switch (change.kind) {
      case 'changed':
        return c.redirect('/ui', 303);
      case 'refused':
        return show(c, 400, bad(change.reason.replace(/^body:/, 'The password')));
      case 'unsupported':
        return show(c, 400, bad('This machine is not configured to take a password.'));
      case 'stale':
        return answers.unauthorized();
      case 'failed':
        return show(c, 500, bad('The password could not be stored.'));
    }
  });
}

function whyNotRun({ kind }: ActionOutcome, name: string): string {
  if (kind === 'running') return `${name} is running already.`;
  return kind === 'crowded' ? 'Too many actions are running.' : 'There is no such action.';
}
