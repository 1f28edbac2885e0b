/**
 * The archive's topic: made when it is not there, otherwise compared with what was asked for. It is never altered: that
 * is a decision for people.
 *
 * Kafka's clock dates the records (LogAppendTime): with a sender's time, a node whose clock is wrong could have its
 * records refused, or deleted at once as too old.
 */
import type { TopicDescription } from './kafka-client.ts';

/** What a topic should be; a new one is made so. */
export interface TopicOptions {
  readonly partitions: number;
  readonly replicationFactor: number;
  readonly minInsyncReplicas: number;
  /** Milliseconds; -1: for ever. */
  readonly retentionMs: number;
  /** Largest order with its headers, and so the largest batch, bytes. */
  readonly maxMessageBytes: number;
}

/** @returns the topic to be made. */
export function newTopic(options: TopicOptions): TopicDescription {
  return {
    partitions: options.partitions,
    replicationFactor: options.replicationFactor,
    config: {
      'cleanup.policy': 'delete',
      'retention.ms': String(options.retentionMs),
      'retention.bytes': '-1',
      'min.insync.replicas': String(options.minInsyncReplicas),
      'max.message.bytes': String(options.maxMessageBytes),
      'message.timestamp.type': 'LogAppendTime',
      'unclean.leader.election.enable': 'false',
      'compression.type': 'producer',
    },
  };
}

/** What a topic is and should not be, in sentences. */
export interface TopicFindings {
  /** Why nothing may be sent there; empty when all is well enough. */
  readonly unfit: readonly string[];
  /** What is not as asked for. */
  readonly different: readonly string[];
}

/**
 * Compares a topic with what it should be.
 * @param partition the one that will be written to.
 */
export function checkTopic(found: TopicDescription, options: TopicOptions, partition: number): TopicFindings {
  const unfit: string[] = [];
  const different: string[] = [];
  const { config } = found;
  if (partition >= found.partitions) {
    unfit.push(
      `it has ${found.partitions} partitions, and this node's orders belong to partition ${partition}`,
    );
  } else if (found.partitions !== options.partitions) {
    different.push(`it has ${found.partitions} partitions, not ${options.partitions}`);
  }
  if (found.replicationFactor < options.replicationFactor) {
    different.push(`its replication factor is ${found.replicationFactor}, not ${options.replicationFactor}`);
  }
  if (config === null) {
    different.push('the brokers do not let this node see its settings');
    return { unfit, different };
  }
  for (const [name, wanted] of Object.entries(newTopic(options).config ?? {})) {
    const has = config[name];
    if (has === undefined || has === wanted || isEnough(name, has, wanted)) continue;
    if (name === 'cleanup.policy') unfit.push(`its ${name} is ${has}: compaction would delete orders`);
    else different.push(`its ${name} is ${has}, not ${wanted}`);
  }
  return { unfit, different };
}

/** Whether more than was asked for does no harm. */
function isEnough(name: string, has: string, wanted: string): boolean {
  if (name === 'retention.ms') return Number(has) === -1 || (wanted !== '-1' && Number(has) > Number(wanted));
  if (name === 'max.message.bytes' || name === 'min.insync.replicas') return Number(has) > Number(wanted);
  return name === 'compression.type';
}
