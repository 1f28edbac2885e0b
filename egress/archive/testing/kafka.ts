/**
 * Real Kafka brokers for tests: one, or a cluster of three with min.insync.replicas=2, in KRaft mode. Each broker is
 * broker and controller. They end with the test, also when the test process crashes or is killed.
 *
 * Listeners of each broker, all on 127.0.0.1: plain text; TLS that demands a client certificate; SASL over TLS (SCRAM).
 * Clients of the plain listener may be led through a proxy per broker (`proxied`).
 *
 * `KAFKA_BROKERS` (HOST:PORT,…, plain text) is used in place of a single broker of our own by tests that only need some
 * broker. A run that can have no broker fails.
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type ChildProcess, startChildProcess } from '../../../devnet/child-process.ts';
import { startGuard } from '../../../devnet/guard.ts';
import { freePorts } from '../../../devnet/ports.ts';
import { kafkaJars } from './kafka-jars.ts';
import { type Leaf, testAuthority } from './kafka-tls.ts';
import { startTcpProxy, type TcpProxy } from './tcp-proxy.ts';

const execute = promisify(execFile);

const JVM = ['-Xmx384m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1'];
const SCRAM_LOGIN = 'org.apache.kafka.common.security.scram.ScramLoginModule required;';
/** Guards against a hang alone. */
const START_TIMEOUT_MS = 300_000;

/** The SCRAM user that every cluster has. */
export const SCRAM_USER = { username: 'orderflow', password: 'a-password-of-the-tests' } as const;

export interface KafkaOptions {
  readonly nodes?: 1 | 3;
  /** Leads clients of the plain listener through a proxy per broker. */
  readonly proxied?: boolean;
  /**
   * Where clients find the TLS listener of a single broker, which listens at this port of 127.0.0.1; for those who know
   * that address by another one. Default: a free port of 127.0.0.1.
   */
  readonly tlsAt?: { readonly host: string; readonly port: number };
  /** More lines of server.properties, or other values. */
  readonly properties?: Readonly<Record<string, string>>;
}

export interface KafkaBroker {
  /** node.id: 1, 2, 3. */
  readonly id: number;
  /** HOST:PORT of the plain listener as clients see it. */
  readonly address: string;
  /** In front of the plain listener, when asked for. */
  readonly proxy: TcpProxy | null;
  readonly running: boolean;
  /** SIGKILL; resolves when it has ended. */
  kill(): Promise<void>;
  /** SIGTERM, in order. */
  stop(): Promise<void>;
  /** Starts it again on its ports and data; resolves when it serves. */
  restart(): Promise<void>;
  /** SIGSTOP. */
  freeze(): void;
  /** SIGCONT. */
  thaw(): void;
}

export interface TestKafka {
  /** HOST:PORT of every plain listener. */
  readonly brokers: readonly string[];
  readonly tlsBrokers: readonly string[];
  readonly saslBrokers: readonly string[];
  /** PEM of the authority that signed the brokers' certificates. */
  readonly ca: string;
  /** A client certificate that the TLS listener takes. */
  readonly client: Leaf;
  readonly nodes: readonly KafkaBroker[];
  /** Its files: the log of broker N is in data-N. */
  readonly folder: string;
  /** @returns the broker with this node.id. @throws when there is none. */
  node(id: number): KafkaBroker;
  /** Stops everything and removes the data. */
  close(): Promise<void>;
}

/** @returns the brokers named in `KAFKA_BROKERS`, else null: for tests whose other parts need brokers of their own. */
export function namedBrokers(): string[] | null {
  const named = (process.env.KAFKA_BROKERS ?? '').split(',').map((name) => name.trim());
  const brokers = named.filter((name) => name !== '');
  return brokers.length > 0 ? brokers : null;
}

/**
 * Some brokers with a plain listener, nothing more: those of `KAFKA_BROKERS`, else one of our own. Topics and groups
 * should have names that nobody else has.
 * @param options of a broker of our own; those of `KAFKA_BROKERS` are as they are.
 * @throws when there can be no broker.
 */
