import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener } from 'node:http';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { createCredentials } from './certificate.ts';
import { startHub } from './hub/hub.ts';
import { HubClient, type HubClientEvents, type HubClientOptions, HubError } from './hub-client.ts';
import { parseBuilders } from './hub-list.ts';
import { address } from './testing/entries.ts';
import { ManualTimer } from './testing/manual-timer.ts';

const { certificatePem, fingerprint } = await createCredentials({
  names: ['n.example'],
  validityDays: 1,
  now: Date.now(),
});
const registration = { address: address(1), certificatePem, region: 'europe' };

/** A hub that answers whatever a test wants. */
async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(
    () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  );
  const at = server.address();
  if (at === null || typeof at === 'string') throw new Error('no port');
  return `http://127.0.0.1:${at.port}`;
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of request.setEncoding('utf8')) text += String(chunk);
  return text;
}

function client(
  url: string,
  options: Partial<HubClientOptions> & {
    timer?: ManualTimer;
    events?: HubClientEvents;
    random?: () => number;
  } = {},
): HubClient {
  const { timer, events, random, ...rest } = options;
  const hub = new HubClient({ url, ...rest }, { timer, events, random });
  onTestFinished(() => hub.close());
  return hub;
}

/** Free for sure only while nobody else takes it: a port of a server that has just closed. */
async function deadUrl(): Promise<string> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const at = server.address();
  server.close();
  await once(server, 'close');
  return `http://127.0.0.1:${typeof at === 'object' && at !== null ? at.port : 0}`;
}

describe('registering', () => {
  test('tells both services everything, and the list shows it', async () => {
    const hub = await startHub({ listen: '127.0.0.1:0', builders: [{ name: 'a', dns_name: 'a.example' }] });
    onTestFinished(() => hub.close());
    const registered = vi.fn();
    const node = client(`${hub.url}/as/a/`, { events: { registered } });
    expect(node.state).toEqual({ registered: false, attempts: 0, lastError: undefined });
    await node.register(registration);
    expect(node.state).toEqual({ registered: true, attempts: 1, lastError: undefined });
    expect(registered).toHaveBeenCalledWith(1);
    const list = await node.builders();
    expect(list).toEqual([
      {
        dns_name: 'a.example',
        instance: { tls_cert: certificatePem },
        ip: '127.0.0.1',
        name: 'a',
        orderflow_proxy: { tls_cert: certificatePem, ecdsa_pubkey_address: address(1), region: 'europe' },
      },
    ]);
    expect(parseBuilders(list).peers).toMatchObject([{ name: 'a', address: address(1), fingerprint }]);
  });

  test('the certificate that counts comes last, as JSON, without an unset region', async () => {
    const seen: unknown[] = [];
    const url = await serve((request, response) => {
      void bodyOf(request).then((body) => {
        seen.push([request.method, request.url, request.headers['content-type'], JSON.parse(body)]);
        response.end();
      });
    });
    await client(`${url}/base`).register({ address: address(1), certificatePem });
    const path = '/base/api/l1-builder/v1/register_credentials';
    expect(seen).toEqual([
      [
        'POST',
        `${path}/orderflow_proxy`,
        'application/json',
        { ecdsa_pubkey_address: address(1), tls_cert: certificatePem },
      ],
      ['POST', `${path}/instance`, 'application/json', { tls_cert: certificatePem }],
    ]);
  });

  test('is tried again for ever, in doubling pauses with jitter up to the longest', async () => {
    const timer = new ManualTimer();
    let refusals = 12;
    const url = await serve((_request, response) => {
      response.writeHead(refusals-- > 0 ? 500 : 200).end();
    });
    const pauses: number[] = [];
    const failed = new Set<string>();
    let attempt = Promise.withResolvers<void>();
    const node = client(url, {
      timer,
      random: () => 0.5,
      events: {
        registrationFailed(error, attempts, retryInMs) {
          failed.add(error.message);
          pauses.push(retryInMs);
          expect(attempts).toBe(pauses.length);
          attempt.resolve();
        },
      },
    });
    const done = node.register(registration);
    for (let times = 1; times <= 12; times++) {
      await attempt.promise;
      attempt = Promise.withResolvers();
      expect(node.state).toEqual({ registered: false, attempts: times, lastError: 'the hub answered 500' });
      expect(node.registering).toBe(true);
      // The pause begins after the event.
      await vi.waitFor(() => expect(timer.delays).toEqual([pauses.at(-1)]));
      timer.advance(10_000);
    }
    await done;
    expect(pauses).toEqual([188, 375, 750, 1500, 3000, 6000, 7500, 7500, 7500, 7500, 7500, 7500]);
    expect([...failed]).toEqual(['the hub answered 500']);
    expect(node.state).toEqual({ registered: true, attempts: 13, lastError: undefined });
    expect(node.registering).toBe(false);
  });

  test.each([
    [0, 125],
    [0.999999, 250],
  ])('the jitter of %d makes the first pause %d ms', async (random, pause) => {
    const failed = Promise.withResolvers<number>();
    const node = client(await deadUrl(), {
      timer: new ManualTimer(),
      random: () => random,
      events: { registrationFailed: (_error, _attempts, retryInMs) => failed.resolve(retryInMs) },
    });
    const done = node.register(registration);
    expect(await failed.promise).toBe(pause);
    await node.close();
    await expect(done).rejects.toThrow('closed');
  });

  test('a failure of the second service is a failure of all', async () => {
    let calls = 0;
    const url = await serve((_request, response) => {
      response.writeHead(++calls === 2 ? 403 : 200).end();
    });
    const timer = new ManualTimer();
    const node = client(url, { timer });
    const done = node.register(registration);
    await vi.waitFor(() => expect(timer.delays).toHaveLength(1));
    expect(node.state).toMatchObject({ registered: false, lastError: 'the hub answered 403' });
    timer.advance(10_000);
    await done;
    expect(calls).toBe(4);
  });

  test('a later registration takes the place of one that waits, after its open request', async () => {
    const seen: string[] = [];
    const first = Promise.withResolvers<void>();
    const release = Promise.withResolvers<void>();
    const url = await serve((request, response) => {
      if (request.method === 'GET') {
        response.end('[]');
        return;
      }
      seen.push('asked');
      first.resolve();
      void bodyOf(request).then(async (body) => {
        await release.promise;
        const name = body.includes(address(1)) ? 'one' : body.includes(address(2)) ? 'two' : 'certificate';
        seen.push(name);
        response.writeHead(name === 'one' ? 500 : 200).end();
      });
    });
    const node = client(url);
    await node.builders();
    const one = node.register(registration);
    const outcome = expect(one).rejects.toThrow('a later registration took its place');
    await first.promise;
    const two = node.register({ ...registration, address: address(2) });
    // By the time these are answered a request sent too early would have come.
    await node.builders();
    await node.builders();
    expect(seen).toEqual(['asked']);
    release.resolve();
    await two;
    await outcome;
    expect(seen).toEqual(['asked', 'one', 'asked', 'two', 'asked', 'certificate']);
    expect(node.state.registered).toBe(true);
  });

  test('closing ends it, in a request and in a pause', async () => {
    const asked = Promise.withResolvers<void>();
    const silent = client(await serve(() => asked.resolve()));
    const inRequest = expect(silent.register(registration)).rejects.toThrow('closed');
    await asked.promise;
    await silent.close();
    await inRequest;

    const timer = new ManualTimer();
    const waiting = client(await deadUrl(), { timer });
    const inPause = expect(waiting.register(registration)).rejects.toThrow('closed');
    await vi.waitFor(() => expect(timer.delays).toHaveLength(1));
    await waiting.close();
    await inPause;
    expect(timer.delays).toEqual([]);
    await expect(waiting.register(registration)).rejects.toThrow('closed');
  });
});

