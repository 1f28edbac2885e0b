/**
 * Opens a spool folder: makes it, locks it, repairs its end (recover.ts) and begins a new epoch where the old one
 * cannot be carried on (epoch.ts).
 */
import { mkdir, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { EPOCH_CONTROL, encodeOpening } from './epoch.ts';
import { type SpoolFiles, systemFiles } from './files.ts';
import { lockFolder } from './lock.ts';
import {
  CHAIN_START,
  chainAfter,
  controlHeaders,
  encodeFrame,
  frameBytes,
  headerPrefix,
  isNodeId,
} from './record.ts';
import { type Recovery, recover } from './recover.ts';
import { type Clock, Retention, systemClock } from './retention.ts';
import { ROOM_FILE } from './room.ts';
import { syncDirectory, UNFINISHED_SEGMENT } from './segment.ts';
import { readWatermark } from './shipping/watermark.ts';
import { Spool, type SpoolEvents, type SpoolOptions, type SpoolStart } from './spool.ts';
import { Unshipped } from './unshipped.ts';
import { carryOn, newSegment, SegmentWriter } from './writer.ts';

/** Kafka numbers partitions in 32 bits with a sign. */
const MAX_PARTITION = 0x7fff_ffff;

/** What a spool may be given from outside. */
export interface SpoolModules {
  readonly events: SpoolEvents;
  /** For tests; the system's by default. */
  readonly clock?: Clock;
  readonly files?: SpoolFiles;
  /** See SpoolParts; nothing by default. */
  readonly beforeCommit?: () => void;
}

/**
 * Opens the spool of a folder for writing. At most one writer per folder.
 * @returns the spool; everything that it found is durable.
 * @throws RangeError naming the option that is wrong; Error when the folder is in use by another process or holds
 *   segments of a newer version; the error of the file system.
 */
export async function openSpool(options: SpoolOptions, modules: SpoolModules): Promise<Spool> {
  checkOptions(options);
  const { events, clock = systemClock, files = systemFiles, beforeCommit = () => {} } = modules;
  await makeFolder(options.dir);
  const lock = lockFolder(options.dir);
  try {
    await removeLeftovers(options.dir);
    const recovery = await recover(options.dir, options.nodeId, events);
    const [writer, start] =
      recovery.active === null
        ? await openEpoch(options, recovery, clock, files)
        : carryOnEpoch(options, recovery.active, files);
    const { shipping } = options;
    const retention = new Retention(options.dir, options.retentionMs, clock, shipping !== null);
    const unshipped = shipping === null ? null : new Unshipped(shipping.maxMs);
    // No record of a segment is newer than the opening of the one after it.
    const openings = [...recovery.sealed.map((segment) => segment.openedAtUs), writer.segment.openedAtUs];
    for (const [position, { file, openedAtUs }] of recovery.sealed.entries()) {
      const newestUs = openings[position + 1] ?? openedAtUs;
      // See Retention.shippedUpTo.
      const changedUs = shipping === null ? 0 : await changedAtUs(file.path);
      const openedAt = retention.monotonicOf(openedAtUs);
      retention.keep(file.name, file.bytes, openedAt, retention.monotonicOf(Math.max(newestUs, changedUs)));
      unshipped?.begin(file.name, openedAt);
      unshipped?.grow(file.bytes, openedAt);
    }
    const openedAt = retention.monotonicOf(writer.segment.openedAtUs);
    unshipped?.begin(writer.segment.name, openedAt);
    unshipped?.grow(writer.segment.end, openedAt);
    const shipped = shipping === null ? null : await readWatermark(options.dir, shipping.topic);
    return new Spool(
      options,
      { lock, writer, retention, unshipped, clock, events, beforeCommit },
      start,
      shipped,
    );
  } catch (error) {
    lock.release();
    throw error;
  }
}

async function changedAtUs(path: string): Promise<number> {
  return (await stat(path)).mtimeMs * 1000;
}

function carryOnEpoch(
  options: SpoolOptions,
  active: NonNullable<Recovery['active']>,
  files: SpoolFiles,
): [SegmentWriter, SpoolStart] {
  const { epoch, nextSequence, chain, newestUs, partition } = active;
  const writer = new SegmentWriter(options.dir, options.segmentBytes, carryOn(active), files);
  return [writer, { epoch, sequence: nextSequence - 1, chain, newestUs, partition }];
}

/** Makes the first segment of a new epoch, with its opening record. */
async function openEpoch(
  options: SpoolOptions,
  recovery: Recovery,
  clock: Clock,
  files: SpoolFiles,
): Promise<[SegmentWriter, SpoolStart]> {
  const { nodeId, dir, segmentBytes, partition } = options;
  const nowUs = Math.round(clock.now() * 1000);
  // Above every epoch of the folder even when the clock was set back, since file names sort by it.
  const epoch = Math.max(nowUs, recovery.lastEpoch + 1);
  const header = { nodeId, epoch, firstSequence: 1, chainBefore: CHAIN_START, openedAtUs: nowUs, partition };
  const segment = await newSegment(dir, header);
  try {
    const writer = new SegmentWriter(dir, segmentBytes, segment, files);
    const value = encodeOpening({ n: nodeId, e: epoch, previous: recovery.previous });
    const chain = chainAfter(CHAIN_START, 1, value);
    const headers = controlHeaders(headerPrefix(nodeId, epoch), 1, chain, nowUs, EPOCH_CONTROL);
    const frame = Buffer.alloc(frameBytes(headers, value));
    encodeFrame(frame, 0, 1, 0, headers, value);
    await writer.commit(frame, frame.length);
    return [writer, { epoch, sequence: 1, chain, newestUs: nowUs, partition }];
  } catch (error) {
    await segment.handle.close();
    throw error;
  }
}

function checkOptions(options: SpoolOptions): void {
  const { segmentBytes, retentionMs, maxBytes, lowBytes, maxPendingBytes, roomBytes, probeMs } = options;
  if (!isNodeId(options.nodeId)) {
    throw new RangeError('nodeId: 1 to 64 letters, digits, dots, underscores, colons, dashes');
  }
  const positive = { segmentBytes, retentionMs, maxBytes, lowBytes, maxPendingBytes, roomBytes, probeMs };
  for (const [name, value] of Object.entries(positive)) {
    if (!(value > 0)) throw new RangeError(`${name}: a number above 0`);
  }
  if (!Number.isInteger(options.partition) || options.partition < 0 || options.partition > MAX_PARTITION) {
    throw new RangeError(`partition: a whole number from 0 to ${MAX_PARTITION}`);
  }
  const { shipping } = options;
  if (shipping !== null && !(shipping.maxBytes > shipping.lowBytes && shipping.lowBytes > 0)) {
    throw new RangeError('shipping.lowBytes: above 0 and below shipping.maxBytes');
  }
  if (shipping !== null && !(shipping.maxMs > shipping.lowMs && shipping.lowMs > 0)) {
    throw new RangeError('shipping.lowMs: above 0 and below shipping.maxMs');
  }
  if (lowBytes >= maxBytes) throw new RangeError('lowBytes: below maxBytes');
  // Else retention could delete all it may and the gate would stay closed.
  if (lowBytes < segmentBytes + maxPendingBytes) {
    throw new RangeError('lowBytes: at least segmentBytes + maxPendingBytes');
  }
}

/** Makes the folder with all above it that are missing, private and durable. */
async function makeFolder(dir: string): Promise<void> {
  const path = resolve(dir);
  const first = await mkdir(path, { recursive: true, mode: 0o700 });
  if (first === undefined) return;
  for (let made = path; ; made = dirname(made)) {
    await syncDirectory(dirname(made));
    if (made === resolve(first)) return;
  }
}

/** Removes what a killed node may have left behind beside its segments. */
async function removeLeftovers(dir: string): Promise<void> {
  for (const name of [ROOM_FILE, UNFINISHED_SEGMENT]) await rm(join(dir, name), { force: true });
}
