/** The hub as programs of the image call it: one bounded GET. */

/** The attested client may need a new quote first. */
const TIMEOUT_MS = 30_000;
const MAX_BYTES = 4 * 1024 * 1024;

/** The hub answered with another status than 200. */
export class HubStatus extends Error {
  readonly status: number;

  constructor(status: number) {
    super(`the hub answers ${status}`);
    this.name = 'HubStatus';
    this.status = status;
  }
}

/**
 * @param hub base URL
 * @param what last part of the path below `/api/l1-builder/v1/`
 * @returns the body
 * @throws HubStatus; Error when the hub cannot be reached or answers too much
 */
export async function fetchFromHub(hub: string, what: string): Promise<string> {
  const response = await fetch(`${hub}/api/l1-builder/v1/${what}`, {
    signal: AbortSignal.timeout(TIMEOUT_MS),
    redirect: 'error',
  }).catch((error: unknown) => {
    throw new Error(`the hub cannot be reached: ${error instanceof Error ? error.message : String(error)}`);
  });
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new HubStatus(response.status);
  }
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of response.body ?? []) {
    const bytes = chunk as Uint8Array;
    length += bytes.length;
    if (length > MAX_BYTES) throw new Error(`the hub answers more than ${MAX_BYTES} bytes`);
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString('utf8');
}
