/** What the endpoint (rpc-endpoint.ts) knows of a request, whoever has read it. */
import type { Arrival, ShownCertificate } from '../pipeline/submission.ts';
import type { Connection } from './connection.ts';

/** The pipeline's arrival, once it has its body. */
export interface RpcRequest extends Arrival {
  body: Buffer;
  certificate: ShownCertificate | undefined;
  receivedAtUs: number;
  readonly connection: Connection;
  readonly contentType: string | undefined;
  /** Answers; `respond` is the same with JSON. @param close the connection is not to be used any longer */
  send(status: number, contentType: string, text: string, close: boolean): void;
  /** Ends its connection: nobody waits for an answer, or the body came too slowly. */
  abandon(): void;
}
