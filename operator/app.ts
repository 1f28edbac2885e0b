/**
 * The operator API's requests: the routes, statuses and bodies of the deployed system-api, with who may do what
 * decided before anything else.
 *
 * Limits: a caller chooses among configured names; no path, argument or command comes from a request.
 */
import { type Context, Hono } from 'hono';
import { MAX_PASSWORD_BYTES } from './access.ts';
import { Answers, type Compat } from './answers.ts';
import { type AddRoute, type AppModules, changePassword, type Env } from './app-context.ts';
import { isCrossSite } from './cross-site.ts';
import { addPage } from './page-routes.ts';
import { MAX_PROFILE_SECONDS, takeProfile } from './profile.ts';
import { readBody } from './request-body.ts';

export interface AppOptions {
  readonly compat: Compat;
  readonly livezOpen: boolean;
  readonly pprof: boolean;
}

/** Where a password can be set while there is none. */
const WITHOUT_PASSWORD = ['POST /api/v1/set-basic-auth', 'GET /livez', 'GET /ui', 'POST /ui/password'];

export function createApp(options: AppOptions, modules: AppModules): Hono<Env> {
  const answers = new Answers(options.compat);
  const app = new Hono<Env>();
  // Not by hono's methods: it would give HEAD to the handler of GET, which acts.
  const on: AddRoute = (method, path, handler) => {
    app.all(path, (c) => (c.req.method === method ? handler(c) : answers.wrongMethod(method)));
  };
  app.use(async (c, next) => {
    await next();
    modules.reports.answered(c.res.status);
  });
  app.use(async (c, next) => {
    const refused = await refusal(c, options, modules, answers);
    if (refused !== undefined) return refused;
    await next();
    return undefined;
  });
  app.notFound(() => answers.notFound());
  app.onError((error) => {
    modules.reports.fault(error);
    return answers.error(500, 'a defect of the server; its log has more');
  });

  on('GET', '/', (c) => {
    const wantsPage = options.compat === 'none' && (c.req.header('accept') ?? '').includes('text/html');
    return wantsPage ? c.redirect('/ui', 303) : answers.ok({ status: 'ok' });
  });
  on('GET', '/livez', () => answers.ok({ status: 'ok' }));
  addEvents(on, answers, modules);
  addActions(on, answers, modules);
  addUploads(on, answers, modules);
  addPassword(on, answers, modules);
  if (options.pprof) addProfile(on, answers);
  addPage(on, answers, modules);
  return app;
}

/** @returns the answer to a caller who may not go on, or undefined. */
async function refusal(
  c: Context<Env>,
  { livezOpen }: AppOptions,
  { access, reports }: AppModules,
  answers: Answers,
): Promise<Response | undefined> {
  const { method, path } = c.req;
  const host = c.req.header('host') ?? headerText(c.env.incoming.headers[':authority']);
  if (isCrossSite({ method, path, header: (name) => c.req.header(name), host })) {
    return answers.error(403, 'Origin: the request comes from another site');
  }
  if (livezOpen && path === '/livez') return undefined;
  c.set('generation', access.generation);
  const { remoteAddress = '' } = c.env.incoming.socket;
  const admission = await access.admit(c.req.header('authorization'), remoteAddress);
  reports.login(admission.kind);
  switch (admission.kind) {
    case 'admitted':
      return undefined;
    case 'no password': {
      if (admission.open || WITHOUT_PASSWORD.includes(`${method} ${path}`)) return undefined;
      const wantsPage = path === '/' && (c.req.header('accept') ?? '').includes('text/html');
      if (method === 'GET' && wantsPage) return undefined;
      return answers.error(403, 'there is no password yet: POST it to /api/v1/set-basic-auth');
    }
    case 'none given':
    case 'wrong':
      return answers.unauthorized();
    case 'throttled':
      return answers.error(429, 'Authorization: too many failed logins', {
        'retry-after': String(admission.retryAfter),
      });
    case 'busy':
      return answers.error(503, 'Authorization: too many logins at once', {
        'retry-after': String(admission.retryAfter),
      });
  }
}

function headerText(value: string | string[] | undefined): string | undefined {
  return typeof value === 'string' ? value : value?.[0];
}

