/**
 * Which archive a command reads: a spool folder or a Kafka topic. Both are named by options or, as a node with the same
 * environment has it, by the node's settings; passwords and keys by those alone, so that no process list shows them.
 */
import { join } from 'node:path';
import { asError, errorCode } from '../failure.ts';
import { accessFrom } from '../reading/access.ts';
import { openArchive, type Where } from '../reading/open-archive.ts';
import type { ArchiveSource } from '../reading/source.ts';
import { listSegments } from '../segment.ts';
import { KafkaTrouble } from '../shipping/kafka-trouble.ts';
import { type Surroundings, UsageError } from './command.ts';

/** The options that name an archive, for parseOptions. */
export const WHERE_OPTIONS = {
  dir: { type: 'string' },
  brokers: { type: 'string' },
  topic: { type: 'string' },
} as const;

export const WHERE_HELP = `  --dir DIR         a spool folder (ARCHIVE_DIR, else DATA_DIR/archive, else ./data/archive: as the node's settings)
  --brokers LIST    brokers instead, HOST:PORT,… (KAFKA_BROKERS; TLS and logins by KAFKA_TLS, KAFKA_CA_FILE, KAFKA_CERT_FILE,
                    KAFKA_KEY_FILE, KAFKA_SASL, KAFKA_USERNAME, KAFKA_PASSWORD: as the node's settings)
  --topic NAME      topic at the brokers (KAFKA_TOPIC, else orders)`;

interface WhereValues {
  readonly dir?: string | undefined;
  readonly brokers?: string | undefined;
  readonly topic?: string | undefined;
}

type Env = Surroundings['env'];

/**
 * @returns what the options name, else what a node with this environment writes.
 * @throws UsageError when they contradict each other, or name a file that cannot be read.
 */
export async function whereOf(values: WhereValues, { env }: Surroundings): Promise<Where> {
  if (values.dir !== undefined && (values.brokers !== undefined || values.topic !== undefined)) {
    throw new UsageError('--dir: not together with --brokers or --topic');
  }
  const brokers = values.brokers ?? env.KAFKA_BROKERS ?? '';
  if (values.dir === undefined && brokers !== '') {
    const named = {
      KAFKA_BROKERS: brokers,
      ...(values.topic === undefined ? {} : { KAFKA_TOPIC: values.topic }),
    };
    try {
      return { access: await accessFrom({ ...env, ...named }) };
    } catch (error) {
      throw new UsageError(asError(error).message);
    }
  }
  if (values.topic !== undefined) throw new UsageError('--topic: needs --brokers');
  return { dir: archiveDir(values.dir, env) };
}

/** @returns the folder that the option names, else the one that a node with this environment writes. */
export function archiveDir(option: string | undefined, env: Env): string {
  if (option !== undefined) return option;
  // Empty means not set, as in the node's settings.
  return env.ARCHIVE_DIR || join(env.DATA_DIR || './data', 'archive');
}

/**
 * Opens an archive to be read from a time on (unix µs; 0: all of it) to its end.
 * @throws UsageError when there is no archive; KafkaTrouble.
 */
export async function openSource(where: Where, sinceUs: number, inspect: boolean): Promise<ArchiveSource> {
  if ('dir' in where) {
    const { dir } = where;
    const segments = await listSegments(dir).catch((error: unknown) => {
      throw noFolder(dir, error);
    });
    if (segments.length === 0) throw new UsageError(`--dir: no archive in ${dir}`);
  }
  if ('dir' in where) return openArchive(where, { sinceUs, inspect });
  const { topic } = where.access;
  const source = await openArchive(where, { sinceUs, inspect }).catch((error: unknown) => {
    const missing = error instanceof KafkaTrouble && error.kind === 'topic_missing';
    throw missing ? new UsageError(`--topic: these brokers have no topic ${topic}`) : error;
  });
  if (sinceUs > 0 || source.total > 0) return source;
  await source.close();
  throw new UsageError(`--topic: no archive in topic ${topic}, it is empty`);
}

/** @returns the error to report when a folder cannot be read. */
export function noFolder(dir: string, error: unknown): Error {
  const code = errorCode(error);
  if (code === 'ENOENT' || code === 'ENOTDIR') return new UsageError(`--dir: no folder ${dir}`);
  return asError(error);
}
