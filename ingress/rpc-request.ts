/** What the endpoint (rpc-endpoint.ts) knows of a request, whoever has read it. */
import type { Connection } from './connection.ts';

export interface RpcRequest {
  readonly connection: Connection;
  readonly signature: string | undefined;
  readonly contentType: string | undefined;
  /** Answers it. @param close the connection is not to be used any longer */
  send(status: number, contentType: string, text: string, close: boolean): void;
  /** Ends its connection: nobody waits for an answer, or the body came too slowly. */
  abandon(): void;
}
