/**
 * `orderflow/archive`: reading the archive of orders.
 *
 * - {@link consumeArchive}: a member of a consumer group; orders as they arrive, at least once or effectively once.
 * - {@link openArchive}: a spool folder or a topic from a time on to its end, once; belongs to no group.
 * - {@link accessFrom}: how to reach the brokers, from the node's own settings.
 *
 * Both give orders that are new (duplicates are dropped), in their place (gaps are found) and whole (hash chain,
 * checkpoints, transactions). The records are described in FORMAT.md; runnable examples are in examples/.
 */
export { accessFrom } from './reading/access.ts';
export {
  type ArchiveConsumer,
  type ArchiveConsumerOptions,
  type ArchivedOrder,
  consumeArchive,
  type OrderBatch,
  type Positions,
} from './reading/consumer.ts';
export { type ArchiveFinding, ArchiveProblem } from './reading/findings.ts';
export type { FindingCode } from './reading/ledger.ts';
export { type OpenArchiveOptions, openArchive, type Where } from './reading/open-archive.ts';
export type { ArchiveSource, SourceFinding } from './reading/source.ts';
export type { ArchiveRecord } from './record.ts';
export type { KafkaAccess } from './shipping/kafka-client.ts';
export { KafkaTrouble } from './shipping/kafka-trouble.ts';
