/** Rules that hold for every unit of every profile, whoever adds the next one; each is a fault that a node had. */
import { describe, expect, test } from 'vitest';
import { renderConfig } from '../guest/config.ts';
import { commandLine, isDevelopment, PROFILES, type Profile, unitsOf } from '../profiles.ts';
import { hasSsh } from '../services/access.ts';
import { servicesOf } from '../services.ts';
import { type Configured, configured, needs, waitsFor } from '../testing/units.ts';

const CONFIGURATION = JSON.stringify({
  instance_name: 'vm',
  disk_encryption: { key: 'ab'.repeat(32) },
  rbuilder: { coinbase_secret_key: '11'.repeat(32), relay_secret_key: '22'.repeat(32) },
  export: { metrics_url: 'https://metrics.example', journal_url: 'https://journal.example' },
});
const TIME = 'time-gate.service';
const CONFIG = 'render-config.service';
const DISK = 'var-lib-persistent.mount';
const OUTSIDE = [TIME, 'attested-tls-proxy-client.service', CONFIG, 'persistent-setup.service', DISK];
/** They make the network and the time that the others wait for. */
const BEFORE_TIME = [
  'systemd-networkd.service',
  'systemd-resolved.service',
  'chrony.service',
  'operator-api.service',
];
/** Written by root, or not at all. */
const OF_ROOT = /^(?:\/usr\/|\/etc\/|\/run\/node\/|\/run\/eth-jwt\/)/u;

const IMAGES: [Profile, Configured][] = PROFILES.map((profile) => [profile, configured(profile)]);

/** The unit that a timer, path or socket starts. */
function started(name: string, text: string): string[] {
  const [, stem = '', kind = ''] = /^(.+)\.(timer|path|socket)$/u.exec(name) ?? [];
  if (kind === '' || /^(?:systemd-|ListenFIFO=)/mu.test(`${name}\n${text}`)) return [];
  return [text.includes('\nAccept=yes') ? `${stem}@.service` : `${stem}.service`];
}

