/**
 * What runs in the image: the one list from which units, users, ports, firewall rules and the README's table are
 * made. A service has no more than its row says: its user, what it may call, what it may write, its capabilities.
 */
import { isDevelopment, type Profile } from './profiles.ts';
import type { Service } from './service.ts';
import { accessServices } from './services/access.ts';
import { chainServices } from './services/chain.ts';
import { developmentServices } from './services/development.ts';
import { exportServices } from './services/export.ts';
import { hubServices } from './services/hub.ts';
import { operatorServices } from './services/operator.ts';
import { orderflowServices } from './services/orderflow.ts';
import { storageServices } from './services/storage.ts';
import { systemServices } from './services/system.ts';
import { type Surroundings, surroundingsOf, unnamed } from './surroundings.ts';

/** The services of a profile, in the order of the boot. */
export function servicesOf(profile: Profile, around: Surroundings = surroundingsOf(profile)): Service[] {
  return allServices(around).filter(({ profiles }) => profiles.includes(profile));
}

/** Those of every profile. */
export function allServices(around: Surroundings): Service[] {
  return [
    ...systemServices(),
    ...operatorServices(),
    ...hubServices(around),
    ...storageServices(),
    ...chainServices(around),
    ...developmentServices(),
    ...orderflowServices(around),
    ...exportServices(),
    ...accessServices(),
  ];
}

/** What an image says it stands in for, for os-release: names of units, and of what it finds outside. */
export function standInsOf(profile: Profile, around: Surroundings): string[] {
  return [
    ...servicesOf(profile, around)
      .filter(({ unit }) => unit.includes('standin'))
      .map(({ unit }) => unit.replace('.service', '')),
    ...(around.quotes === null ? [] : ['quotes-standin']),
    ...(around.hubAuthority === null ? [] : ['hub-standin']),
  ];
}

/** What may not be said in a profile that is none for development, wherever it stands in a unit. */
const UNATTESTED = /attestation-type (?:none|dummy)|--dev-|--insecure-/u;

/**
 * What stands between a profile and a build, beside artifacts: in one that is none for development a stand-in, a service
 * without attestation, a place that nobody has named. Empty when there is nothing.
 */
export function openRows(profile: Profile, around: Surroundings = surroundingsOf(profile)): string[] {
  if (isDevelopment(profile)) return [];
  const services = servicesOf(profile, around);
  const standIns = services.filter(({ unit }) => unit.includes('standin'));
  const unattested =
    around === surroundingsOf(profile)
      ? services.filter(({ run }) => run !== undefined && UNATTESTED.test(run.start))
      : [];
  return [
    ...standIns.map(({ unit }) => `${unit} is a stand-in`),
    ...unattested.map(({ unit }) => `${unit} is told to go without attestation`),
    ...unnamed(around),
  ];
}
