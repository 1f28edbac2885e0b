/** Who may call what, and where an order goes (protocol section 5): one row per API. */
import type { Method, Side } from './order.ts';

export interface Route {
  /** Must the request carry a signature? A signature that is there is always checked. */
  readonly signature: 'required' | 'optional';
  /** Whose signature counts. */
  readonly signer: 'anyone' | 'listed peer or Flashbots';
  readonly builder: boolean;
  readonly peers: boolean;
  /** Archived before the answer. */
  readonly archive: boolean;
  readonly rateLimited: boolean;
}

export const ROUTES: Readonly<Record<Side, Route>> = {
  user: {
    signature: 'required',
    signer: 'anyone',
    builder: true,
    peers: true,
    archive: true,
    rateLimited: true,
  },
  system: {
    signature: 'required',
    signer: 'listed peer or Flashbots',
    builder: true,
    peers: false,
    archive: false,
    rateLimited: false,
  },
  sender: {
    signature: 'optional',
    signer: 'anyone',
    builder: false,
    peers: true,
    archive: false,
    rateLimited: false,
  },
};

/** Name under which a user's request is counted. */
export const USER_CALLER = 'user';

/** Subsidies are Flashbots' word to one builder: never archived, and shared by Flashbots' sender alone. */
export function isArchived(route: Route, method: Method): boolean {
  return route.archive && method !== 'bid_subsidiseBlock';
}

/** Is an order of this method, on this route, sent on to the peers? */
export function isShared(route: Route, side: Side, method: Method): boolean {
  return route.peers && (method !== 'bid_subsidiseBlock' || side === 'sender');
}