export async function someKafka(
  options: Pick<KafkaOptions, 'properties'> = {},
): Promise<{ readonly brokers: readonly string[]; close(): Promise<void> }> {
  const named = namedBrokers();
  return named === null ? startKafka(options) : { brokers: named, close: async () => {} };
}

/**
 * Starts brokers of our own: some 3 s for one, 6 s for three.
 * @throws when none can be started, with the reason.
 */
export async function startKafka({
  nodes = 1,
  proxied = false,
  tlsAt,
  properties = {},
}: KafkaOptions = {}): Promise<TestKafka> {
  const { java, classPath } = await kafkaJars();
  const folder = mkdtempSync(join(tmpdir(), 'orderflow-kafka-'));
  const authority = await testAuthority();
  const [server, client] = await Promise.all([
    authority.issue('broker', tlsAt === undefined ? [] : [tlsAt.host]),
    authority.issue('client'),
  ]);
  const keyStore = join(folder, 'broker.pem');
  const trustStore = join(folder, 'authority.pem');
  writeFileSync(keyStore, `${server.key}\n${server.certificate}\n`, { mode: 0o600 });
  writeFileSync(trustStore, authority.certificate);

  const ports = await freePorts(nodes * 4);
  const portOf = (id: number, listener: number) => ports[(id - 1) * 4 + listener] ?? 0;
  const tlsPort = (id: number) => tlsAt?.port ?? portOf(id, 1);
  const tlsAddress = (id: number) => `${tlsAt?.host ?? '127.0.0.1'}:${tlsPort(id)}`;
  const ids = Array.from({ length: nodes }, (_, index) => index + 1);
  const voters = ids.map((id) => `${id}@127.0.0.1:${portOf(id, 3)}`).join(',');
  const replicas = String(nodes);
  // 22 characters; Kafka takes none that begin with a dash.
  const clusterId = Buffer.concat([Buffer.of(0), randomBytes(15)]).toString('base64url');
  const guard = startGuard();
  const proxies = await Promise.all(
    ids.map((id) => (proxied ? startTcpProxy(portOf(id, 0)) : Promise.resolve(null))),
  );

  function configuration(id: number, advertisedPort: number): string {
    const lines: Record<string, string> = {
      'process.roles': 'broker,controller',
      'node.id': String(id),
      'controller.quorum.voters': voters,
      listeners: `PLAIN://127.0.0.1:${portOf(id, 0)},TLS://127.0.0.1:${tlsPort(id)},SASL://127.0.0.1:${portOf(id, 2)},CONTROLLER://127.0.0.1:${portOf(id, 3)}`,
      'advertised.listeners': `PLAIN://127.0.0.1:${advertisedPort},TLS://${tlsAddress(id)},SASL://127.0.0.1:${portOf(id, 2)}`,
      'listener.security.protocol.map': 'PLAIN:PLAINTEXT,TLS:SSL,SASL:SASL_SSL,CONTROLLER:PLAINTEXT',
      'controller.listener.names': 'CONTROLLER',
      // Brokers talk to each other past the proxies; one that is alone has no use for the address that clients know.
      'inter.broker.listener.name': tlsAt === undefined ? 'TLS' : 'PLAIN',
      'ssl.keystore.type': 'PEM',
      'ssl.keystore.location': keyStore,
      'ssl.truststore.type': 'PEM',
      'ssl.truststore.location': trustStore,
      'listener.name.tls.ssl.client.auth': 'required',
      'sasl.enabled.mechanisms': 'SCRAM-SHA-256,SCRAM-SHA-512',
      'listener.name.sasl.scram-sha-256.sasl.jaas.config': SCRAM_LOGIN,
      'listener.name.sasl.scram-sha-512.sasl.jaas.config': SCRAM_LOGIN,
      'authorizer.class.name': 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
      'allow.everyone.if.no.acl.found': 'true',
      'super.users': 'User:ANONYMOUS;User:CN=broker',
      'log.dirs': join(folder, `data-${id}`),
      'auto.create.topics.enable': 'false',
      'default.replication.factor': replicas,
      'min.insync.replicas': nodes === 1 ? '1' : '2',
      'offsets.topic.replication.factor': replicas,
      'offsets.topic.num.partitions': '4',
      'transaction.state.log.replication.factor': replicas,
      'transaction.state.log.min.isr': '1',
      'group.initial.rebalance.delay.ms': '0',
      // Else a broker that was killed waits 9 s for its old session to end.
      'broker.session.timeout.ms': '3000',
      'broker.heartbeat.interval.ms': '500',
      // Else a broker waits 30 s for an answer of a frozen controller, and gives no producer an id meanwhile.
      'controller.socket.timeout.ms': '2000',
      'log.cleaner.dedupe.buffer.size': '10485760',
      ...properties,
    };
    return Object.entries(lines)
      .map(([name, value]) => `${name}=${value}\n`)
      .join('');
  }

  const running: KafkaBroker[] = [];

  async function stopAll(): Promise<void> {
    // Data goes away with the brokers, so they need not end in order.
    await Promise.all(running.map((broker) => broker.kill()));
    await Promise.all(proxies.map((proxy) => proxy?.close() ?? Promise.resolve()));
    await guard.close();
  }

  async function close(): Promise<void> {
    await stopAll();
    rmSync(folder, { recursive: true, force: true });
  }

  async function startBroker(id: number): Promise<KafkaBroker> {
    const file = join(folder, `server-${id}.properties`);
    const proxy = proxies[id - 1] ?? null;
    const port = proxy?.port ?? portOf(id, 0);
    writeFileSync(file, configuration(id, port));
    const users = ['SCRAM-SHA-256', 'SCRAM-SHA-512'].flatMap((mechanism) => [
      '--add-scram',
      `${mechanism}=[name=${SCRAM_USER.username},password=${SCRAM_USER.password}]`,
    ]);
    const format = ['kafka.tools.StorageTool', 'format', '-t', clusterId, '-c', file, ...users];
    await execute(java, [...JVM, '-cp', classPath, ...format]);

    const start = () =>
      startChildProcess({
        name: `Kafka broker ${id}`,
        program: java,
        execArgv: [...JVM, '-cp', classPath],
        entry: 'kafka.Kafka',
        args: [file],
        logFile: join(folder, `broker-${id}.log`),
        guard,
        startTimeoutMs: START_TIMEOUT_MS,
        isReady: (line) => line.includes('Kafka Server started'),
      });
    let child: ChildProcess = await start();
    const broker: KafkaBroker = {
      id,
      address: `127.0.0.1:${port}`,
      proxy,
      get running() {
        return child.running;
      },
      async kill() {
        child.kill();
        await child.ended;
      },
      stop: () => child.stop(),
      async restart() {
        if (child.running) throw new Error(`broker ${id} is still running`);
        child = await start();
      },
      freeze: () => child.freeze(),
      thaw: () => child.thaw(),
    };
    running.push(broker);
    return broker;
  }

  const started = await Promise.allSettled(ids.map(startBroker));
  const failure = started.find((result) => result.status === 'rejected');
  if (failure !== undefined) {
    // The logs stay.
    await stopAll();
    throw new Error('a Kafka broker cannot be started here, and the archive’s tests need one', {
      cause: failure.reason,
    });
  }
  running.sort((a, b) => a.id - b.id);
  return {
    brokers: running.map((broker) => broker.address),
    tlsBrokers: ids.map(tlsAddress),
    saslBrokers: ids.map((id) => `127.0.0.1:${portOf(id, 2)}`),
    ca: authority.certificate,
    client,
    nodes: running,
    folder,
    node(id) {
      const broker = running.find((candidate) => candidate.id === id);
      if (broker === undefined) throw new RangeError(`no broker ${id}`);
      return broker;
    },
    close,
  };
}
