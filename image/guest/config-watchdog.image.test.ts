/** The watchdog as a process of its own, with a hub that answers what the test says. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { outputOf } from '../testing/world.ts';

test('the builder may run while the hub lists this machine; a hub that is down changes nothing', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'image-watchdog-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, 'instance-name'), 'vm');
  const flag = join(folder, 'flag');
  let answer: [number, string] = [500, ''];
  const asked: (string | undefined)[] = [];
  const hub = createServer((request, response) => {
    asked.push(request.url);
    response.writeHead(answer[0]).end(answer[1]);
  });
  await new Promise<void>((resolve) => hub.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void hub.close());
  const address = hub.address() as { port: number };
  const look = async (...next: [number, string]): Promise<boolean> => {
    answer = next;
    const env = {
      HUB: `http://127.0.0.1:${address.port}`,
      FLAG: flag,
      CREDENTIALS_DIRECTORY: folder,
    };
    expect((await outputOf('image/guest/config-watchdog.ts', [], { env })).status).toBe(0);
    return existsSync(flag);
  };
  const listed = JSON.stringify([{ name: 'other' }, { name: 'vm' }]);
  expect(await look(500, '')).toBe(false);
  expect(await look(200, listed)).toBe(true);
  for (const [status, text] of [
    [500, ''],
    [404, ''],
    [200, 'no JSON'],
    [200, '{"name":"vm"}'],
  ] as const)
    expect(await look(status, text), `${status} ${text}`).toBe(true);
  expect(await look(200, '[{"name":"other"},null]')).toBe(false);
  expect(await look(200, listed)).toBe(true);
  expect(await look(403, listed)).toBe(false);
  expect(new Set(asked)).toEqual(new Set(['/api/l1-builder/v1/builders']));
});