describe.each(IMAGES)('%s', (profile, image) => {
  const units = [...image.units.values()];
  const services = servicesOf(profile);

  test('every unit that is named anywhere exists', () => {
    const known = new Set([...unitsOf(profile), ...image.units.keys(), '-.mount']);
    const rendered = renderConfig(CONFIGURATION, {
      actions: '',
      builder: !isDevelopment(profile),
      ssh: hasSsh(profile),
      exports: profile === 'testnet',
    });
    const named = [
      ...units.flatMap((unit) =>
        [
          'After',
          'Before',
          'Requires',
          'Wants',
          'Conflicts',
          'BindsTo',
          'PartOf',
          'OnFailure',
          'Unit',
        ].flatMap((key) => unit.list(key)),
      ),
      ...units.flatMap(({ name, text }) => started(name, text)),
      ...units.flatMap(({ text }) =>
        [...text.matchAll(/\/systemctl \S+ (\S+)$/gmu)].map(([, name = '']) => name),
      ),
      ...[...image.wanted].flat(2),
      // What is restarted when its files have changed.
      ...rendered.map(({ path }) => `${path.split('/')[0]}.service`),
    ];
    expect(named.length).toBeGreaterThan(80);
    // A unit for one connection is started by its socket alone.
    const missing = named.filter(
      (name) => !known.has(name) && !known.has(name.replace('.service', '@.service')),
    );
    expect([...new Set(missing)]).toEqual([]);
  });

  test('what an operator starts is not up already', () => {
    const startedByAction = units
      .filter(({ name }) => name.startsWith('operator-action-') && name.endsWith('.service'))
      .flatMap((unit) => unit.all('ExecStart'))
      .flatMap((line) => /systemctl start (\S+)/u.exec(line)?.[1] ?? []);
    expect(startedByAction).toContain('fetch-config.service');
    for (const name of startedByAction)
      expect(image.units.get(name)?.all('RemainAfterExit'), name).toEqual([]);
  });

  test('addresses and ports in commands and environments are those of the table', () => {
    const ports = services.flatMap(({ unit, listens }) =>
      listens.map(({ port, protocol }) => `${protocol} ${port} is of ${unit}`),
    );
    const ofSomebody = new Set(services.flatMap(({ listens }) => listens.map(({ port }) => port)));
    let seen = 0;
    for (const { unit, listens, run } of services.filter((one) => one.run !== undefined)) {
      const text = image.units.get(unit)!.text.replaceAll(/^(?:Description|IPAddress\w+)=.*$/gmu, '');
      for (const [, address, port] of text.matchAll(/\b(0\.0\.0\.0|127\.0\.0\.1):(\d+)/gu)) {
        seen++;
        if (address === '0.0.0.0') {
          const row = listens.find((one) => one.port === Number(port));
          expect(row?.open, `${unit} ${port}`).toBe('all');
        } else expect([...ofSomebody], unit).toContain(Number(port));
      }
      for (const [, port] of text.matchAll(/port[ =](\d+)/gu))
        expect(
          listens.map((one) => one.port),
          `${unit} ${port}`,
        ).toContain(Number(port));
      expect(run?.network === undefined && listens.length > 0, unit).toBe(false);
    }
    expect(seen).toBeGreaterThan(10);
    const numbers = ports.map((line) => line.replace(/ is of .*$/u, ''));
    expect(ports.filter((_, index) => numbers.indexOf(numbers[index]!) !== index)).toEqual([]);
  });

  test('the clock is right before anything else speaks to the outside, and waits for none of it', () => {
    const speaks = services.filter(({ unit, calls }) => calls.length > 0 && !BEFORE_TIME.includes(unit));
    expect(speaks.length).toBeGreaterThan(2);
    for (const { unit } of speaks) expect([...waitsFor(image, unit, true)], unit).toContain(TIME);
    for (const unit of ['chrony.service', TIME]) {
      const waits = waitsFor(image, unit, false);
      expect(
        OUTSIDE.filter((one) => one !== TIME && waits.has(one)),
        unit,
      ).toEqual([]);
    }
    // The firewall is first of all, and without it there is no network.
    expect([...waitsFor(image, 'systemd-networkd.service', true)]).toContain('firewall.service');
    expect([...waitsFor(image, 'modules-lock.service', false)]).toContain('firewall.service');
  });

  test('a boot that fails can be seen: the operator API waits for nothing from outside', () => {
    const unit = 'operator-api.service';
    const waits = waitsFor(image, unit, false);
    expect(OUTSIDE.filter((one) => waits.has(one) || needs(image, unit).has(one))).toEqual([]);
    // Nothing that it waits for asks it to wait.
    expect([...waits]).toEqual(['firewall.service', 'systemd-modules-load.service']);
    expect(image.units.get(unit)!.all('Restart')).toEqual(['always']);
  });

  test('the node waits for no chain and no builder', () => {
    const chain = /^(?:reth|lighthouse|eth-jwt|private-fetch|rbuilder|bidding|builder-standin)/u;
    const waits = [
      ...waitsFor(image, 'orderflow-proxy.service', false),
      ...needs(image, 'orderflow-proxy.service'),
    ];
    expect(waits).toContain(CONFIG);
    expect(waits.filter((one) => chain.test(one))).toEqual([]);
  });

  test('whatever reads or writes the data disk does not run without it', () => {
    const users = units.filter(
      ({ name, text }) =>
        name.endsWith('.service') && /\/var\/lib\/persistent|StateDirectory=persistent/u.test(text),
    );
    expect(users.map(({ name }) => name)).toContain('haproxy.service');
    for (const { name } of users) {
      expect([...needs(image, name)], name).toContain(DISK);
      expect([...waitsFor(image, name, true)], name).toContain(DISK);
    }
    expect([...needs(image, DISK)]).toEqual(
      expect.arrayContaining(['persistent-setup.service', CONFIG, TIME]),
    );
    expect(image.units.get(DISK)!.all('Options')).toEqual(['nosuid,nodev,noexec,noatime']);
  });

  test('a certificate that the node has renewed reaches haproxy: one file is written, watched and taken', () => {
    const written = image.units
      .get('orderflow-proxy.service')!
      .all('Environment')
      .find((one) => one.startsWith('DATA_DIR='))!;
    const file = `${written.slice('DATA_DIR='.length)}/tls.pem`;
    expect(image.units.get('haproxy.service')!.all('LoadCredential')).toContain(`node.pem:${file}`);
    expect(image.units.get('haproxy-certificate.path')!.all('PathChanged')).toEqual([file]);
    expect(image.wanted.get('multi-user.target')).toContain('haproxy-certificate.path');
    // A reload would keep the credential of the start.
    const restart = '/usr/bin/systemctl try-restart haproxy.service';
    expect(image.units.get('haproxy-certificate.service')!.all('ExecStart')).toEqual([restart]);
  });

  test('root runs and reads nothing that somebody else may write', () => {
    for (const { name, all } of units.filter((one) => one.name.endsWith('.service'))) {
      const commands = ['ExecStart', 'ExecStartPre', 'ExecStartPost', 'ExecStop', 'ExecReload'].flatMap(all);
      // With a plus systemd runs it as root, whoever the user is.
      const ofRoot = commands.filter((command) => all('User').length === 0 || command.startsWith('+'));
      for (const command of ofRoot) expect(command.replace('+', ''), name).toMatch(/^\/usr\//u);
      const files = [
        ...all('EnvironmentFile'),
        ...ofRoot
          .filter((command) => !command.startsWith('+'))
          .flatMap((command) => command.split(/\s+/u).filter((word) => word.startsWith('/'))),
      ];
      for (const file of files) expect(file, name).toMatch(OF_ROOT);
    }
  });

  test('nothing that is written can be read by others, from the first moment on', () => {
    const masks = units
      .filter(({ name }) => name.endsWith('.service') && !name.startsWith('systemd-networkd'))
      .map((unit) => [unit.name, unit.list('UMask').join()] as const);
    // Its group is the builder.
    const wider = masks.filter(([, mask]) => mask !== '0077').map(([name]) => name);
    expect(wider).toEqual(isDevelopment(profile) ? [] : ['reth.service']);
    expect(image.units.get(CONFIG)!.all('RuntimeDirectoryMode')).toEqual(['0700']);
    expect(image.files.get('usr/lib/tmpfiles.d/image.conf')).toContain('d /run/node 0700 root root');
  });

  test('no proof is left out where keys are real, and no shell line is run anywhere', () => {
    const text = [...image.files.values()].join('\n');
    if (!isDevelopment(profile)) {
      expect(text).not.toMatch(/attestation-type[ =](?:none|dummy)|--dev-|--insecure-|standin/u);
      expect(text.match(/-attestation-type dcap-tdx --production/gu)).toHaveLength(2);
    }
    for (const { name, all } of units)
      for (const command of all('ExecStart')) expect(command, name).not.toMatch(/\bsh\b -c|[;|&`]|\$\(/u);
  });
});

test('production says nothing on the port that the host reads, and every kernel is as closed', () => {
  expect(commandLine('production', '')).not.toContain('console=');
  expect(commandLine('production', '')).toMatch(/^quiet loglevel=0 /u);
  const production = configured('production');
  expect(production.files.get('etc/systemd/journald.conf')).toMatch(/^ForwardToConsole=no$/mu);
  expect([...production.files.values()].join('\n')).not.toMatch(/^Standard\w+=.*(?:console|tty)/mu);
  for (const profile of PROFILES) {
    expect(commandLine(profile, '').split(' ')).toEqual(
      expect.arrayContaining([
        'lockdown=integrity',
        'module.sig_enforce=1',
        'init_on_alloc=1',
        'init_on_free=1',
        'slab_nomerge',
        'page_alloc.shuffle=1',
        'randomize_kstack_offset=on',
        'vsyscall=none',
        'debugfs=off',
        'oops=panic',
        'panic=1',
        'mitigations=auto',
        'systemd.import_credentials=no',
        'systemd.show_status=no',
      ]),
    );
  }
});
