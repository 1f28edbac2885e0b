import { expect, test } from 'vitest';
import { isCrossSite } from './cross-site.ts';

const HOST = 'node.example:3535';

const of = (request: string, headers: Record<string, string>) => {
  const [method = '', path = ''] = request.split(' ');
  return isCrossSite({ method, path, host: HOST, header: (name) => headers[name] });
};

test.each([
  ['a program', 'GET /api/v1/actions/reboot', {}, false],
  ['a typed address', 'GET /api/v1/actions/reboot', { 'sec-fetch-site': 'none' }, false],
  [
    'the page',
    'POST /ui/actions/reboot',
    { 'sec-fetch-site': 'same-origin', origin: `https://${HOST}` },
    false,
  ],
  ['a form of another site', 'POST /ui/actions/reboot', { origin: 'https://evil.example' }, true],
  ['a form of another port', 'POST /ui/actions/reboot', { origin: 'https://node.example' }, true],
  ['a form without an origin to name', 'POST /ui/password', { origin: 'null' }, true],
  ['a form of a neighbour', 'POST /ui/password', { 'sec-fetch-site': 'same-site' }, true],
  [
    'a picture',
    'GET /api/v1/actions/reboot',
    { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' },
    true,
  ],
  [
    'a link to an action',
    'GET /api/v1/actions/reboot',
    { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' },
    true,
  ],
  [
    'a link to the page',
    'GET /ui',
    { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' },
    false,
  ],
  [
    'the page in a frame',
    'GET /ui',
    { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'iframe' },
    true,
  ],
] as const)('%s', (_name, request, headers, refused) => {
  expect(of(request, headers)).toBe(refused);
});
