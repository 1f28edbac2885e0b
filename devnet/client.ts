/** A wallet's side of one node's user API: JSON-RPC over kept-alive HTTPS that trusts exactly the node's certificate. */
import { Agent, request as httpsRequest } from 'node:https';

export interface SignedRequest {
  readonly body: Buffer;
  /** Value of `X-Flashbots-Signature`. */
  readonly signature: string;
}

export interface RpcAnswer {
  readonly status: number;
  /** undefined when the answer carries none. */
  readonly result?: unknown;
  readonly error?: { readonly code: number; readonly message: string };
}

export interface UserClient {
  /** @throws when no whole answer comes: the order's fate is then unknown. */
  send(order: SignedRequest): Promise<RpcAnswer>;
  /** Status of `GET` on a path, such as /readyz. */
  status(path: string): Promise<number>;
  close(): void;
}

const ANSWER_TIMEOUT_MS = 10_000;

/** @param certificatePem the node's certificate, the only one that is trusted. */
export function createUserClient(url: string, certificatePem: string): UserClient {
  const agent = new Agent({ keepAlive: true, ca: certificatePem, maxSockets: 32 });

  function exchange(path: string, order: SignedRequest | null): Promise<{ status: number; text: string }> {
    const { promise, resolve, reject } = Promise.withResolvers<{ status: number; text: string }>();
    const request = httpsRequest(
      new URL(path, url),
      {
        agent,
        method: order === null ? 'GET' : 'POST',
        timeout: ANSWER_TIMEOUT_MS,
        headers:
          order === null
            ? {}
            : {
                'content-type': 'application/json',
                'content-length': order.body.length,
                'x-flashbots-signature': order.signature,
              },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }),
        );
      },
    );
    request.on('error', reject);
    request.on('timeout', () => request.destroy(new Error(`no answer within ${ANSWER_TIMEOUT_MS} ms`)));
    request.end(order?.body);
    return promise;
  }

  return {
    async send(order) {
      const { status, text } = await exchange('/', order);
      return { status, ...parseAnswer(text) };
    },
    async status(path) {
      return (await exchange(path, null)).status;
    },
    close() {
      agent.destroy();
    },
  };
}

function parseAnswer(text: string): Omit<RpcAnswer, 'status'> {
  try {
    const { result, error } = JSON.parse(text) as Partial<RpcAnswer>;
    return { ...(result !== undefined && { result }), ...(error !== undefined && { error }) };
  } catch {
    return { error: { code: 0, message: text.slice(0, 200) } };
  }
}
