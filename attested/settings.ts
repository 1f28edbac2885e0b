/**
 * The settings of both proxies in one table: flag, environment name, who takes it, default, what it does. Names and
 * refusals are those of the deployed proxies; flags win over the environment.
 */
import { parseArgs } from 'node:util';
import { INTEL_SERVICE } from '../identity/attestation/provisioning-service.ts';
import { TCB_STATUSES, type TcbStatus } from '../identity/attestation/tcb-documents.ts';
import { PROXY_BOUNDS, type ProxyBounds } from './bounds.ts';

/** A setting was wrong; the message names it and says what is allowed. */
export class SettingError extends Error {}

export type Role = 'server' | 'client';

interface Setting {
  readonly flag: string;
  readonly roles: readonly Role[];
  /** Undefined: a switch. */
  readonly value: string | undefined;
  readonly default: string;
  readonly help: string;
}

const BOTH: readonly Role[] = ['server', 'client'];

function setting(
  flag: string,
  roles: readonly Role[],
  value: string | undefined,
  fallback: string,
  help: string,
) {
  return { flag, roles, value, default: fallback, help } satisfies Setting;
}

const BOUND_FLAGS: Readonly<Record<string, { readonly bound: keyof ProxyBounds; readonly help: string }>> = {
  'max-connections': { bound: 'maxConnections', help: 'most open connections of callers' },
  'max-handshakes': { bound: 'maxHandshakes', help: 'most handshakes at a time; each may cost a quote' },
  'max-upstream': { bound: 'maxUpstream', help: 'most connections to the target' },
  'max-requests': { bound: 'maxRequests', help: 'most requests under way, on all connections together' },
  'max-body-bytes': { bound: 'maxBodyBytes', help: 'longest request body' },
  'handshake-timeout-ms': { bound: 'handshakeTimeoutMs', help: 'from the TCP connection to the verdict' },
  'head-timeout-ms': { bound: 'headTimeoutMs', help: "a request's head, first byte to last" },
  'request-timeout-ms': { bound: 'requestTimeoutMs', help: 'a whole request, first byte to last' },
  'idle-timeout-ms': { bound: 'idleTimeoutMs', help: 'silence of a caller or of the target' },
  'drain-timeout-ms': { bound: 'drainTimeoutMs', help: 'how long SIGTERM waits for answers' },
};

