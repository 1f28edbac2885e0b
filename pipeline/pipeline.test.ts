import { describe, expect, test } from 'vitest';
import { DedupeWindow } from './dedupe.ts';
import { Rejection } from './errors.ts';
import type { Address, AdmittedOrder, Side } from './order.ts';
import {
  type ArchiveOutlet,
  type Outlet,
  Pipeline,
  type PipelineModules,
  type PipelineOptions,
} from './pipeline.ts';
import { RateLimiter } from './rate-limit.ts';
import { rememberOrder } from './remember.ts';
import { ReplacementNonces } from './replacement-nonces.ts';
import type { Arrival } from './submission.ts';

const WALLET: Address = '0x1111111111111111111111111111111111111111';
const PEER: Address = '0x2222222222222222222222222222222222222222';
const FLASHBOTS: Address = '0x3333333333333333333333333333333333333333';
const OF_ANOTHER = { fingerprint: 'ab', owners: [] };

interface Answer {
  readonly status: number;
  readonly body: { id: unknown; result?: unknown; error?: { code: number; message: string } };
  readonly close: boolean;
}

function outlet(send: Outlet['send']): Outlet {
  return { send, cork: () => undefined, uncork: () => undefined };
}

/** A pipeline whose neighbours write down what they get, in one log, and do what the test says. */
/** Orders leave for the peers when they are many, or told to. */
const HELD = { intervalMs: 3_600_000, busyGapMs: Number.POSITIVE_INFINITY };

function harness(options: Partial<PipelineOptions> = {}, modules: Partial<PipelineModules> = {}) {
  const log: string[] = [];
  const appends: ((error: Error | null) => void)[] = [];
  const admitted: AdmittedOrder[] = [];
  const gate = { accepting: true };
  const archive: ArchiveOutlet = {
    get accepting() {
      return gate.accepting;
    },
    refusal: 'the archive is full',
    append(order, done) {
      log.push(`archive ${nameOf(order)}`);
      admitted.push(order);
      appends.push(done);
    },
  };
  let now = 1_718_030_000_123_456;
  let refreshes = 0;
  const callers = new Map<Address, string>([
    [PEER, 'peer-1'],
    [FLASHBOTS, 'flashbots'],
  ]);
  const faults: unknown[] = [];
  const window = new DedupeWindow({ maxKeys: 1000, windowUs: 60_000_000 });
  const calls: string[] = [];
  const pipeline = new Pipeline(
    {
      validation: { user: 'off', system: 'off', sender: 'off' },
      chainId: 1n,
      flashbotsSigner: FLASHBOTS,
      intakeBytes: 1_000_000,
      maxWaitingForRefresh: 2,
      departures: { intervalMs: 0 },
      ...options,
    },
    {
      verifySignature: (header) =>
        header === undefined ? new Rejection('no_signature', 'no signature provided') : (header as Address),
      callers: {
        identify: (signer, certificate) => {
          if (certificate === OF_ANOTHER)
            return new Rejection('client_certificate', 'not the listed certificate');
          return (
            callers.get(signer) ??
            new Rejection('unknown_peer', "unknown peers can't send to the system address")
          );
        },
        refresh: () => {
          refreshes += 1;
          return Promise.resolve();
        },
      },
      nonces: new ReplacementNonces(),
      window,
      limiter: new RateLimiter(0),
      builder: outlet((order) => void log.push(`builder ${nameOf(order)}`)),
      peers: outlet((order) => void log.push(`peers ${nameOf(order)}`)),
      archive,
      clock: () => {
        now += 1;
        return now;
      },
      events: {
        called: (caller) => void calls.push(caller),
        incoming: () => undefined,
        duplicate: () => void log.push('duplicate'),
        step: () => undefined,
        rejected: () => undefined,
        answered: () => undefined,
        fault: (error) => void faults.push(error),
      },
      ...modules,
    },
  );
  const submit = (
    side: Side,
    request: unknown,
    extra: Partial<Pick<Arrival, 'signature' | 'certificate'>> = {},
  ) => {
    const { promise, resolve } = Promise.withResolvers<Answer>();
    pipeline.submit({
      side,
      body: Buffer.from(typeof request === 'string' ? request : JSON.stringify(request)),
      signature: side === 'user' ? WALLET : PEER,
      certificate: undefined,
      receivedAtUs: 1_718_030_000_000_000 + log.length,
      streamed: null,
      respond: (status, body, close) => {
        log.push('answer');
        resolve({ status, body: JSON.parse(body) as Answer['body'], close });
      },
      ...extra,
    });
    return promise;
  };
  return {
    pipeline,
    window,
    log,
    appends,
    admitted,
    gate,
    callers,
    calls,
    faults,
    submit,
    refreshes: () => refreshes,
  };
}

