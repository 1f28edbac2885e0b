/** The development hub as a process: its command line, its signals, its state. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { temporaryDirectory } from '../../testing/directory.ts';

function run(...args: string[]): ChildProcessWithoutNullStreams {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'main.ts'), ...args]);
  onTestFinished(() => void child.kill('SIGKILL'));
  return child;
}

async function outcome(
  child: ChildProcessWithoutNullStreams,
): Promise<{ code: unknown; out: string; err: string }> {
  let [out, err] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    err += text;
  });
  const [code] = await once(child, 'close');
  return { code, out, err };
}

/** The URL from the one line that it prints. */
async function urlOf(child: ChildProcessWithoutNullStreams): Promise<string> {
  for await (const text of child.stdout.setEncoding('utf8')) {
    const url = /http:\S+/u.exec(String(text))?.[0];
    if (url !== undefined) return url;
  }
  throw new Error('it ended without a URL');
}

describe('npm run hub', () => {
  test('serves the builders of the command line and keeps its state over SIGTERM', async () => {
    const state = join(await temporaryDirectory(), 'hub.json');
    const first = run(
      '--listen',
      '127.0.0.1:0',
      '--state',
      state,
      '--builder',
      'name=a,address=[::1]:7000',
      '--builder',
      'name=b,address=b.example,network=testnet',
    );
    const url = await urlOf(first);
    const list = await fetch(`${url}/as/a/api/l1-builder/v1/builders`);
    expect(await list.json()).toEqual([{ dns_name: '[::1]:7000', ip: '::1', name: 'a' }]);
    const registered = await fetch(`${url}/as/b/api/l1-builder/v1/register_credentials/orderflow_proxy`, {
      method: 'POST',
      body: JSON.stringify({ ecdsa_pubkey_address: `0x${'11'.repeat(20)}` }),
    });
    expect(registered.status).toBe(200);
    const ended = outcome(first);
    first.kill('SIGTERM');
    expect((await ended).code).toBe(0);

    const second = run('--listen', '127.0.0.1:0', '--state', state);
    const again = await fetch(`${await urlOf(second)}/as/b/api/l1-builder/v1/builders`);
    expect(await again.json()).toEqual([
      {
        dns_name: 'b.example',
        ip: '127.0.0.1',
        name: 'b',
        orderflow_proxy: { ecdsa_pubkey_address: `0x${'11'.repeat(20)}` },
      },
    ]);
  });

  test('--help tells every option', async () => {
    const { code, out } = await outcome(run('--help'));
    expect(code).toBe(0);
    for (const option of ['--listen', '--state', '--builder', '--allow-remote', 'HUB_ADMIN_PASSWORD']) {
      expect(out).toContain(option);
    }
  });

  test.each([
    [['--listen', '0.0.0.0:0'], 'unless --allow-remote is set'],
    [['--listen', 'x:y'], 'cannot listen on "x:y"'],
    [['--builder', 'name=a'], '--builder name=a: it should be name=NAME,address=HOST:PORT'],
    [['--builder', 'name=a,address=a b'], 'it should be'],
    [['--nope'], "Unknown option '--nope'"],
  ])('%j stops the start and says why', async (args, message) => {
    const { code, err } = await outcome(run(...args));
    expect(code).toBe(1);
    expect(err).toContain(message);
  });
});
