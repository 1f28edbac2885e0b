/**
 * The development hub's HTTP API: BuilderHub's, as far as a node, the sender and whoever sets a network up use it.
 * Public, internal and admin API share one listener here. Statuses, bodies and content types are BuilderHub's,
 * down to JSON that is labelled text/plain.
 *
 * Left out: the event log, metrics and draining.
 */
import { randomInt, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { getConnInfo } from '@hono/node-server/conninfo';
import { type Context, Hono } from 'hono';
import { HTTPException } from 'hono/http-exception';
import { keccak256 } from '../../pipeline/keccak.ts';
import { callerByHeaders, callerByName } from './caller.ts';
import { BadRequest, readBuilder, readCredentials, readJson, readMeasurement, readObject } from './decode.ts';
import type { Builder, HubState } from './state.ts';

export interface HubAppOptions {
  /** Basic auth `admin:PASSWORD` on the admin API; without it only this machine may use that API. */
  readonly adminPassword: string | undefined;
  /** How nodes are known on this listener; `trusting` unless set. */
  readonly nodes?: NodeTrust | undefined;
}

/**
 * `trusting`: by the path on this machine; by the headers of an attesting proxy, which must tell of an attestation
 * once a measurement has been entered. `header`: by those headers alone, always. `none`: nodes are served elsewhere.
 */
export type NodeTrust =
  | 'trusting'
  | 'header'
  | 'none'
  /** By what a node has proven on its connection, in the form of those headers. */
  | { readonly provenBy: (request: IncomingMessage) => Readonly<Record<string, string>> };

/** Certificates and configurations are far below this. */
const MAX_BODY_BYTES = 1024 * 1024;
const PRODUCTION = 'production';

type Handler = (context: Context) => Response | Promise<Response>;

/** @returns the API as a fetch handler for @hono/node-server */
export function createHubApp(state: HubState, options: HubAppOptions): Hono {
  const app = new Hono();
  app.notFound((context) => context.text('404 page not found\n', 404));
  on(app, 'GET', '/livez', ok);
  on(app, 'GET', '/readyz', ok);
  const nodes = options.nodes ?? 'trusting';
  if (nodes !== 'none') app.route('/', nodeApi(state, nodes));
  if (nodes === 'trusting') app.route('/as/:caller', nodeApi(state, nodes));
  app.route('/api/internal/l1-builder', internalApi(state));
  app.route('/api/admin/v1', adminApi(state, options));
  return app;
}

/** What nodes call. */
function nodeApi(state: HubState, nodes: NodeTrust): Hono {
  const app = new Hono();
  const known = (handle: (caller: Builder, context: Context) => Response | Promise<Response>): Handler => {
    return (context) => {
      const caller = callerOf(state, context, nodes);
      return caller === undefined ? empty(403) : handle(caller, context);
    };
  };
  on(
    app,
    'POST',
    '/api/l1-builder/v1/register_credentials/:service',
    known(async (caller, context) => {
      const credentials = readCredentials(await bodyOf(context));
      if (credentials instanceof BadRequest) return badRequest(credentials);
      // A registration replaces the whole earlier one of that service.
      caller.credentials.set(context.req.param('service') ?? '', credentials);
      await state.save();
      return ok();
    }),
  );
  on(
    app,
    'GET',
    '/api/l1-builder/v1/builders',
    known((caller) => json(listOf(state, caller.network))),
  );
  on(
    app,
    'GET',
    '/api/l1-builder/v1/configuration',
    known((caller) => document(caller.secrets)),
  );
  on(app, 'GET', '/api/l1-builder/v1/measurements', () =>
    json(
      [...state.measurements.values()]
        .filter((measurement) => measurement.active)
        .map(({ active: _active, ...measurement }) => measurement),
    ),
  );
  return app;
}

/** Lists for Flashbots' own infrastructure; BuilderHub asks no credentials for them. */
function internalApi(state: HubState): Hono {
  const app = new Hono();
  on(app, 'GET', '/v1/builders', () => json(listOf(state, PRODUCTION)));
  on(app, 'GET', '/v2/network/:network/builders', (context) =>
    json(listOf(state, context.req.param('network') ?? '')),
  );
  return app;
}

function adminApi(state: HubState, options: HubAppOptions): Hono {
  const app = new Hono();
  app.use(async (context, next) => {
    if (isAdmin(context, options.adminPassword)) return next();
    return context.text('Unauthorized', 401, { 'WWW-Authenticate': 'Basic realm=admin' });
  });
  const changed = async (): Promise<Response> => {
    await state.save();
    return ok();
  };

  on(app, 'POST', '/measurements', async (context) => {
    const measurement = readMeasurement(await bodyOf(context));
    if (measurement instanceof BadRequest) return badRequest(measurement);
    if (state.measurements.has(measurement.measurement_id)) return empty(500);
    state.measurements.set(measurement.measurement_id, measurement);
    return changed();
  });
  on(app, 'POST', '/measurements/activation/:id', async (context) => {
    const enabled = readEnabled(await bodyOf(context));
    if (enabled instanceof BadRequest) return badRequest(enabled);
    const measurement = state.measurements.get(context.req.param('id') ?? '');
    if (measurement !== undefined) measurement.active = enabled;
    return changed();
  });

  on(app, 'POST', '/builders', async (context) => {
    const builder = readBuilder(await bodyOf(context));
    if (builder instanceof BadRequest) return badRequest(builder);
    if (state.builders.has(builder.name)) return empty(500);
    state.builders.set(builder.name, {
      ...builder,
      active: false,
      credentials: new Map(),
      configuration: undefined,
      secrets: undefined,
    });
    return changed();
  });
  on(app, 'POST', '/builders/activation/:name', async (context) => {
    const enabled = readEnabled(await bodyOf(context));
    if (enabled instanceof BadRequest) return badRequest(enabled);
    const builder = builderOf(state, context);
    if (builder === undefined) return ok();
    if (enabled && builder.configuration === undefined) {
      return badRequest(new BadRequest('active config not found: please set config for the builder first'));
    }
    builder.active = enabled;
    return changed();
  });
  on(app, 'POST', '/builders/configuration/:name', async (context) => {
    const configuration = readJson(await bodyOf(context));
    if (configuration instanceof BadRequest) return badRequest(new BadRequest('invalid json'));
    const builder = builderOf(state, context);
    if (builder === undefined) return empty(500);
    builder.configuration = configuration;
    return changed();
  });
  on(app, 'GET', '/builders/configuration/:name/active', (context) => {
    const configuration = builderOf(state, context)?.configuration;
    return configuration === undefined ? empty(404) : json(configuration);
  });
  on(app, 'GET', '/builders/configuration/:name/full', (context) =>
    document(builderOf(state, context)?.secrets),
  );
  on(app, 'POST', '/builders/secrets/:name', async (context) => {
    const secrets = readJson(await bodyOf(context));
    if (secrets instanceof BadRequest) return badRequest(new BadRequest('invalid json'));
    const builder = builderOf(state, context);
    if (builder === undefined) return empty(500);
    builder.secrets = secrets;
    return changed();
  });
  return app;
}

/** Adds a route and answers every other method on it with 405. */
function on(app: Hono, method: 'GET' | 'POST', path: string, handler: Handler): void {
  app.on(method, path, handler);
  app.all(path, () => new Response(null, { status: 405, headers: { Allow: method } }));
}

/** hono's own limit rebuilds the request, which the adapter's request cannot stand. */
async function bodyOf(context: Context): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of context.req.raw.body ?? []) {
    length += chunk.length;
    if (length > MAX_BODY_BYTES) throw new HTTPException(413);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function callerOf(state: HubState, context: Context, nodes: NodeTrust): Builder | undefined {
  const name = context.req.param('caller');
  if (name === undefined) {
    if (typeof nodes !== 'object') {
      return callerByHeaders(state, (header) => context.req.header(header), nodes !== 'trusting');
    }
    const { incoming }: { incoming: IncomingMessage } = context.env;
    const proven = nodes.provenBy(incoming);
    return callerByHeaders(state, (header) => proven[header], true);
  }
  return isLocal(context) ? callerByName(state, name) : undefined;
}

function isLocal(context: Context): boolean {
  const { address } = getConnInfo(context).remote;
  return address !== undefined && /^(?:::ffff:)?127\.|^::1$/u.test(address);
}

function isAdmin(context: Context, password: string | undefined): boolean {
  if (password === undefined) return isLocal(context);
  const expected = `Basic ${Buffer.from(`admin:${password}`).toString('base64')}`;
  // Hashes are of one length, which the comparison needs.
  return timingSafeEqual(keccak256(context.req.header('authorization') ?? ''), keccak256(expected));
}

function builderOf(state: HubState, context: Context): Builder | undefined {
  return state.builders.get(context.req.param('name') ?? '');
}

function readEnabled(text: string): boolean | BadRequest {
  const body = readObject(text);
  return body instanceof BadRequest ? body : body.enabled === true;
}

/** Every active builder of a network, also those that registered nothing, in another order each time. */
function listOf(state: HubState, network: string): unknown[] {
  const entries = [...state.builders.values()]
    .filter((builder) => builder.active && builder.network === network)
    .map(entryOf);
  for (let last = entries.length - 1; last > 0; last--) {
    const other = randomInt(last + 1);
    [entries[last], entries[other]] = [entries[other] ?? {}, entries[last] ?? {}];
  }
  return entries;
}

/** Keys in alphabetical order; a service called `name`, `ip` or `dns_name` takes the place of that field. */
function entryOf({ name, ip, dns_name, credentials }: Builder): object {
  const fields = new Map<string, unknown>([
    ['dns_name', dns_name],
    ['ip', ip],
    ['name', name],
    ...credentials,
  ]);
  return Object.fromEntries([...fields].toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

function json(value: unknown): Response {
  return new Response(JSON.stringify(value), { headers: { 'content-type': 'text/plain; charset=utf-8' } });
}

/** A stored document, or the empty body when there is none. */
function document(value: unknown): Response {
  return value === undefined ? ok() : json(value);
}

function badRequest({ message, error }: BadRequest): Response {
  const body = JSON.stringify(error === undefined ? { message } : { message, error });
  return new Response(body, { status: 400, headers: { 'content-type': 'text/plain; charset=utf-8' } });
}

function ok(): Response {
  return empty(200);
}

function empty(status: number): Response {
  return new Response(null, { status });
}