/** The block number in an order's canonical form, which the tests use to tell orders apart. */
function nameOf({ order }: AdmittedOrder): string {
  return /"blockNumber":"(0x[0-9a-f]+)"/.exec(order.canonical.toString())?.[1] ?? order.method;
}

const bundle = (block: string, extra: object = {}, id: unknown = 1) => ({
  jsonrpc: '2.0',
  id,
  method: 'eth_sendBundle',
  params: [{ txs: ['0x1234'], blockNumber: block, ...extra }],
});
const rpc = (method: string, ...params: unknown[]) => ({ jsonrpc: '2.0', id: 'x', method, params });

function faultsInto(steps: unknown[]): PipelineModules['events'] {
  const ignore = () => undefined;
  return {
    called: ignore,
    incoming: ignore,
    duplicate: ignore,
    step: ignore,
    rejected: ignore,
    answered: ignore,
    fault: (_error, step) => void steps.push(step),
  };
}

/** Lets the intake's turns of the event loop pass. */
const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('a user order', () => {
  test('goes to the builder first, for the whole slice, then to peers and archive; the answer waits for the disk', async () => {
    const { log, appends, submit } = harness();
    const answers = [submit('user', bundle('0x1')), submit('user', bundle('0x2'))];
    await turn();
    expect(log).toEqual([
      'builder 0x1',
      'builder 0x2',
      'peers 0x1',
      'peers 0x2',
      'archive 0x1',
      'archive 0x2',
    ]);
    appends[1]?.(null);
    const second = await answers[1];
    expect(second?.status).toBe(200);
    expect(second?.body).toMatchObject({
      jsonrpc: '2.0',
      id: 1,
      result: { receivedTimestampMs: expect.any(Number) },
    });
    expect(log.filter((line) => line === 'answer')).toHaveLength(1);
    appends[0]?.(null);
    expect((await answers[0])?.body.result).toMatchObject({
      bundleHash: expect.stringMatching(/^0x[0-9a-f]{64}$/),
    });
  });

  test('is archived and answered though an outlet has a defect', async () => {
    const defect = () => {
      throw new Error('defect');
    };
    const outlets = { send: () => undefined, cork: () => undefined, uncork: defect };
    const { submit, faults, appends } = harness({}, { builder: outlets, peers: outlets });
    const answers = [submit('user', bundle('0x1')), submit('user', bundle('0x2'))];
    await turn();
    for (const done of appends) done(null);
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([200, 200]);
    expect(faults).toHaveLength(2);
  });

  test('leaves for the peers at once, or with those that come soon after another has, but before its answer', async () => {
    const { log, appends, submit } = harness({ departures: HELD });
    void submit('user', bundle('0x1'));
    await turn();
    expect(log.splice(0)).toEqual(['builder 0x1', 'peers 0x1', 'archive 0x1']);
    for (const block of ['0x2', '0x3']) {
      void submit('user', bundle(block));
      await turn();
    }
    expect(log.splice(0)).toEqual(['builder 0x2', 'archive 0x2', 'builder 0x3', 'archive 0x3']);
    for (const done of appends) done(null);
    expect(log).toEqual(['answer', 'peers 0x2', 'peers 0x3', 'answer', 'answer']);
  });

  test('has left for the peers when a drain is over', async () => {
    const { log, appends, pipeline, submit } = harness({ departures: HELD });
    for (const block of ['0x1', '0x2']) {
      void submit('user', bundle(block));
      await turn();
    }
    expect(log).not.toContain('peers 0x2');
    void submit('user', bundle('0x3'));
    const drained = pipeline.drain();
    expect(log).toContain('peers 0x2');
    await turn();
    expect(log).not.toContain('peers 0x3');
    for (const done of appends) done(null);
    expect(log).toContain('peers 0x3');
    await drained;
  });

  test('leaves with the few that wait behind it, alone when none does', async () => {
    const writes: string[][] = [];
    let corked: string[] | null = null;
    const builder: Outlet = {
      send: (admitted) =>
        void (corked === null ? writes.push([nameOf(admitted)]) : corked.push(nameOf(admitted))),
      cork: () => {
        corked ??= [];
      },
      uncork: () => {
        if (corked !== null && corked.length > 0) writes.push(corked);
        corked = null;
      },
    };
    const { submit } = harness({}, { builder });
    void submit('user', bundle('0x1'));
    await turn();
    expect(writes.splice(0)).toEqual([['0x1']]);
    for (const block of ['0x2', '0x3', '0x4', '0x5', '0x6', '0x7']) void submit('user', bundle(block));
    // The last of the slice goes nowhere.
    void submit('user', 'not json');
    await turn();
    expect(writes.splice(0)).toEqual([
      ['0x2', '0x3', '0x4'],
      ['0x5', '0x6', '0x7'],
    ]);
    void submit('user', bundle('0x8'));
    await turn();
    expect(writes).toEqual([['0x8']]);
  });

  test('a duplicate waits for the same write, gets the same answer and goes nowhere', async () => {
    const { log, appends, submit } = harness();
    const first = submit('user', bundle('0x1', {}, 'a'));
    const second = submit('user', bundle('0x1', {}, 'b'));
    await turn();
    expect(log).toEqual(['builder 0x1', 'duplicate', 'peers 0x1', 'archive 0x1']);
    appends[0]?.(null);
    const third = submit('user', bundle('0x1', {}, 'c'));
    const answers = await Promise.all([first, second, third]);
    expect(answers.map(({ body }) => body.id)).toEqual(['a', 'b', 'c']);
    expect(new Set(answers.map(({ body }) => JSON.stringify(body.result))).size).toBe(1);
    expect(appends).toHaveLength(1);
  });

  test('an order that was not archived is refused, its duplicates too; a retry is archived, not forwarded again', async () => {
    const { log, appends, submit } = harness();
    const answers = [submit('user', bundle('0x1')), submit('user', bundle('0x1'))];
    await turn();
    appends[0]?.(new Error('no space left on the disk'));
    for (const { status, body } of await Promise.all(answers)) {
      expect([status, body.error?.code]).toEqual([503, -32005]);
      expect(body.error?.message).toContain('no space left on the disk');
    }
    log.length = 0;
    const retry = submit('user', bundle('0x1'));
    await turn();
    expect(log).toEqual(['duplicate', 'archive 0x1']);
    appends[1]?.(null);
    expect((await retry).body.result).toBeDefined();
  });

  test('is refused before it goes anywhere while the archive does not accept, a known one is still answered', async () => {
    const { log, appends, gate, submit } = harness();
    const known = submit('user', bundle('0x1'));
    await turn();
    appends[0]?.(null);
    await known;
    gate.accepting = false;
    log.length = 0;
    expect((await submit('user', bundle('0x2'))).body.error).toEqual({
      code: -32005,
      message: 'the archive is full',
    });
    expect((await submit('user', bundle('0x1'))).body.result).toBeDefined();
    expect(log).toEqual(['answer', 'duplicate', 'answer']);
    void submit('system', bundle('0x3', { version: 'v2' }));
    await turn();
    expect(log).toContain('builder 0x3');
  });

  test('that a peer sent before is archived, not forwarded again', async () => {
    const { log, appends, submit } = harness();
    await submit('system', bundle('0x1', { version: 'v2', signingAddress: WALLET }));
    expect(log).toEqual(['builder 0x1', 'answer']);
    const mine = submit('user', bundle('0x1'));
    await turn();
    expect(log.slice(2)).toEqual(['duplicate', 'archive 0x1']);
    appends[0]?.(null);
    expect((await mine).body.result).toBeDefined();
  });

  test('of an earlier run is forwarded once more, not archived again, and gets the first answer', async () => {
    const first = harness();
    const sent = first.submit('user', bundle('0x1'));
    const raw = first.submit('user', rpc('eth_sendRawTransaction', '0x1234'));
    await turn();
    for (const done of first.appends) done(null);
    const answers = [(await sent).body.result, (await raw).body.result];

    const { window, log, appends, submit } = harness();
    for (const { order, receivedAtUs } of first.admitted) rememberOrder(window, order, receivedAtUs);
    expect((await submit('user', bundle('0x1'))).body.result).toEqual(answers[0]);
    expect((await submit('user', rpc('eth_sendRawTransaction', '0x1234'))).body.result).toEqual(answers[1]);
    expect(log.slice(0, 4)).toEqual(['duplicate', 'builder 0x1', 'peers 0x1', 'answer']);
    const method = 'eth_sendRawTransaction';
    expect(log.slice(4)).toEqual(['duplicate', `builder ${method}`, `peers ${method}`, 'answer']);
    log.length = 0;
    expect((await submit('user', bundle('0x1'))).body.result).toEqual(answers[0]);
    expect(log).toEqual(['duplicate', 'answer']);
    expect(appends).toEqual([]);
  });

  test('of an earlier run that comes from a peer goes to the builder alone', async () => {
    const first = harness();
    void first.submit('user', bundle('0x1'));
    await turn();
    const { window, log, submit } = harness();
    for (const { order, receivedAtUs } of first.admitted) rememberOrder(window, order, receivedAtUs);
    await submit('system', bundle('0x1', { version: 'v2', signingAddress: WALLET }));
    expect(log).toEqual(['duplicate', 'builder 0x1', 'answer']);
  });

  test('of a thread that failed is forwarded once more, and archived once', async () => {
    const first = harness();
    void first.submit('user', bundle('0x1'));
    void first.submit('user', bundle('0x2'));
    await turn();
    const [lost, pending] = first.admitted.map(({ order, receivedAtUs }) => ({
      key: order.key!,
      receivedAtUs,
    }));

    const { window, log, appends, submit } = harness();
    window.add(lost!.key, lost!.receivedAtUs, 'none', false);
    const onItsWay = window.add(pending!.key, pending!.receivedAtUs, 'pending', false);
    const answers = ['0x1', '0x1', '0x2', '0x2'].map((block) => submit('user', bundle(block)));
    await turn();
    expect(log.filter((line) => line !== 'duplicate')).toEqual([
      'builder 0x1',
      'builder 0x2',
      'peers 0x1',
      'peers 0x2',
      'archive 0x1',
    ]);
    for (const done of appends) done(null);
    expect(log.filter((line) => line === 'answer')).toHaveLength(2);
    window.settle(onItsWay, null);
    for (const [i, answer] of (await Promise.all(answers)).entries()) {
      const { receivedAtUs } = i < 2 ? lost! : pending!;
      expect(answer.body.result).toMatchObject({ receivedTimestampMs: receivedAtUs / 1000 });
    }
  });

  test('the same from another signer is another order', async () => {
    const { log, submit } = harness();
    void submit('user', bundle('0x1'));
    void submit('user', bundle('0x1'), { signature: PEER });
    await turn();
    expect(log.filter((line) => line.startsWith('builder'))).toHaveLength(2);
  });

  test('a raw transaction of two signers is two orders: its form does not name the signer', async () => {
    const { log, submit } = harness();
    const raw = rpc('eth_sendRawTransaction', '0x1234');
    void submit('user', raw);
    void submit('user', raw, { signature: PEER });
    await turn();
    expect(log.filter((line) => line.startsWith('builder'))).toHaveLength(2);
    expect(log.filter((line) => line.startsWith('archive'))).toHaveLength(2);
    expect(log).not.toContain('duplicate');
  });

  test('a refused one does not enter the window', async () => {
    const { appends, submit } = harness({}, { limiter: new RateLimiter(1) });
    void submit('user', bundle('0x1'));
    const limited = await submit('user', bundle('0x2'));
    expect([limited.status, limited.body.error?.code]).toEqual([429, -32005]);
    expect(appends).toHaveLength(1);
  });

  test('cancellations are never duplicates', async () => {
    const { log, submit } = harness();
    const cancel = rpc('eth_cancelBundle', { replacementUuid: '1f8a44c4-df81-5c43-c0f3-c58c79e20f75' });
    void submit('user', cancel);
    void submit('user', cancel);
    await turn();
    expect(log.filter((line) => line.startsWith('archive'))).toHaveLength(2);
    expect(log).not.toContain('duplicate');
  });
});

