/**
 * What the API answers with: JSON bodies, or the empty ones of the deployed v0.7.0. Status codes are the same in both;
 * lists of events and the pages for what is not there have the same body in both.
 */
import { eventsAsJson, eventsAsText, goJson, type LoggedEvent } from './event-log.ts';

export type Compat = 'none' | '0.7';

const JSON_TYPE = 'application/json';
const TEXT_TYPE = 'text/plain; charset=utf-8';
/** Answers are of the moment, and none is for another type than it says. */
const ALWAYS = { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' };

export class Answers {
  readonly #empty: boolean;

  constructor(compat: Compat) {
    this.#empty = compat === '0.7';
  }

  ok(body: Readonly<Record<string, string>>): Response {
    return this.#json(200, body, {});
  }

  /** 200 without a body, in both. */
  empty(status = 200): Response {
    return new Response(null, { status, headers: ALWAYS });
  }

  /** @param message says the field and why, where a field is wrong */
  error(code: number, message: string, headers: Readonly<Record<string, string>> = {}): Response {
    return this.#json(code, { code, message }, headers);
  }

  /** The deployed 401, with the challenge that makes a browser ask. */
  unauthorized(): Response {
    return this.error(401, 'Unauthorized', { 'www-authenticate': 'Basic realm="system-api"' });
  }

  events(events: readonly LoggedEvent[], format: 'json' | 'text'): Response {
    const [body, type] =
      format === 'json' ? [eventsAsJson(events), JSON_TYPE] : [eventsAsText(events), TEXT_TYPE];
    return new Response(body, { headers: { ...ALWAYS, 'content-type': type } });
  }

  notFound(): Response {
    return new Response('404 page not found\n', {
      status: 404,
      headers: { ...ALWAYS, 'content-type': TEXT_TYPE },
    });
  }

  wrongMethod(allow: string): Response {
    return new Response(null, { status: 405, headers: { ...ALWAYS, allow } });
  }

  #json(status: number, body: unknown, headers: Readonly<Record<string, string>>): Response {
    if (this.#empty) return new Response(null, { status, headers: { ...ALWAYS, ...headers } });
    return new Response(goJson(body), {
      status,
      headers: { ...ALWAYS, ...headers, 'content-type': JSON_TYPE },
    });
  }
}
