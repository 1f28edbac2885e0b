/** What a node that starts again takes over from its archive: the orders that it acknowledged a moment ago. */
import { userOrderKey } from './decode.ts';
import type { OrderWindow } from './dedupe.ts';
import type { Address, Method } from './order.ts';

/**
 * Takes a user order of an earlier run, which the archive holds, into the dedupe window: its sender may not have
 * got the answer and send it again. It is not archived twice then, but it is forwarded, because what waited for
 * builder and peers when that run ended is lost. Oldest first, before the first order of this run.
 */
export function rememberOrder(
  window: OrderWindow,
  order: { readonly method: Method; readonly canonical: Uint8Array; readonly signer: Address },
  receivedAtUs: number,
): void {
  const key = userOrderKey(order.method, order.canonical, order.signer);
  if (key !== null) window.add(key, receivedAtUs, 'durable', false);
}
