/**
 * What a machine finds outside: hub, time, who quotes for it, where private programs are released. It is in the
 * image, so it is measured. No option chooses it: a development image has stand-ins on the machine that runs it, the
 * others what the network has, and what nobody has named yet keeps them from being built.
 */
import { isDevelopment, type Profile } from './profiles.ts';

export interface Surroundings {
  /** Base URL of the hub, https; null: not named yet. */
  readonly hub: string | null;
  /** Who vouches for the hub's certificate: a file of the image, or the authorities of the web. */
  readonly hubAuthority: string | null;
  /** Lines of chrony.conf. */
  readonly time: readonly string[];
  /** Base URL of a program that quotes in the machine's place; null: the machine itself. */
  readonly quotes: string | null;
  /** Base URL of private programs, `…/NAME`; null: not named yet. */
  readonly releases: string | null;
  /** Where the consensus client starts from. */
  readonly checkpoint: string;
}

/** QEMU's name for the machine it runs on: where the stand-ins of a development network listen. */
const HOST = '10.0.2.2';

/** Where the authority of a development hub is, in the image. */
const DEVELOPMENT_AUTHORITY = '/usr/share/orderflow/development-hub.pem';

export const DEVELOPMENT: Surroundings = {
  hub: `https://${HOST}`,
  hubAuthority: DEVELOPMENT_AUTHORITY,
  time: [`server ${HOST} iburst minpoll 0 maxpoll 6`],
  quotes: `http://${HOST}:8081`,
  releases: `http://${HOST}:8082`,
  checkpoint: `http://${HOST}:8083`,
};

const NETWORK: Surroundings = {
  hub: null,
  hubAuthority: null,
  time: [
    'server time.cloudflare.com iburst nts',
    'server nts.netnod.se iburst nts',
    'server ptbtime1.ptb.de iburst nts',
    'minsources 2',
    'nocerttimecheck 1',
    'authselectmode require',
  ],
  quotes: null,
  releases: null,
  checkpoint: 'https://mainnet.checkpoint.sigp.io',
};

/** Those of a profile. */
export function surroundingsOf(profile: Profile): Surroundings {
  return isDevelopment(profile) ? DEVELOPMENT : NETWORK;
}

/** What is not named yet, each with what it is for. */
export function unnamed({ hub, releases }: Surroundings): string[] {
  return [
    ...(hub === null ? ['image/surroundings.ts names no hub'] : []),
    ...(releases === null
      ? ['image/surroundings.ts names no place where private programs are released']
      : []),
  ];
}
