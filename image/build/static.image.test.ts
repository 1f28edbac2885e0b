/** What can be said of the image without booting it: locks, refusals, the tree, its units. */
import { globSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, normalize } from 'node:path';
import { describe, expect, inject, onTestFinished, test } from 'vitest';
import { memoryProblem } from '../../memory-bound.ts';
import { readSettings } from '../../settings.ts';
import { artifacts } from '../artifacts.ts';
import { PROFILES, programsOf, unitsOf } from '../profiles.ts';
import { withServices } from '../readme.ts';
import { openRows, servicesOf } from '../services.ts';
import { DEVELOPMENT, surroundingsOf } from '../surroundings.ts';
import { exposureOf, filesOf, programsIn, unpackRoot, unwanted } from '../testing/tree.ts';
import { build, locksOf, OUTPUTS } from './build.ts';
import type { DebianLock } from './lock.ts';
import { parseUri } from './lock.ts';
import { firewall, haproxy } from './network.ts';
import { runTool } from './sandbox.ts';
import { configurationFiles } from './settings.ts';
import { defaultStore, Store } from './store.ts';
import { compareManifests, type Entry } from './tree.ts';
import { accounts, unitText } from './units.ts';

const SOURCES = join(import.meta.dirname, '../..');

/** What looks into all of a development machine is more exposed than the others. */
const EXPOSED: Readonly<Record<string, number>> = { 'report-standin.service': 3 };

