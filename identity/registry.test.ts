import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { temporaryDirectory } from '../testing/directory.ts';
import type { OwnEntry } from './hub-list.ts';
import type { PeerChanges } from './peer-table.ts';
import { PeerRegistry, type PeerRegistryEvents, type PeerRegistryOptions } from './registry.ts';
import { address, CERTIFICATES, entry } from './testing/entries.ts';
import { ManualTimer } from './testing/manual-timer.ts';

/** A hub whose list and health a test sets. */
class TestHub {
  list: readonly unknown[] | Error = [];
  calls = 0;
  /** Set, a call is answered only when it resolves. */
  gate: Promise<void> | undefined;

  async builders(): Promise<readonly unknown[]> {
    this.calls++;
    await this.gate;
    if (this.list instanceof Error) throw this.list;
    return this.list;
  }
}

interface Setup {
  readonly hub: TestHub;
  readonly timer: ManualTimer;
  readonly registry: PeerRegistry;
}

function setUp(options: Partial<PeerRegistryOptions> = {}, events: PeerRegistryEvents = {}): Setup {
  const hub = new TestHub();
  const timer = new ManualTimer();
  const registry = new PeerRegistry({ own: () => undefined, ...options }, { hub, timer, events });
  onTestFinished(() => registry.close());
  return { hub, timer, registry };
}

function names(registry: PeerRegistry): string[] {
  return registry.peers.map(({ name }) => name);
}

describe('polling', () => {
  test('now and then every 30 s, until closed', async () => {
    const { hub, timer, registry } = setUp();
    registry.start();
    registry.start();
    await setImmediate();
    expect(hub.calls).toBe(1);
    for (let calls = 2; calls <= 4; calls++) {
      timer.advance(29_999);
      expect(hub.calls).toBe(calls - 1);
      timer.advance(1);
      expect(hub.calls).toBe(calls);
      // The fetch has no I/O: it is over in the next turn of the loop.
      await setImmediate();
    }
    await registry.close();
    timer.advance(100_000);
    expect(hub.calls).toBe(4);
    expect(timer.delays).toEqual([]);
  });
});

describe('changes', () => {
  test('are told once per list that changes something, and unchanged peers stay the same objects', async () => {
    const refreshed = vi.fn<NonNullable<PeerRegistryEvents['refreshed']>>();
    const { hub, timer, registry } = setUp({}, { refreshed });
    const seen: PeerChanges[] = [];
    registry.changes.subscribe((changes) => seen.push(changes));
    hub.list = [entry(1), entry(2), 'dirt'];
    await registry.refresh();
    expect(names(registry)).toEqual(['builder-1', 'builder-2']);
    expect(registry.sendable.map(({ host }) => host)).toEqual(['b1.example', 'b2.example']);
    expect(refreshed.mock.lastCall?.[1]).toEqual([{ name: '#2', reason: 'the entry is no object' }]);
    const [first] = registry.peers;

    hub.list = ['dirt', entry(2), entry(1)];
    timer.advance(1000);
    await registry.refresh();
    expect(seen).toHaveLength(1);
    expect(refreshed).toHaveBeenCalledTimes(2);

    hub.list = [entry(1), entry(2, { dns_name: 'x.example' })];
    timer.advance(1000);
    await registry.refresh();
    expect(seen).toHaveLength(2);
    expect(seen[1]).toMatchObject({ added: [], removed: [], changed: [{ after: { host: 'x.example' } }] });
    expect(registry.peers[0]).toBe(first);
    expect(registry.byAddress(address(1))).toEqual([first]);
    expect(registry.byFingerprint(CERTIFICATES[1]!.fingerprint)).toEqual([first]);
  });

  test('ourselves are kept apart', async () => {
    const own: OwnEntry = { address: address(1), fingerprint: undefined };
    const { hub, registry } = setUp({ own: () => own });
    const fetched: string[][] = [];
    registry.fetches.subscribe((entries) => fetched.push(entries.map(({ name }) => name)));
    hub.list = [entry(1), entry(2)];
    expect(registry.fetched).toBe(false);
    await registry.refresh();
    expect(registry.fetched).toBe(true);
    expect(names(registry)).toEqual(['builder-2']);
    expect(registry.own.map(({ name }) => name)).toEqual(['builder-1']);
    expect(fetched).toEqual([['builder-1']]);
  });
});