describe('a system order', () => {
  test('goes to the builder alone and is answered at once', async () => {
    const { log, submit } = harness();
    await submit('system', bundle('0x1', { version: 'v2' }));
    expect(log).toEqual(['builder 0x1', 'answer']);
  });

  test("is its peer's call, also when it does not decode; that of a stranger is nobody's", async () => {
    const { calls, submit } = harness();
    await submit('system', bundle('0x1', { version: 'v2' }));
    expect((await submit('system', bundle('0x1'))).body.error?.message).toBe('version field should be set');
    await submit('system', bundle('0x2', { version: 'v2' }), { signature: WALLET });
    await submit('system', bundle('0x3', { version: 'v2' }), { signature: FLASHBOTS });
    expect(calls).toEqual(['peer-1', 'peer-1', 'flashbots']);
  });

  test('of an unknown peer waits for one fresh list, then stands or falls', async () => {
    const { callers, refreshes, submit, log } = harness();
    const stranger = submit('system', bundle('0x1', { version: 'v2' }), { signature: WALLET });
    expect((await stranger).body.error?.message).toBe("unknown peers can't send to the system address");
    expect(refreshes()).toBe(1);
    const newcomer = submit('system', bundle('0x2', { version: 'v2' }), { signature: WALLET });
    callers.set(WALLET, 'newcomer');
    expect((await newcomer).body.error).toBeUndefined();
    expect(log).toEqual(['answer', 'builder 0x2', 'answer']);
  });

  test('only so many wait for a fresh list', async () => {
    const { refreshes, submit } = harness();
    const all = [1, 2, 3, 4].map((i) =>
      submit('system', bundle(`0x${i}`, { version: 'v2' }), { signature: WALLET }),
    );
    await Promise.all(all);
    expect(refreshes()).toBe(2);
  });

  test('only so many bytes wait for a fresh list, and they are counted', async () => {
    const { promise: fresh, resolve: answer } = Promise.withResolvers<void>();
    const unknown = new Rejection('unknown_peer', 'unknown');
    const callers = { identify: () => unknown, refresh: () => fresh };
    const { pipeline, submit } = harness({ intakeBytes: 1_000, maxWaitingForRefresh: 100 }, { callers });
    const padding = 'x'.repeat(600);
    const stranger = (block: string) =>
      submit('system', bundle(block, { version: 'v2', padding }), { signature: WALLET });
    const first = stranger('0x1');
    await turn();
    expect((await stranger('0x2')).body.error?.message).toBe('unknown');
    expect(pipeline.state()).toMatchObject({ waiting: 1, unanswered: 1 });
    expect(pipeline.state().waitingBytes).toBeGreaterThan(600);
    answer();
    expect((await first).body.error?.message).toBe('unknown');
    expect(pipeline.state()).toMatchObject({ waiting: 0, waitingBytes: 0, unanswered: 0 });
  });

  test('over the certificate of another closes the connection', async () => {
    const { submit, log } = harness();
    const { close, body } = await submit('system', bundle('0x1', { version: 'v2' }), {
      certificate: OF_ANOTHER,
    });
    expect([close, body.error?.message]).toEqual([true, 'not the listed certificate']);
    expect(log).toEqual(['answer']);
  });

  test('subsidies come from Flashbots alone, on this API alone', async () => {
    const { submit, log } = harness();
    const subsidy = rpc('bid_subsidiseBlock', 1000);
    expect((await submit('user', subsidy)).body.error?.message).toBe(
      'subsidy can only be called on system API',
    );
    expect((await submit('system', subsidy)).body.error?.message).toBe(
      'subsidy can only be called by Flashbots',
    );
    expect((await submit('system', subsidy, { signature: FLASHBOTS })).body.result).toBeNull();
    expect(log.filter((line) => line !== 'answer')).toEqual(['builder bid_subsidiseBlock']);
  });
});