export const SETTINGS: readonly Setting[] = [
  setting(
    'listen-addr',
    BOTH,
    'HOST:PORT',
    '127.0.0.1:8080',
    'where callers connect: TLS at the server, plain HTTP at the client',
  ),
  setting(
    'target-addr',
    BOTH,
    'URL',
    '',
    'where requests go: http:// from the server, https:// from the client',
  ),
  setting(
    'listen-addr-healthcheck',
    BOTH,
    'HOST:PORT',
    '',
    'plain HTTP: /readyz (503 until this side can attest), /metrics, 200 to anything else; empty = none',
  ),
  setting(
    'server-attestation-type',
    ['server'],
    'TYPE',
    'auto',
    'what the server proves: none, auto (dcap-tdx, or no start), dcap-tdx, dummy (--dev-dummy-dcap)',
  ),
  setting('client-attestation-type', ['client'], 'TYPE', 'none', 'what the client proves: the same'),
  setting(
    'client-measurements',
    ['server'],
    'FILE',
    '',
    'demand an attested client whose image this policy lists; read again when it changes',
  ),
  setting(
    'server-measurements',
    ['client'],
    'FILE',
    '',
    'demand an attested server whose image this policy lists; read again when it changes',
  ),
  setting(
    'tls-certificate-path',
    ['server'],
    'FILE',
    '',
    'a regular certificate instead of an attested one (with type none)',
  ),
  setting('tls-private-key-path', ['server'], 'FILE', '', 'its key; both are read again when they change'),
  setting(
    'verify-tls',
    ['client'],
    undefined,
    'false',
    'know the server by certificate authorities instead of a quote',
  ),
  setting('tls-ca-certificate', ['client'], 'FILE', '', 'the authorities; empty = those of the system'),
  setting('insecure-any-server', ['client'], undefined, 'false', 'take any server without a check'),
  setting(
    'pccs-url',
    BOTH,
    'URL',
    INTEL_SERVICE,
    "where collateral comes from: Intel's service or a caching one (PCCS)",
  ),
  setting('collateral-dir', BOTH, 'DIR', '', 'keeps collateral over restarts; empty = memory'),
  setting(
    'accept-tcb',
    BOTH,
    'LIST',
    'UpToDate',
    `statuses of machines that pass, separated by commas: ${TCB_STATUSES.join(', ')}`,
  ),
  setting(
    'dev-dummy-dcap',
    BOTH,
    'URL',
    '',
    'development: quotes from a program, GET URL/attest/HEX (with type dummy)',
  ),
  setting(
    'dev-mock-root',
    BOTH,
    'FILE',
    '',
    "development: take this root instead of Intel's; PROVES NOTHING, said in every log and metric, refused with --production",
  ),
  setting('production', BOTH, undefined, 'false', 'refuse every development setting'),
  ...Object.entries(BOUND_FLAGS).map(([flag, { bound, help }]) =>
    setting(flag, BOTH, 'N', String(PROXY_BOUNDS[bound]), help),
  ),
  setting('log-json', BOTH, 'true|false', 'true', 'log lines as JSON, or for human eyes'),
  setting('log-debug', BOTH, undefined, 'false', 'log more'),
];

export interface ProxySettings {
  readonly listen: { readonly host: string; readonly port: number };
  readonly target: URL;
  readonly health: { readonly host: string; readonly port: number } | undefined;
  /** What this side proves. */
  readonly own: 'none' | 'auto' | 'dcap-tdx' | 'dummy';
  /** Policy of the other side. */
  readonly policyFile: string | undefined;
  readonly certificate: { readonly certFile: string; readonly keyFile: string } | undefined;
  readonly verifyTls: boolean;
  readonly caFile: string | undefined;
  readonly anyServer: boolean;
  readonly pccsUrl: string;
  readonly collateralDir: string | undefined;
  readonly acceptedTcb: ReadonlySet<TcbStatus>;
  readonly dummyUrl: string | undefined;
  readonly mockRootFile: string | undefined;
  readonly bounds: ProxyBounds;
  readonly logJson: boolean;
  readonly logDebug: boolean;
}

/** @returns the text of --help */
export function helpOf(role: Role): string {
  const rows = SETTINGS.filter(({ roles }) => roles.includes(role)).map(
    ({ flag, value, default: fallback, help }) =>
      `  --${flag}${value === undefined ? '' : ` ${value}`}  [${envOf(flag)}]\n      ${help}${fallback === '' || value === undefined ? '' : `; default: ${fallback}`}`,
  );
  return `Usage: attested-proxy ${role} [flags]\n\nEach is a flag or an environment variable; flags win.\n\n${rows.join('\n')}\n`;
}

/**
 * @param flags after the role
 * @throws SettingError naming what is wrong and what is allowed
 */
