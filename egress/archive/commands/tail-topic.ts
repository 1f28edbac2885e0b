/** `archive tail` of a Kafka topic. */
import { KafkaSource, rangesSince } from '../reading/kafka-source.ts';
import type { ReportSource } from '../reading/source.ts';
import type { KafkaAccess } from '../shipping/kafka-client.ts';
import { connectReader, type KafkaReader, type OffsetRange } from '../shipping/kafka-reader.ts';
import { orderLine } from './lines.ts';
import type { TailOptions } from './tail.ts';

type Ranges = ReadonlyMap<number, OffsetRange>;

/** Records per partition to look back at first: checkpoints and orders that are not wanted stand between. */
const FIRST_WINDOW = 64;

/** Prints the last orders of a topic, by the time they were received, then follows it. @throws KafkaTrouble. */
export async function tailTopic(access: KafkaAccess, options: TailOptions): Promise<void> {
  const { selection, lines, wait, sink, signal } = options;
  const reader = await connectReader(access);
  try {
    const ranges = await rangesSince(reader, selection.sinceUs);
    const source =
      lines === null
        ? await printAll(reader, ranges, options)
        : await printLast(reader, ranges, lines, options);
    await sink.flush();
    if (!wait) return;
    for await (const record of source.follow(reporter(options), signal)) {
      if (!selection.matches(record)) continue;
      await sink.write(orderLine(record));
      // A live view: nothing is held back while the reader keeps up.
      await sink.flush();
    }
  } finally {
    await reader.close();
  }
}

function reporter({ report }: TailOptions): ReportSource {
  return ({ kind, place, message }) => {
    if (kind === 'problem') report(`${place}: ${message}`);
  };
}

async function printAll(reader: KafkaReader, ranges: Ranges, options: TailOptions): Promise<KafkaSource> {
  const { selection, sink, signal } = options;
  const source = new KafkaSource(reader, ranges, null);
  for await (const record of source.records(reporter(options), signal)) {
    if (selection.matches(record)) await sink.write(orderLine(record));
  }
  return source;
}

/** Looks back further and further until there are enough. @returns the source, read to its end. */
async function printLast(
  reader: KafkaReader,
  ranges: Ranges,
  wanted: number,
  options: TailOptions,
): Promise<KafkaSource> {
  const { selection, sink, signal } = options;
  for (let window = wanted === 0 ? 0 : Math.max(FIRST_WINDOW, wanted * 2); ; window *= 8) {
    const from = lastOf(ranges, window);
    const whole = [...from].every(([partition, { start }]) => start === ranges.get(partition)?.start);
    const source = new KafkaSource(reader, from, null);
    const findings: (() => void)[] = [];
    const report = reporter(options);
    const last: string[] = [];
    for await (const record of source.records((finding) => findings.push(() => report(finding)), signal)) {
      if (!selection.matches(record)) continue;
      last.push(orderLine(record));
      // Cut in bulk: shifting one by one would move the whole list for each.
      if (last.length > 2 * wanted + 1000) last.splice(0, last.length - wanted);
    }
    if (last.length < wanted && !whole && !signal.aborted) continue;
    for (const tell of findings) tell();
    for (const line of last.slice(Math.max(0, last.length - wanted))) await sink.write(line);
    return source;
  }
}

/** The last `count` offsets of each partition. */
function lastOf(ranges: Ranges, count: number): Map<number, OffsetRange> {
  const last = new Map<number, OffsetRange>();
  for (const [partition, { start, end }] of ranges) {
    last.set(partition, { start: Math.max(start, end - count), end });
  }
  return last;
}