describe('in sender mode', () => {
  test('orders are shared, unsigned ones too, and answered without an archive', async () => {
    const { submit, log } = harness({ departures: HELD }, { builder: null, archive: null });
    const answer = await submit('sender', bundle('0x1', { signingAddress: WALLET }), {
      signature: undefined,
    });
    expect(answer.body.result).toBeDefined();
    expect(log).toEqual(['peers 0x1', 'answer']);
    await submit('sender', rpc('bid_subsidiseBlock', 1), { signature: undefined });
    expect(log).toContain('peers bid_subsidiseBlock');
  });
});

describe('trouble', () => {
  test('what is no request is answered with the table of protocol section 2', async () => {
    const { submit } = harness();
    const unsigned = await submit('user', bundle('0x1'), { signature: undefined });
    expect(unsigned.body).toEqual({
      jsonrpc: '2.0',
      id: null,
      error: { code: -32600, message: 'no signature provided' },
    });
    expect((await submit('user', 'nonsense')).body.error?.code).toBe(-32700);
    expect((await submit('user', rpc('eth_call', 1))).body.error).toEqual({
      code: -32601,
      message: 'method not found',
    });
  });

  test('a neighbour that throws costs one answer and no other order', async () => {
    const { submit, faults, log, appends } = harness(
      {},
      {
        builder: outlet((admitted) => {
          if (nameOf(admitted) === '0x1') throw new Error('defect');
        }),
      },
    );
    const answers = [submit('user', bundle('0x1')), submit('user', bundle('0x2'))];
    expect((await answers[0])?.body.error).toEqual({ code: -32603, message: 'internal error' });
    await turn();
    expect(log).toContain('peers 0x2');
    for (const done of appends) done(null);
    expect((await answers[1])?.body.result).toBeDefined();
    expect(faults).toHaveLength(1);
  });

  test.each(['builder', 'peers'] as const)('%s that throw are named in the report', async (neighbour) => {
    const steps: unknown[] = [];
    const throws = outlet(() => {
      throw new Error('defect');
    });
    const { pipeline, submit, appends } = harness({}, { [neighbour]: throws, events: faultsInto(steps) });
    expect((await submit('user', bundle('0x1'))).body.error?.message).toBe('internal error');
    for (const done of appends) done(null);
    expect(steps).toEqual([neighbour === 'peers' ? 'share' : 'builder']);
    expect(pipeline.state().unanswered).toBe(0);
  });

  test('an archive that throws leaves nobody waiting', async () => {
    const archive: ArchiveOutlet = {
      accepting: true,
      refusal: '',
      append: () => {
        throw new Error('defect');
      },
    };
    const { submit } = harness({}, { archive });
    const answers = await Promise.all([submit('user', bundle('0x1')), submit('user', bundle('0x1'))]);
    for (const { body } of answers) expect(body.error?.code).toBe(-32005);
  });

  test('beyond the bytes that may wait the newest is refused', async () => {
    const { submit } = harness({ intakeBytes: 200 });
    const answers = [
      submit('user', bundle('0x1')),
      submit('user', bundle('0x2')),
      submit('user', bundle('0x3')),
    ];
    expect((await answers[2])?.body.error?.code).toBe(-32005);
  });

  test('draining refuses what is new and ends when the last answer is out', async () => {
    const { pipeline, submit, appends } = harness();
    const before = submit('user', bundle('0x1'));
    let drained = false;
    const done = pipeline.drain().then(() => {
      drained = true;
    });
    expect((await submit('user', bundle('0x2'))).body.error?.message).toBe('the node is shutting down');
    await turn();
    expect(drained).toBe(false);
    appends[0]?.(null);
    await done;
    expect((await before).body.result).toBeDefined();
    expect(pipeline.state()).toMatchObject({ unanswered: 0, waiting: 0, waitingBytes: 0 });
  });
});
