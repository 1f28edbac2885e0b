/**
 * Keeps other web sites from using the operator's browser, which sends the credentials it knows wherever a page points
 * it, and actions are plain GETs. Browsers say where a request comes from (Fetch Metadata, and Origin for forms);
 * other programs say nothing and are no danger of this kind.
 */

export interface RequestOrigin {
  readonly method: string;
  readonly path: string;
  /** Of a header, by its name in lower case. */
  readonly header: (name: string) => string | undefined;
  /** Host and port as the client wrote them. */
  readonly host: string | undefined;
}

/** What a link on another site may lead to: nothing happens there. */
const PAGES = ['/', '/ui'];

/** @returns whether a browser sent this on behalf of another site. */
export function isCrossSite({ method, path, header, host }: RequestOrigin): boolean {
  const origin = header('origin');
  if (origin !== undefined && URL.parse(origin)?.host !== host) return true;
  const site = header('sec-fetch-site');
  if (site === undefined || site === 'same-origin' || site === 'none') return false;
  const isLink = method === 'GET' && header('sec-fetch-mode') === 'navigate';
  return !(isLink && header('sec-fetch-dest') === 'document' && PAGES.includes(path));
}