export function readSettings(role: Role, flags: readonly string[], env: NodeJS.ProcessEnv): ProxySettings {
  const read = readerOf(role, flags, env);
  const own = attestationType(`${role}-attestation-type`, read.text(`${role}-attestation-type`));
  const dummyUrl = optional(read.text('dev-dummy-dcap'));
  if (own === 'dummy' && dummyUrl === undefined) {
    throw new SettingError(`--${role}-attestation-type dummy: needs --dev-dummy-dcap`);
  }
  if (own !== 'dummy' && dummyUrl !== undefined) {
    throw new SettingError(`--dev-dummy-dcap: needs --${role}-attestation-type dummy`);
  }
  const mockRootFile = optional(read.text('dev-mock-root'));
  if (read.on('production')) {
    if (mockRootFile !== undefined) throw new SettingError('--dev-mock-root: refused with --production');
    if (dummyUrl !== undefined) throw new SettingError('--dev-dummy-dcap: refused with --production');
    if (read.on('insecure-any-server'))
      throw new SettingError('--insecure-any-server: refused with --production');
  }
  const policyFile = optional(read.text(role === 'server' ? 'client-measurements' : 'server-measurements'));
  const trust = role === 'client' ? clientTrust(read, policyFile) : {};
  return {
    listen: listenAddress('listen-addr', read.text('listen-addr')),
    target: targetUrl(role, read.text('target-addr')),
    health:
      read.text('listen-addr-healthcheck') === ''
        ? undefined
        : listenAddress('listen-addr-healthcheck', read.text('listen-addr-healthcheck')),
    own,
    policyFile,
    certificate: role === 'server' ? certificateOf(read, own) : undefined,
    verifyTls: false,
    caFile: undefined,
    anyServer: false,
    ...trust,
    pccsUrl: serviceUrl('pccs-url', read.text('pccs-url')),
    collateralDir: optional(read.text('collateral-dir')),
    acceptedTcb: acceptedTcb(read.text('accept-tcb')),
    dummyUrl: dummyUrl === undefined ? undefined : serviceUrl('dev-dummy-dcap', dummyUrl),
    mockRootFile,
    bounds: readBounds(read),
    logJson: read.on('log-json'),
    logDebug: read.on('log-debug'),
  };
}

interface Reader {
  text(flag: string): string;
  on(flag: string): boolean;
}

function readerOf(role: Role, flags: readonly string[], env: NodeJS.ProcessEnv): Reader {
  const known = SETTINGS.filter(({ roles }) => roles.includes(role));
  const options = Object.fromEntries(
    known.map(({ flag, value }) => [
      flag,
      { type: value === undefined ? ('boolean' as const) : ('string' as const) },
    ]),
  );
  let given: Readonly<Record<string, string | boolean | undefined>>;
  try {
    given = parseArgs({ args: [...flags], options, strict: true }).values;
  } catch (error) {
    throw new SettingError(error instanceof Error ? error.message : String(error));
  }
  const valueFor = (flag: string): string => {
    const value = given[flag] ?? env[envOf(flag)] ?? known.find((one) => one.flag === flag)?.default ?? '';
    return String(value).trim();
  };
  return {
    text: valueFor,
    on(flag) {
      const value = valueFor(flag).toLowerCase();
      if (['1', 'true', 'on', 'yes'].includes(value)) return true;
      if (['', '0', 'false', 'off', 'no'].includes(value)) return false;
      throw new SettingError(`--${flag}: ${JSON.stringify(value)} is neither true nor false`);
    },
  };
}

/** Fail closed: a client that was told nothing about its server does not start. */
function clientTrust(
  read: Reader,
  policyFile: string | undefined,
): Pick<ProxySettings, 'verifyTls' | 'caFile' | 'anyServer'> {
  const verifyTls = read.on('verify-tls');
  const anyServer = read.on('insecure-any-server');
  const caFile = optional(read.text('tls-ca-certificate'));
  if (verifyTls && policyFile !== undefined) {
    throw new SettingError('--verify-tls: not together with --server-measurements');
  }
  if (caFile !== undefined && !verifyTls) throw new SettingError('--tls-ca-certificate: needs --verify-tls');
  if (anyServer && (verifyTls || policyFile !== undefined)) {
    throw new SettingError('--insecure-any-server: not together with a check of the server');
  }
  if (policyFile === undefined && !verifyTls && !anyServer) {
    throw new SettingError('--server-measurements: is missing; or --verify-tls, or --insecure-any-server');
  }
  return { verifyTls, caFile, anyServer };
}

