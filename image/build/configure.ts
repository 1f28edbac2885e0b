/** The configuration of the root file system, made from the service table and the settings. */
import { chmodSync, globSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Artifact } from '../artifacts.ts';
import { modulesOf, type Profile } from '../profiles.ts';
import { PERSISTENT } from '../service.ts';
import { DEBUG_USERS, hasSsh, SSHD_CONFIG } from '../services/access.ts';
import { servicesOf } from '../services.ts';
import type { Surroundings } from '../surroundings.ts';
import { firewall, haproxy } from './network.ts';
import { configurationFiles } from './settings.ts';
import { accounts, unitText } from './units.ts';

function put(root: string, path: string, text: string, mode = 0o644): void {
  const file = join(root, path);
  mkdirSync(dirname(file), { recursive: true });
  rmSync(file, { force: true });
  writeFileSync(file, text);
  chmodSync(file, mode);
}

export interface ConfigurationOptions {
  readonly profile: Profile;
  readonly around: Surroundings;
  readonly manifest: readonly Artifact[];
  /** Seconds since 1970. */
  readonly epoch: number;
}

/** Writes everything that is not of a package: units, users, firewall, edge, settings. */
export function writeConfiguration(root: string, options: ConfigurationOptions): void {
  const { profile, around } = options;
  const services = servicesOf(profile, around);
  const units = 'usr/lib/systemd/system';
  for (const service of services) {
    if (service.run === undefined) continue;
    put(root, `${units}/${service.unit}`, unitText(service, service.run));
    for (const target of service.run.wantedBy ?? []) {
      const wants = join(root, units, `${target}.wants`);
      mkdirSync(wants, { recursive: true });
      symlinkSync(`../${service.unit}`, join(wants, service.unit));
    }
    for (const [name, text] of Object.entries(service.triggers ?? {})) put(root, `${units}/${name}`, text);
  }
  const { passwd, group, shadow } = accounts(services, hasSsh(profile) ? DEBUG_USERS : []);
  put(root, 'etc/passwd', passwd);
  put(root, 'etc/group', group);
  put(root, 'etc/shadow', shadow, 0o600);
  put(root, 'etc/nftables.conf', firewall(services));
  put(root, 'etc/haproxy/haproxy.cfg', haproxy());
  if (hasSsh(profile)) put(root, 'etc/ssh/sshd_config', SSHD_CONFIG);
  const certificates = globSync('usr/share/ca-certificates/mozilla/*.crt', { cwd: root }).sort();
  put(
    root,
    'etc/ssl/certs/ca-certificates.crt',
    certificates.map((path) => readFileSync(join(root, path), 'utf8')).join(''),
  );
  rmSync(join(root, 'usr/share/ca-certificates'), { recursive: true });
  for (const [path, text] of Object.entries(configurationFiles(options))) {
    if (text.startsWith('-> ')) {
      const file = join(root, path);
      rmSync(file, { force: true });
      mkdirSync(dirname(file), { recursive: true });
      symlinkSync(text.slice(3), file);
    } else put(root, path, text);
  }
  put(root, 'usr/lib/modules-load.d/image.conf', `${modulesOf(profile).join('\n')}\n`);
  put(
    root,
    `${units}/var-lib-persistent.mount`,
    `[Unit]
Description=the encrypted data disk
DefaultDependencies=no
Requires=persistent-setup.service
After=persistent-setup.service local-fs.target
Before=umount.target
Conflicts=umount.target

[Mount]
What=/run/node/persistent-setup/device
Where=${PERSISTENT}
Type=ext4
Options=nosuid,nodev,noexec,noatime
`,
  );
}
