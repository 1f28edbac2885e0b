/** What an uploaded file must be before it takes the place of the old one. Every refusal names the place. */

export const UPLOAD_CHECKS = ['addresses', 'json', 'none'] as const;
export type UploadCheck = (typeof UPLOAD_CHECKS)[number];

/**
 * @param content the whole file
 * @returns why it is refused, or undefined. Never quotes the content.
 */
export function checkUpload(check: UploadCheck, content: Uint8Array): string | undefined {
  if (check === 'none') return undefined;
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(content));
  } catch (error) {
    return error instanceof SyntaxError ? 'body: is not JSON' : 'body: is not UTF-8';
  }
  return check === 'addresses' ? notAddresses(value) : undefined;
}

/** The builder's blocklist: a JSON list of 0x-addresses in any case. */
function notAddresses(value: unknown): string | undefined {
  if (!Array.isArray(value)) return 'body: is not a JSON list of addresses';
  const wrong = value.findIndex((entry) => typeof entry !== 'string' || !/^0x[0-9a-fA-F]{40}$/.test(entry));
  return wrong === -1 ? undefined : `body: entry ${wrong} is no address (0x and 40 hex digits)`;
}
