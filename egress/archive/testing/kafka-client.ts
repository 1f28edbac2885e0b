/** A plain kafkajs client for tests: it makes topics, and writes and reads what the product's own code would not. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Kafka, type KafkaConfig, logLevel } from 'kafkajs';
import { stopIdleTimers } from '../shipping/kafkajs-timers.ts';

/** @returns a silent client of these brokers. */
export function plainClient(brokers: readonly string[], more: Partial<KafkaConfig> = {}): Kafka {
  stopIdleTimers();
  return new Kafka({
    clientId: 'orderflow-tests',
    brokers: [...brokers],
    logLevel: logLevel.NOTHING,
    ...more,
  });
}

/**
 * Makes a topic and waits until each partition has a leader that answers.
 * @param settings topic settings such as `retention.ms`
 */
export async function createTopic(
  brokers: readonly string[],
  topic: string,
  partitions = 1,
  settings: Readonly<Record<string, string>> = {},
): Promise<void> {
  const admin = plainClient(brokers).admin();
  await admin.connect();
  try {
    const configEntries = Object.entries(settings).map(([name, value]) => ({ name, value }));
    // Waiting is done here: kafkajs's own gives up on KRaft at times with UNKNOWN_TOPIC_OR_PARTITION.
    await admin.createTopics({
      waitForLeaders: false,
      topics: [{ topic, numPartitions: partitions, configEntries }],
    });
    for (let attempt = 0; ; attempt += 1) {
      try {
        const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
        const leaders = topics[0]?.partitions.filter(({ leader }) => leader >= 0) ?? [];
        if (leaders.length === partitions) {
          // Brokers tell of a leader a moment before it knows itself as that.
          await admin.fetchTopicOffsets(topic);
          return;
        }
      } catch (error) {
        if (attempt >= 100) throw error;
      }
      if (attempt >= 100) throw new Error(`topic ${topic} has no leaders after 10 s`);
      await sleep(100);
    }
  } finally {
    await admin.disconnect();
  }
}
