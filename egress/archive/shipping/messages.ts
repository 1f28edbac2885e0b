/** What the node's thread and the shipping thread say to each other. */
import type { ShipperEvents, ShipperOptions } from './shipper.ts';
import type { SpoolPosition } from './watermark.ts';

/** What the thread is started with. */
export interface ThreadStart {
  readonly options: ShipperOptions;
  readonly durable: SpoolPosition;
}

export type ToThread =
  | { readonly kind: 'durable'; readonly durable: SpoolPosition }
  | { readonly kind: 'close'; readonly durable: SpoolPosition; readonly graceMs: number };

/** One call of the events' interface. */
export type EventCall = {
  [K in keyof ShipperEvents]: { readonly name: K; readonly args: Parameters<ShipperEvents[K]> };
}[keyof ShipperEvents];

export type FromThread =
  /** It has read everything up to here and wants to know when there is more. */
  | { readonly kind: 'ask'; readonly known: SpoolPosition }
  | { readonly kind: 'event'; readonly call: EventCall };