describe('refresh', () => {
  test('is shared by all who ask while it is under way', async () => {
    const { hub, registry } = setUp();
    const gate = Promise.withResolvers<void>();
    hub.gate = gate.promise;
    hub.list = [entry(1)];
    const first = registry.refresh();
    expect(registry.refresh()).toBe(first);
    expect(registry.refresh()).toBe(first);
    gate.resolve();
    await first;
    expect(hub.calls).toBe(1);
    expect(names(registry)).toEqual(['builder-1']);
  });

  test('is at most one a second, however often it is asked for', async () => {
    const { hub, timer, registry } = setUp();
    await registry.refresh();
    const second = registry.refresh();
    for (let times = 0; times < 1000; times++) expect(registry.refresh()).toBe(second);
    expect(hub.calls).toBe(1);
    timer.advance(999);
    expect(hub.calls).toBe(1);
    timer.advance(1);
    await second;
    expect(hub.calls).toBe(2);
  });

  test('ends at once when the registry is closed', async () => {
    const { hub, timer, registry } = setUp();
    await registry.refresh();
    const waiting = registry.refresh();
    await registry.close();
    await waiting;
    await registry.refresh();
    expect(hub.calls).toBe(1);
    expect(timer.delays).toEqual([]);
  });
});

describe('a hub that fails', () => {
  test('leaves the last known peers in use', async () => {
    const fetchFailed = vi.fn();
    const { hub, timer, registry } = setUp({}, { fetchFailed });
    hub.list = [entry(1)];
    await registry.refresh();
    hub.list = new Error('down');
    timer.advance(1000);
    await registry.refresh();
    expect(fetchFailed).toHaveBeenCalledExactlyOnceWith(hub.list);
    expect(names(registry)).toEqual(['builder-1']);
  });
});

describe('on disk', () => {
  test('the last list is there at the next start, while the hub is down', async () => {
    const directory = await temporaryDirectory();
    const before = setUp({ directory });
    before.hub.list = [
      entry(1),
      entry(2, { dns_name: '', ip: '2001:db8::5' }),
      entry(3, { instance: {} }),
      entry(5, { dns_name: {} }),
      entry(6, { name: 'flashbots' }),
    ];
    await before.registry.refresh();
    await before.registry.close();

    const after = setUp({ directory });
    after.hub.list = new Error('down');
    await after.registry.load();
    await after.registry.refresh();
    const strip = (registry: PeerRegistry) => registry.peers.map((peer) => ({ ...peer, reason: undefined }));
    expect(strip(after.registry)).toEqual(strip(before.registry));
    expect(after.registry.fetched).toBe(false);
  });

  test('the hub replaces it', async () => {
    const directory = await temporaryDirectory();
    await writeFile(join(directory, 'peers.json'), JSON.stringify([entry(1), entry(2)]));
    const { hub, registry } = setUp({ directory });
    await registry.load();
    expect(names(registry)).toEqual(['builder-1', 'builder-2']);
    hub.list = [entry(2)];
    await registry.refresh();
    expect(names(registry)).toEqual(['builder-2']);
    await registry.close();
    expect(JSON.parse(await readFile(join(directory, 'peers.json'), 'utf8'))).toHaveLength(1);
  });

  test('loading comes too late when the hub has answered', async () => {
    const directory = await temporaryDirectory();
    await writeFile(join(directory, 'peers.json'), JSON.stringify([entry(1)]));
    const { registry } = setUp({ directory });
    await registry.refresh();
    await registry.load();
    expect(names(registry)).toEqual([]);
  });

  test('a damaged list is told and stops nothing', async () => {
    const directory = await temporaryDirectory();
    await writeFile(join(directory, 'peers.json'), '{');
    const storingFailed = vi.fn();
    const { registry } = setUp({ directory }, { storingFailed });
    await registry.load();
    expect(storingFailed).toHaveBeenCalledTimes(1);
    expect(names(registry)).toEqual([]);
  });

  test('a directory that cannot be written is told', async () => {
    const storingFailed = vi.fn();
    const { hub, registry } = setUp({ directory: '/nonexistent/identity' }, { storingFailed });
    hub.list = [entry(1)];
    await registry.refresh();
    await registry.close();
    expect(storingFailed).toHaveBeenCalledTimes(1);
  });
});
