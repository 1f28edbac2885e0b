/** The table of services in this folder's README, made from the list. `node image/readme.ts` writes it. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Service } from './service.ts';
import { allServices } from './services.ts';
import { DEVELOPMENT } from './surroundings.ts';

const README = join(import.meta.dirname, 'README.md');
const OPEN = '<!-- services -->';
const CLOSE = '<!-- /services -->';

function row({ unit, does, from, profiles, user, listens, calls }: Service): string {
  const ports = listens.map(({ port, protocol, open }) => {
    const text = `${port}/${protocol}`;
    return open === 'all' ? `**${text}**` : text;
  });
  const cells = [
    `\`${unit}\``,
    does,
    user.name,
    ports.join(', '),
    calls.map(({ what, port, protocol }) => `${what} ${port}/${protocol}`).join(', '),
    profiles.map((name) => name.slice(0, 1).toUpperCase()).join(' '),
    from,
  ];
  return `| ${cells.join(' | ')} |`;
}

/**
 * @param text a README with the two markers
 * @returns the same with the table of today
 * @throws Error when a marker is missing
 */
export function withServices(text: string): string {
  const [start, end] = [text.indexOf(OPEN), text.indexOf(CLOSE)];
  if (start === -1 || end < start) throw new Error(`the README has no section between ${OPEN} and ${CLOSE}`);
  const head = [
    '| unit | does | user | listens (bold: open) | may call | profiles | from |',
    '| --- | --- | --- | --- | --- | --- | --- |',
  ];
  // Debug has all that devnet has.
  const rows = allServices(DEVELOPMENT).map((service) => ({
    ...service,
    profiles: service.profiles.filter((name) => name !== 'debug'),
  }));
  return `${text.slice(0, start + OPEN.length)}\n${[...head, ...rows.map(row)].join('\n')}\n${text.slice(end)}`;
}

if (import.meta.main) writeFileSync(README, withServices(readFileSync(README, 'utf8')));