function addEvents(on: AddRoute, answers: Answers, { log }: AppModules): void {
  on('GET', '/api/v1/new_event', async (c) => {
    const message = readQuery(c.req.url, 'message');
    if (message === undefined) return answers.error(400, 'message: is not percent-encoded UTF-8');
    await log.add(message, 'http');
    return answers.empty();
  });
  on('GET', '/api/v1/events', (c) => {
    const format = readQuery(c.req.url, 'format');
    if (format === 'text') return answers.events(log.list(), 'text');
    if (format === '' || format === 'json') return answers.events(log.list(), 'json');
    return answers.error(400, 'format: must be json or text');
  });
  on('GET', '/logs', () => answers.events(log.list(), 'text'));
}

/** @returns the first value of a query parameter, '' when there is none, undefined when it is no UTF-8. */
function readQuery(url: string, name: string): string | undefined {
  const start = url.indexOf('?');
  for (const pair of start === -1 ? [] : url.slice(start + 1).split('&')) {
    const equals = pair.indexOf('=');
    if ((equals === -1 ? pair : pair.slice(0, equals)) !== name) continue;
    try {
      return equals === -1 ? '' : decodeURIComponent(pair.slice(equals + 1).replaceAll('+', ' '));
    } catch {
      return undefined;
    }
  }
  return '';
}

function addActions(on: AddRoute, answers: Answers, { actions }: AppModules): void {
  on('GET', '/api/v1/actions/:name', async (c) => {
    const name = c.req.param('name') ?? '';
    const outcome = await actions.run(name);
    switch (outcome.kind) {
      case 'done':
        return answers.ok({ message: 'Action executed successfully' });
      case 'failed':
        return answers.error(500, `Failed to execute action: ${name} - error: ${outcome.failure}`);
      case 'unknown':
        return answers.error(400, 'Specified action not configured');
      case 'running':
        return answers.error(409, `Action is running already: ${name}`);
      case 'crowded':
        return answers.error(503, 'Too many actions are running', { 'retry-after': '5' });
    }
  });
}

function addUploads(on: AddRoute, answers: Answers, { bodies, log, reports, uploads }: AppModules): void {
  on('POST', '/api/v1/file-upload/:name', async (c) => {
    const name = c.req.param('name') ?? '';
    const config = uploads.find(name);
    if (config === undefined) return answers.error(400, 'Specified file upload not configured');
    const body = await readBody(c.env.incoming, config.maxBytes, bodies);
    if (!Buffer.isBuffer(body)) {
      reports.upload(name, 'refused', null);
      return answers.error(body.status, body.reason);
    }
    const outcome = await uploads.store(config, body);
    reports.upload(name, outcome.kind, outcome.kind === 'failed' ? outcome.error : null);
    switch (outcome.kind) {
      case 'refused':
        return answers.error(400, outcome.reason);
      case 'failed':
        return answers.error(500, 'Failed to write content to file');
      case 'stored': {
        const { file, bytes } = outcome;
        await log.add(`[system-api] file upload: ${name} = ${file} (${bytes} bytes)`, 'server');
        return answers.ok({ file, message: 'File uploaded successfully', size_bytes: String(bytes) });
      }
    }
  });
}

function addPassword(on: AddRoute, answers: Answers, modules: AppModules): void {
  on('POST', '/api/v1/set-basic-auth', async (c) => {
    const body = await readBody(c.env.incoming, MAX_PASSWORD_BYTES, modules.bodies);
    if (!Buffer.isBuffer(body)) return answers.error(body.status, body.reason);
    const change = await changePassword(body, c.get('generation'), modules);
    switch (change.kind) {
      case 'changed':
        return answers.ok({ message: 'Basic auth secret updated' });
      case 'refused':
        return answers.error(400, change.reason);
      case 'unsupported':
        return answers.empty(501);
      case 'stale':
        return answers.unauthorized();
      case 'failed':
        return answers.error(500, 'Failed to store the password');
    }
  });
}

function addProfile(on: AddRoute, answers: Answers): void {
  on('GET', '/debug/pprof/profile', async (c) => {
    const text = readQuery(c.req.url, 'seconds');
    const seconds = text === '' ? 30 : Number(text);
    if (!Number.isInteger(seconds) || seconds < 1 || seconds > MAX_PROFILE_SECONDS) {
      return answers.error(400, `seconds: must be a whole number from 1 to ${MAX_PROFILE_SECONDS}`);
    }
    const profile = await takeProfile(seconds);
    if (profile === undefined) return answers.error(409, 'A profile is being taken already');
    return c.body(profile, 200, {
      'content-type': 'application/json',
      'content-disposition': 'attachment; filename="operator-api.cpuprofile"',
      'cache-control': 'no-store',
    });
  });
}