function temporary(): string {
  const folder = mkdtempSync(join(tmpdir(), 'image-static-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

describe('inputs (R4)', () => {
  test('every input has name, version, size and sha256', () => {
    for (const profile of PROFILES) {
      const { root, tools, npm } = locksOf(SOURCES, profile);
      for (const entry of [...root.lock.packages, ...tools.lock.packages, ...npm.lock.packages]) {
        expect(entry).toMatchObject({
          name: expect.stringMatching(/./u),
          version: expect.stringMatching(/./u),
        });
        expect(entry.size).toBeGreaterThan(0);
        expect(entry.sha256).toMatch(/^[0-9a-f]{64}$/u);
      }
      console.log(`${profile}: ${root.lock.packages.length} debs, ${npm.lock.packages.length} npm packages`);
    }
  });

  test('production is locked with security updates, the tools and devnet move with point releases alone', () => {
    expect(locksOf(SOURCES, 'production').root.lock.suites).toContain('trixie-security');
    expect(locksOf(SOURCES, 'devnet').root.lock.suites).toEqual(['trixie']);
    expect(locksOf(SOURCES, 'devnet').tools.lock.suites).toEqual(['trixie']);
  });

  test('a missing and a changed package stop the build and are named', async () => {
    const folder = temporary();
    const store = new Store(join(folder, 'store'));
    const [deb] = locksOf(SOURCES, 'devnet').root.lock.packages;
    await expect(store.open(`${deb!.name} ${deb!.version}`, deb!)).rejects.toThrow(
      `${deb!.name} ${deb!.version} is not in the store: run \`npm run image -- fetch\``,
    );
    writeFileSync(store.blob(deb!), Buffer.alloc(deb!.size));
    await expect(store.open(deb!.name, deb!)).rejects.toThrow(`${deb!.name} was changed in the store`);
    // It is gone now, so that the next fetch brings the right one.
    expect(store.has(deb!)).toBe(false);
    const wrong = join(folder, 'wrong.deb');
    writeFileSync(wrong, 'another package');
    await expect(store.take('wrong', wrong, deb!)).rejects.toThrow('wrong: got 15 bytes');
  });

  test('an extra package of npm stops the build and is named', async () => {
    const folder = temporary();
    for (const name of ['root.main.json', 'tools.json']) {
      const target = join(folder, 'image/lock', name);
      await runTool(['mkdir', '-p', dirname(target)], {});
      writeFileSync(target, readFileSync(join(SOURCES, 'image/lock', name)));
    }
    const npm = locksOf(SOURCES, 'devnet').npm.lock;
    const extra = { ...npm.packages[0]!, name: 'left-pad', path: 'node_modules/left-pad', version: '1.3.0' };
    writeFileSync(
      join(folder, 'image/lock/npm.json'),
      JSON.stringify({ packages: [...npm.packages.slice(1), extra] }),
    );
    for (const name of ['package-lock.json', 'image/artifacts.json'])
      writeFileSync(join(folder, name), readFileSync(join(SOURCES, name)));
    const building = build({
      store: defaultStore(),
      profile: 'devnet',
      sources: folder,
      output: join(folder, 'out'),
      progress: () => undefined,
    });
    await expect(building).rejects.toThrow(
      `missing: ${npm.packages[0]!.path} ${npm.packages[0]!.version}; extra: node_modules/left-pad 1.3.0`,
    );
  });

  test('apt must print a sha256', () => {
    const line = (hash: string): string =>
      `'http://deb.debian.org/debian/pool/main/a/a_1%3a2_all.deb' a_1%3a2_all.deb 12 ${hash}`;
    expect(parseUri(line(`SHA256:${'ab'.repeat(32)}`))).toEqual({
      name: 'a',
      version: '1:2',
      architecture: 'all',
      archive: 'debian',
      size: 12,
      sha256: 'ab'.repeat(32),
    });
    expect(() => parseUri(line(`MD5Sum:${'ab'.repeat(16)}`))).toThrow('no package with a sha256');
  });
});

describe('refusals (V1)', () => {
  test.each(['production', 'testnet'] as const)('%s is refused, every reason is named', async (profile) => {
    const store = new Store(temporary());
    const output = join(store.directory, 'out');
    const building = build({ store, profile, sources: SOURCES, output, progress: () => undefined });
    const { message } = await building.then(
      () => new Error('it was built'),
      (error: unknown) => error as Error,
    );
    console.log(message);
    for (const { name } of artifacts(SOURCES)) expect(message).toContain(`artifact ${name} (`);
    expect(message).toContain('image/surroundings.ts names no hub');
  });

  test('what goes without attestation keeps production from being built; stand-ins are in none of its rows', () => {
    expect(servicesOf('production').filter(({ unit }) => unit.includes('standin'))).toEqual([]);
    expect(openRows('production').filter((reason) => !reason.startsWith('image/surroundings.ts'))).toEqual(
      [],
    );
    expect(openRows('devnet')).toEqual([]);
    const starts = (profile: 'production' | 'devnet') =>
      servicesOf(profile).flatMap(({ run }) => (run === undefined ? [] : [run.start]));
    const unproven = /attestation-type (?:none|dummy)|--dev-|--insecure-/u;
    expect(starts('production').filter((start) => unproven.test(start))).toEqual([]);
    expect(starts('production').filter((start) => start.includes('--production'))).toHaveLength(2);
    expect(starts('devnet').filter((start) => unproven.test(start))).toHaveLength(2);
    expect(surroundingsOf('production')).not.toBe(DEVELOPMENT);
  });
});

describe('the tree (B7, B9)', () => {
  test('what can be executed is exactly what is listed', () => {
    const files = filesOf(inject('image'));
    const programs = programsIn(files);
    console.log(`${programs.length} programs and the loader, ${files.length} entries`);
    expect(programs).toEqual(programsOf('devnet').sort());
    expect(files.filter(({ path, type }) => type === 'file' && path.includes('ld-linux'))).toHaveLength(1);
  });

  test('no set-uid file, nothing that others may write, no shell, no login, no way to become root', () => {
    const files = filesOf(inject('image'));
    expect(unwanted(files)).toEqual([]);
    // It would find them.
    const found = unwanted([
      ...files,
      { path: 'usr/bin/mount2', type: 'file', mode: '4755' },
      { path: 'usr/lib/systemd/system/getty@.service', type: 'link', mode: '0777' },
      { path: 'usr/bin/sh', type: 'link', mode: '0777' },
    ]);
    expect(found).toEqual(['usr/bin/mount2', 'usr/lib/systemd/system/getty@.service', 'usr/bin/sh']);
    console.log(`nothing of ${files.length} entries`);
  });

  test('every account is locked and has no shell', () => {
    const { passwd, shadow } = accounts(servicesOf('production'));
    for (const line of passwd.trim().split('\n')) expect(line).toMatch(/:\/usr\/sbin\/nologin$/u);
    for (const line of shadow.trim().split('\n')) expect(line).toMatch(/^[\w-]+:!\*:/u);
    const ids = passwd
      .trim()
      .split('\n')
      .map((line) => line.split(':')[2]);
    expect(new Set(ids).size).toBe(ids.length);
    console.log(`${ids.length} accounts, all locked`);
  });

  // Neither does the second build, under another user and host and years later: it has the same bytes.
  test('the output carries no path of the build (R5)', async () => {
    const image = inject('image');
    const folder = temporary();
    await unpackRoot(image, inject('tools'), folder);
    const unpack = 'zstd -dq /work/initrd.zst -o /work2/initrd.cpio';
    await runTool(['sh', '-c', unpack], {
      tools: inject('tools'),
      mounts: { '/work': image, '/work2': folder },
    });
    const needles = [SOURCES, image, inject('tools'), defaultStore().directory];
    const inside = readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name));
    const outputs = OUTPUTS.map((name) => join(image, name));
    for (const file of [...inside, ...outputs]) {
      const bytes = readFileSync(file);
      for (const needle of needles) expect(bytes.includes(needle), `${needle} in ${file}`).toBe(false);
    }
    console.log(`${inside.length} files and ${outputs.length} outputs hold none of ${needles.join(', ')}`);
  });
});

test('every file that the programs of the image import is in it', () => {
  const programs = [
    'main.ts',
    'operator-main.ts',
    'attested/main.ts',
    ...globSync('image/guest/*.ts', { cwd: SOURCES }).filter((path) => !path.includes('.test.')),
  ];
  const reached = new Set<string>(programs);
  for (const path of reached) {
    const text = readFileSync(join(SOURCES, path), 'utf8');
    for (const [, target] of text.matchAll(/^(?:import|export)\b[^;]*?from '(\.[^']+)'/gmsu)) {
      reached.add(normalize(join(dirname(path), target!)));
    }
  }
  const files = new Set(filesOf(inject('image')).map(({ path }) => path));
  const missing = [...reached].filter(
    (path) => !files.has(`usr/lib/orderflow/${path.replace(/\.ts$/u, '.js')}`),
  );
  expect(missing).toEqual([]);
});