function certificateOf(read: Reader, own: ProxySettings['own']): ProxySettings['certificate'] {
  const certFile = optional(read.text('tls-certificate-path'));
  const keyFile = optional(read.text('tls-private-key-path'));
  if ((certFile === undefined) !== (keyFile === undefined)) {
    throw new SettingError('--tls-certificate-path and --tls-private-key-path: one without the other');
  }
  if (certFile === undefined || keyFile === undefined) return undefined;
  if (own !== 'none') {
    throw new SettingError('--tls-certificate-path: only with --server-attestation-type none');
  }
  return { certFile, keyFile };
}

function attestationType(flag: string, text: string): ProxySettings['own'] {
  if (text === 'azure-tdx' || text === 'gcp-tdx') {
    throw new SettingError(`--${flag} ${text}: is not made by this version; dcap-tdx is`);
  }
  const known = (['none', 'auto', 'dcap-tdx', 'dummy'] as const).find((one) => one === text);
  const type = text === 'qemu-tdx' ? 'dcap-tdx' : known;
  if (type === undefined)
    throw new SettingError(`--${flag} ${text}: none, auto, dcap-tdx or dummy are allowed`);
  return type;
}

function targetUrl(role: Role, text: string): URL {
  const protocol = role === 'server' ? 'http:' : 'https:';
  const url = URL.parse(text);
  if (
    url === null ||
    url.protocol !== protocol ||
    url.hash !== '' ||
    url.search !== '' ||
    url.username !== ''
  ) {
    throw new SettingError(`--target-addr: ${JSON.stringify(text)} is no ${protocol}// URL`);
  }
  return url;
}

/** @throws SettingError naming the setting when the text is no base URL */
export function serviceUrl(flag: string, text: string): string {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/u.test(url.protocol) || url.search !== '' || url.hash !== '') {
    throw new SettingError(`--${flag}: ${JSON.stringify(text)} is no http:// or https:// URL`);
  }
  return text;
}

function listenAddress(flag: string, text: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:[\]]*)):(\d{1,5})$/u.exec(text);
  if (match === null || Number(match[3]) > 65_535) {
    throw new SettingError(`--${flag}: ${JSON.stringify(text)} is none of HOST:PORT, [IPV6]:PORT or :PORT`);
  }
  return { host: match[1] ?? (match[2] === '' ? '::' : (match[2] ?? '')), port: Number(match[3]) };
}

/** @throws SettingError naming the status that is none */
export function acceptedTcb(text: string): ReadonlySet<TcbStatus> {
  const names = text.split(',').map((name) => name.trim());
  return new Set(
    names.map((name) => {
      const status = TCB_STATUSES.find((known) => known === name);
      if (status === undefined || status === 'Revoked') {
        throw new SettingError(`--accept-tcb: ${JSON.stringify(name)} is no status that can be accepted`);
      }
      return status;
    }),
  );
}

function readBounds(read: Reader): ProxyBounds {
  const bounds: Record<keyof ProxyBounds, number> = { ...PROXY_BOUNDS };
  for (const [flag, { bound }] of Object.entries(BOUND_FLAGS)) {
    const value = Number(read.text(flag));
    if (!Number.isSafeInteger(value) || value < 1 || value > 2 ** 31 - 1) {
      throw new SettingError(`--${flag}: a whole number from 1 to ${2 ** 31 - 1} is allowed`);
    }
    bounds[bound] = value;
  }
  if (bounds.headTimeoutMs > bounds.requestTimeoutMs) {
    throw new SettingError('--head-timeout-ms: at most --request-timeout-ms is allowed');
  }
  return bounds;
}

function optional(text: string): string | undefined {
  return text === '' ? undefined : text;
}

/** Upper case with underscores, as the deployed server reads them. */
function envOf(flag: string): string {
  return flag.toUpperCase().replaceAll('-', '_');
}
