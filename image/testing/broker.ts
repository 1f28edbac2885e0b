/** A Kafka broker outside, as a machine finds it: TLS and client certificates alone; and what a test reads of its topic. */
import { hash } from 'node:crypto';
import { CHECKPOINT_CONTROL } from '../../egress/archive/checkpoint.ts';
import { openArchive } from '../../egress/archive/reading/open-archive.ts';
import { startKafka } from '../../egress/archive/testing/kafka.ts';
import { createTopic } from '../../egress/archive/testing/kafka-client.ts';
import { isOrder } from '../../egress/archive/walk.ts';
import { BROKER_PORT } from '../guest/brokers.ts';
import { eventually } from './world.ts';

const TOPIC = 'orders';
/** As many as the node takes them to be. */
const PARTITIONS = 12;
/** This machine, as the booted one sees it. */
const HOST = '10.0.2.2';

/** What the topic holds, checked as `archive verify` does. */
export interface ArchivedTopic {
  /** Digests of the orders below a checkpoint that their node has signed, by node (its address in small letters). */
  readonly signed: ReadonlyMap<string, readonly string[]>;
  /** What is missing, altered or not signed by its node. */
  readonly problems: readonly string[];
  /** `4 orders, 3 checkpoints, 2 epochs`. */
  readonly summary: string;
}

export interface Broker {
  /** `flowproxy.kafka` of the machine's configuration. */
  readonly configuration: Readonly<Record<string, string | readonly string[]>>;
  /** Reads all of the topic. @throws when the broker does not answer in time */
  read(): Promise<ArchivedTopic>;
  close(): Promise<void>;
}

/** Starts it, with its topic. The runtime and the jars must be there: nothing is fetched where tests run. */
export async function startBroker(): Promise<Broker> {
  const kafka = await startKafka({
    tlsAt: { host: HOST, port: BROKER_PORT },
    // It may stand still for a while beside two emulated machines.
    properties: { 'broker.session.timeout.ms': '60000' },
  });
  try {
    await eventually(() => createTopic(kafka.brokers, TOPIC, PARTITIONS));
  } catch (error) {
    await kafka.close();
    throw error;
  }
  const access = { brokers: kafka.brokers, topic: TOPIC, clientId: 'image-tests', tls: null, sasl: null };
  return {
    configuration: {
      brokers: kafka.tlsBrokers,
      topic: TOPIC,
      ca: kafka.ca,
      client_cert: kafka.client.certificate,
      client_key: kafka.client.key,
    },
    async read() {
      const source = await openArchive({ access });
      try {
        const problems: string[] = [];
        const signed = new Map<string, string[]>();
        /** Behind the last checkpoint of their node and epoch. */
        const unsigned = new Map<string, string[]>();
        let [orders, checkpoints] = [0, 0];
        const found = source.records(({ kind, place, message }) => {
          if (kind === 'problem') problems.push(`${place}: ${message}`);
        }, new AbortController().signal);
        for await (const record of found) {
          const epoch = `${record.nodeId} ${record.epoch}`;
          const waiting = unsigned.get(epoch) ?? [];
          unsigned.set(epoch, waiting);
          if (isOrder(record)) {
            orders += 1;
            waiting.push(hash('sha256', record.value));
          } else if (record.control === CHECKPOINT_CONTROL) {
            checkpoints += 1;
            signed.set(record.nodeId, [...(signed.get(record.nodeId) ?? []), ...waiting.splice(0)]);
          }
        }
        const summary = `${orders} orders, ${checkpoints} checkpoints, ${unsigned.size} epochs`;
        return { signed, problems, summary };
      } finally {
        await source.close();
      }
    },
    close: () => kafka.close(),
  };
}