describe('units', () => {
  const texts = new Map(
    PROFILES.map((profile) => [
      profile,
      servicesOf(profile).flatMap((service) =>
        service.run === undefined ? [] : [{ unit: service.unit, text: unitText(service, service.run) }],
      ),
    ]),
  );

  test.each(PROFILES)('%s: every unit that is named anywhere exists', (profile) => {
    const configuration = Object.entries(
      configurationFiles({
        profile,
        around: surroundingsOf(profile),
        manifest: artifacts(SOURCES),
        epoch: 0,
      }),
    ).filter(([path]) => path.includes('/system/'));
    const written = [
      ...configuration.map(([path]) => path.split('/').at(-1)!),
      ...servicesOf(profile).flatMap(({ triggers = {} }) => Object.keys(triggers)),
    ];
    const own = texts.get(profile)!;
    const known = new Set([
      ...unitsOf(profile),
      ...written,
      ...own.map(({ unit }) => unit),
      'var-lib-persistent.mount',
      'umount.target',
    ]);
    const all = [...own.map(({ text }) => text), ...configuration.map(([, text]) => text)].join('\n');
    const named = [
      ...all.matchAll(
        /^(?:After|Before|Requires|Wants|Conflicts|ExecStart=\/usr\/bin\/systemctl \S+)=?(.*)$/gmu,
      ),
    ]
      .flatMap(([, list]) => list!.trim().split(/\s+/u))
      .filter((name) => /\.(?:service|target|socket|mount|path|timer)$/u.test(name));
    expect(named.length).toBeGreaterThan(20);
    expect(named.filter((name) => !known.has(name))).toEqual([]);
  });

  test.each(PROFILES)(
    '%s: what lives long comes back for ever; what keeps state needs the disk; TLS waits for the time',
    (profile) => {
      for (const { unit, text } of texts.get(profile)!) {
        expect(text, unit).toMatch(/^StartLimitIntervalSec=0$/mu);
        // A unit for one connection ends with it.
        if (!text.includes('Type=oneshot') && !unit.includes('@'))
          expect(text, unit).toMatch(/^Restart=always$/mu);
        if (text.includes('StateDirectory=persistent'))
          expect(text, unit).toMatch(/^Requires=.*var-lib-persistent\.mount/mu);
        if (unit !== 'ssh@.service') expect(text, unit).toMatch(/^NoNewPrivileges=yes$/mu);
        expect(text, unit).toMatch(/^ProtectSystem=strict$/mu);
      }
      const config = texts.get(profile)!.find(({ unit }) => unit === 'render-config.service')!.text;
      expect(config).toMatch(/^Requires=time-gate\.service$/mu);
    },
  );

  test('no secret goes by the environment, and no program of root can be written by others', () => {
    for (const { unit, text } of texts.get('devnet')!) {
      expect(text, unit).not.toMatch(/^Environment=\w*(?:KEY|SECRET|TOKEN|PASSWORD)=/gmu);
      for (const [, program] of text.matchAll(/^ExecStart(?:Post)?=(\S+)/gmu))
        expect(program).toMatch(/^\/usr\//u);
    }
  });

  test.each(PROFILES)('%s: the node holds back what its unit would be killed for', (profile) => {
    const { run } = servicesOf(profile).find(({ unit }) => unit === 'orderflow-proxy.service')!;
    const { environment = {}, memory, openFiles } = run!;
    expect(`${Number(environment.MEMORY_CEILING_BYTES) / 2 ** 30}G`).toBe(memory);
    const settings = Object.entries(environment).map(([name, value]) => [name, String(value)]);
    expect(
      memoryProblem(readSettings([], Object.fromEntries(settings)), Number(environment.SHARDS), openFiles!),
    ).toBeNull();
  });

  test('ports of the firewall and of haproxy are those of the table', () => {
    const services = servicesOf('devnet');
    const open = services.flatMap(({ listens }) => listens).filter((port) => port.open === 'all');
    const toAll = open.filter(({ from }) => from === undefined).map(({ port }) => port);
    expect(firewall(services)).toContain(`    tcp dport { ${toAll.join(', ')} } accept`);
    expect(firewall(services)).toContain('    ip saddr @operator tcp dport 3535 accept');
    // Nobody comes in by ssh until the configuration has said who.
    const ssh = firewall(servicesOf('testnet'));
    expect(ssh).toContain('    ip saddr @ssh tcp dport 40192 accept');
    expect(ssh).toContain('  set ssh { type ipv4_addr; flags interval; auto-merge; }');
    const binds = [...haproxy().matchAll(/bind (\S+):(\d+)/gu)].map(
      ([, address, port]) => `${address}:${port}`,
    );
    const listed = services.find(({ unit }) => unit === 'haproxy.service')!.listens;
    expect(binds).toEqual(
      listed.map(({ port, open: who }) => `${who === 'all' ? '0.0.0.0' : '127.0.0.1'}:${port}`),
    );
    for (const { unit, listens } of services) {
      const others = ['haproxy.service', 'operator-api.service', 'attested-tls-proxy-server.service'];
      if (!others.includes(unit)) expect(listens.filter((port) => port.open === 'all')).toEqual([]);
    }
  });

  test.each([
    ['production', '80 443 3535 5544 6000 7936 9000 30303', '9000 9001 30303'],
    ['testnet', '80 443 3535 5544 6000 7936 9000 30303 40192', '9000 9001 30303'],
    ['devnet', '80 443 3535 5544 7936', ''],
    ['debug', '80 443 3535 5544 7936 40192', ''],
  ] as const)('%s is open where it has to be and nowhere else', (profile, tcp, udp) => {
    const opened = (protocol: string): string =>
      servicesOf(profile)
        .flatMap(({ listens }) => listens)
        .filter((port) => port.open === 'all' && port.protocol === protocol)
        .map(({ port }) => port)
        .sort((a, b) => a - b)
        .join(' ');
    expect([opened('tcp'), opened('udp')]).toEqual([tcp, udp]);
  });

  test.each(PROFILES)(
    '%s: whatever is mounted to be written is noexec, but for fetched programs',
    (profile) => {
      const files = {
        ...configurationFiles({
          profile,
          around: surroundingsOf(profile),
          manifest: artifacts(SOURCES),
          epoch: 0,
        }),
        ...Object.assign({}, ...servicesOf(profile).map(({ triggers }) => triggers)),
      } as Record<string, string>;
      const mounts = Object.entries(files).filter(([path]) => path.endsWith('.mount'));
      const executable = mounts
        .filter(([, text]) => text.includes('[Mount]') && !/^Options=.*\bnoexec\b/mu.test(text))
        .map(([path]) => path);
      expect(executable).toEqual(
        profile === 'production' || profile === 'testnet' ? ['run-private.mount'] : [],
      );
      for (const [path, text] of mounts.filter(([, one]) => one.includes('[Mount]')))
        expect(text, path).toMatch(/^Options=.*nosuid,nodev/mu);
    },
  );

  test('systemd itself finds nothing wrong with them', async () => {
    const root = temporary();
    const image = inject('image');
    await unpackRoot(image, inject('tools'), root);
    const units = servicesOf('devnet').flatMap(({ unit, run }) => (run === undefined ? [] : [unit]));
    const printed = await runTool(
      ['systemd-analyze', 'verify', '--root=/work2/root', '--man=no', '--recursive-errors=no', ...units],
      { tools: inject('tools'), mounts: { '/work2': root } },
    );
    expect(printed).toBe('');
    const exposure = await exposureOf(root, inject('tools'), units);
    expect([...exposure.keys()].sort()).toEqual([...units].sort());
    for (const [unit, score] of exposure) {
      console.log(`exposed ${score.toFixed(1)} ${unit}`);
      expect(score, unit).toBeLessThanOrEqual(EXPOSED[unit] ?? 2);
    }
    // Where systemd reads it, each key in its section: a limit elsewhere would be none.
    for (const [name, first] of [
      ['journald', /^\[Journal\]\n(?:\w+=.*\n)*RuntimeMaxUse=64M$/mu],
      ['resolved', /^\[Resolve\]\n(?:\w+=.*\n)*LLMNR=no$/mu],
      ['system', /^\[Manager\]\n(?:\w+=.*\n)*DefaultLimitCORE=0$/mu],
    ] as const) {
      const read = ['systemd-analyze', 'cat-config', '--root=/work2/root', `systemd/${name}.conf`];
      const text = await runTool(read, { tools: inject('tools'), mounts: { '/work2': root } });
      expect(text.match(/^\[/gmu), name).toHaveLength(1);
      expect(text, name).toMatch(first);
    }
    expect(globSync('root/usr/lib/modules/*/kernel/**/*.ko', { cwd: root }).length).toBeLessThan(50);
  });
});

test('diff explains two images file by file (R6)', () => {
  const file = (path: string, sha256: string): Entry => ({
    path,
    type: 'file',
    mode: '0644',
    size: 1,
    sha256,
  });
  const before = [
    file('a', '11'),
    file('b', '22'),
    { path: 'l', type: 'link', mode: '0777', target: 'a' } as const,
  ];
  const after = [
    file('a', '11'),
    file('c', '33'),
    { path: 'l', type: 'link', mode: '0777', target: 'c' } as const,
  ];
  expect(compareManifests(before, after)).toEqual(['- b 0644 1 22', '+ c 0644 1 33', '~ l -> a => -> c']);
  const files = filesOf(inject('image'));
  expect(compareManifests(files, files)).toEqual([]);
  const other = filesOf(inject('image')).map((entry) =>
    entry.path === 'usr/bin/node' ? { ...entry, sha256: '00'.repeat(32) } : entry,
  );
  const explained = compareManifests(files, other);
  console.log(explained.join('\n'));
  expect(explained).toEqual([expect.stringMatching(/^~ usr\/bin\/node 0755 /u)]);
});

test('the README has the table of the services (node image/readme.ts)', () => {
  const readme = readFileSync(join(SOURCES, 'image/README.md'), 'utf8');
  expect(withServices(readme)).toBe(readme);
});

test('a lock that names a package twice is refused', async () => {
  const { root } = locksOf(SOURCES, 'devnet');
  const twice: DebianLock = { ...root.lock, packages: [...root.lock.packages, root.lock.packages[0]!] };
  const { unpackDebs } = await import('./unpack.ts');
  await expect(unpackDebs(defaultStore(), twice, join(temporary(), 'root'), {})).rejects.toThrow(
    `the lock names ${root.lock.packages[0]!.name} twice`,
  );
});