describe('answers that are not right are errors with a reason', () => {
  const answer = (status: number, body: string): RequestListener => {
    return (_request, response) => {
      response.writeHead(status, { 'content-type': 'text/plain' }).end(body);
    };
  };

  test.each([
    ['a refusal', answer(403, ''), 'the hub answered 403'],
    ['a reason', answer(400, '{"message":"no"}'), 'the hub answered 400: {"message":"no"}'],
    [
      'a long reason with control characters',
      answer(500, `a\u001b\n${'b'.repeat(500)}`),
      `the hub answered 500: a ${'b'.repeat(197)}`,
    ],
    ['no JSON', answer(200, 'x'), 'the hub answered no JSON'],
    ['no list', answer(200, '{}'), 'the hub answered no list of builders'],
    ['no list but null', answer(200, 'null'), 'the hub answered no list of builders'],
    ['too much', answer(200, 'x'.repeat(1001)), "the hub's answer is longer than 1000 bytes"],
    ['another success', answer(204, ''), 'the hub answered 204'],
    ['a connection cut off', (_request, response) => void response.destroy(), 'the hub cannot be reached: '],
    [
      'an answer cut off',
      (_request, response) =>
        void response.writeHead(200, { 'content-length': 10 }).write('[', () => response.destroy()),
      'the hub cannot be reached: ',
    ],
    [
      'a redirect',
      (_request, response) => void response.writeHead(302, { location: '/' }).end(),
      'the hub cannot be reached: ',
    ],
    ['silence', () => undefined, 'the hub did not answer in time'],
    [
      'an answer that stops half way',
      (_request, response) => void response.write('['),
      'the hub did not answer in time',
    ],
  ] satisfies [string, RequestListener, string][])('%s', async (_case, listener, message) => {
    const hub = client(await serve(listener), { timeoutMs: 300, maxAnswerBytes: 1000 });
    const error = await hub.builders().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(HubError);
    expect(String(error)).toContain(message);
  });

  test('an endless answer is cut at the limit', async () => {
    const url = await serve((_request, response) => {
      const more = (): void => {
        while (!response.destroyed && response.write('x'.repeat(10_000)));
      };
      response.on('drain', more);
      more();
    });
    await expect(client(url, { maxAnswerBytes: 50_000 }).builders()).rejects.toThrow(
      'longer than 50000 bytes',
    );
  });

  test('a redirection is not followed, wherever it leads', async () => {
    const paths: unknown[] = [];
    const url = await serve((request, response) => {
      paths.push(request.url);
      response.writeHead(307, { location: '/elsewhere' }).end();
    });
    await expect(client(url).builders()).rejects.toThrow(HubError);
    expect(paths).toEqual(['/api/l1-builder/v1/builders']);
  });

  test('no hub', async () => {
    await expect(client(await deadUrl()).builders()).rejects.toThrow('ECONNREFUSED');
  });
});

describe('which list', () => {
  test('the sender reads the internal one', async () => {
    const hub = await startHub({
      listen: '127.0.0.1:0',
      builders: [{ name: 'a' }, { name: 't', network: 'testnet' }],
    });
    onTestFinished(() => hub.close());
    expect(await client(hub.url, { list: 'sender' }).builders()).toEqual([
      { dns_name: '', ip: '127.0.0.1', name: 'a' },
    ]);
    await expect(client(hub.url).builders()).rejects.toThrow('the hub answered 403');
  });
});

describe('base URL', () => {
  test.each(['', 'hub.example', 'ftp://hub', 'http://'])('%j is none', (url) => {
    expect(() => new HubClient({ url })).toThrow('must be an http or https URL');
  });
});
