/** How to reach the brokers, from the environment: the node's own settings, so that one file of them serves both. */
import { readFile } from 'node:fs/promises';
import { asError } from '../failure.ts';
import type { KafkaAccess } from '../shipping/kafka-client.ts';

type Env = Readonly<Record<string, string | undefined>>;

/**
 * Reads KAFKA_BROKERS, KAFKA_TOPIC, KAFKA_TLS (true unless told), KAFKA_CA_FILE, KAFKA_CERT_FILE, KAFKA_KEY_FILE, KAFKA_SASL,
 * KAFKA_USERNAME and KAFKA_PASSWORD. Empty means not set.
 * @throws Error naming the setting that is wrong, and what is allowed.
 */
export async function accessFrom(env: Env): Promise<KafkaAccess> {
  const brokers = (env.KAFKA_BROKERS ?? '').split(',').flatMap((name) => name.trim() || []);
  if (brokers.length === 0) throw new Error('KAFKA_BROKERS: HOST:PORT, separated by commas');
  for (const broker of brokers) {
    if (!/^(?:\[[0-9a-fA-F:.]+\]|[^\s:[\]]+):\d{1,5}$/.test(broker)) {
      throw new Error(`KAFKA_BROKERS: '${broker}' is not HOST:PORT`);
    }
  }
  const tls = env.KAFKA_TLS || 'true';
  if (tls !== 'true' && tls !== 'false') throw new Error('KAFKA_TLS: true or false');
  const [ca, cert, key] = await Promise.all(
    ['KAFKA_CA_FILE', 'KAFKA_CERT_FILE', 'KAFKA_KEY_FILE'].map((setting) => pem(setting, env[setting] ?? '')),
  );
  if ((cert == null) !== (key == null))
    throw new Error('KAFKA_CERT_FILE and KAFKA_KEY_FILE: both or neither');
  return {
    brokers,
    topic: env.KAFKA_TOPIC || 'orders',
    clientId: 'orderflow-archive',
    tls: tls === 'true' ? { ca: ca == null ? [] : [ca], cert: cert ?? null, key: key ?? null } : null,
    sasl: loginFrom(env, tls === 'true'),
  };
}

function loginFrom(env: Env, tls: boolean): KafkaAccess['sasl'] {
  const mechanism = env.KAFKA_SASL || 'none';
  if (mechanism === 'none') return null;
  if (mechanism !== 'scram-sha-256' && mechanism !== 'scram-sha-512') {
    throw new Error('KAFKA_SASL: none, scram-sha-256 or scram-sha-512');
  }
  if (!tls) throw new Error('KAFKA_SASL: needs KAFKA_TLS');
  const { KAFKA_USERNAME: username = '', KAFKA_PASSWORD: password = '' } = env;
  if (username === '' || password === '')
    throw new Error('KAFKA_USERNAME and KAFKA_PASSWORD: needed for KAFKA_SASL');
  return { mechanism, username, password };
}

async function pem(setting: string, path: string): Promise<string | null> {
  if (path === '') return null;
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new Error(`${setting}: ${asError(error).message}`, { cause: error });
  }
}
