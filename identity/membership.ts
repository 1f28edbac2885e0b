/**
 * A node's membership in the network, put together: register at the hub, then fetch the peers, keep both up to date
 * and renew the certificate in time (protocol section 6).
 *
 * Nothing here delays serving: registration goes on for ever in the background, and the peers of the last run are
 * in use until the hub answers.
 */
import type { Credentials } from './certificate.ts';
import type { HubClient, HubState } from './hub-client.ts';
import type { Identity } from './identity.ts';
import type { Peer } from './peer.ts';
import type { PeerRegistry } from './registry.ts';
import { pause, systemTimer, type Timer } from './timer.ts';

export interface MembershipOptions {
  /** Nodes register; Flashbots' sender only reads the list. */
  readonly registers: boolean;
  /** Free text that the hub's list shows. */
  readonly region?: string | undefined;
  /** How long the first fetch waits for the registration, in milliseconds; 5,000 unless set. */
  readonly registerFirstMs?: number | undefined;
}

export interface MembershipModules {
  readonly identity: Identity;
  readonly hub: HubClient;
  readonly registry: PeerRegistry;
  readonly timer?: Timer | undefined;
}

export interface Membership {
  /** For `/readyz` and the metrics; a sender counts as registered. */
  readonly state: HubState;
  /** Ends the renewal, the registration and the fetches, and closes the three modules. */
  close(): Promise<void>;
}

/**
 * Starts it.
 *
 * @returns once the peers of the last run are loaded; the hub is not waited for
 */
export async function joinNetwork(
  options: MembershipOptions,
  modules: MembershipModules,
): Promise<Membership> {
  const { identity, hub, registry } = modules;
  await registry.load();
  if (options.registers) startMember(options, modules);
  else registry.start();
  return {
    get state() {
      return options.registers ? hub.state : { registered: true, attempts: 0, lastError: undefined };
    },
    async close() {
      await identity.close();
      // Together: the registry waits for its last call, which the client ends.
      await Promise.all([registry.close(), hub.close()]);
    },
  };
}

function startMember(options: MembershipOptions, modules: MembershipModules): void {
  const { identity, hub, registry, timer = systemTimer } = modules;
  const register = async ({ certificatePem }: Credentials): Promise<void> => {
    const { addressLower: address } = identity.signer;
    await hub.register({ address, certificatePem, region: options.region });
  };
  // It fails only when a renewal takes its place or the node stops; the hub client has reported all else.
  const registerCurrent = () =>
    register(identity.current).then(
      () => registry.refresh(),
      () => undefined,
    );

  // An entry of ours that still has the key of an earlier run would look like a peer, so registering comes first;
  // a hub that takes no registration may still tell the peers.
  const waiting = new AbortController();
  void registerCurrent().finally(() => waiting.abort());
  void pause(timer, options.registerFirstMs ?? 5_000, waiting.signal).then(() => registry.start());
  identity.startRenewal(register);

  // The hub may lose what it knew of us (a restored database, a builder entered anew): then we register again.
  let listed = false;
  registry.fetches.subscribe((own) => {
    const before = listed;
    listed = isListed(own, identity);
    if (before && !listed && !hub.registering) void registerCurrent();
  });
}

function isListed(own: readonly Peer[], { current, signer }: Identity): boolean {
  return own.some(
    (entry) => entry.address === signer.addressLower && entry.fingerprint === current.fingerprint,
  );
}
