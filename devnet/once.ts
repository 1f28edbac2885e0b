/**
 * `npm start -- --once`: sends orders through the network and proves what became of each: the answer, exactly
 * one copy of exactly the right bytes at every builder, and exactly the node's own orders in each archive.
 *
 * What is right is worked out apart from the nodes (orders.ts). The nodes are stopped before the count, so that
 * no second copy can come later.
 */
import { hash } from 'node:crypto';
import type { RpcAnswer } from './client.ts';
import type { Network, NetworkNode } from './network.ts';
import type { GeneratedOrder, OrderSource } from './orders.ts';
import { grouped, palette } from './view.ts';

export interface OnceOptions {
  readonly source: OrderSource;
  readonly orders: number;
  /** How many of them are sent a second time to the same node; they must go nowhere again. */
  readonly duplicates: number;
  /** How long the builders may take to have everything. */
  readonly timeoutMs: number;
  /** The canonical bytes of every order in a node's archive, oldest first; the node may be running. */
  readonly readArchive: (node: NetworkNode) => Promise<Buffer[]>;
}

/** How a list of received bytes compares with what should be there. */
export interface Comparison {
  readonly expected: number;
  /** Right bytes, once. */
  readonly right: number;
  readonly missing: number;
  /** Copies beyond the first. */
  readonly twice: number;
  /** Bytes that are no order's. */
  readonly foreign: number;
}

interface NodeVerdict {
  readonly name: string;
  /** Orders this node was sent and answered rightly. */
  readonly answered: number;
  readonly sent: number;
  readonly builder: Comparison;
  readonly archive: Comparison;
}

export interface Verdict {
  readonly nodes: readonly NodeVerdict[];
  /** What went wrong, a sentence each; empty when all is well. */
  readonly faults: readonly string[];
}

interface Sent {
  readonly order: GeneratedOrder;
  readonly node: NetworkNode;
}

const UNDER_WAY = 8;
/** Cancellations are never deduplicated, and a repeated mev_sendBundle may get the next nonce (protocol section 4). */
const REPEATABLE: ReadonlySet<string> = new Set(['eth_sendBundle', 'eth_sendRawTransaction']);

/** Runs it on a connected network; stops the network's nodes. */
export async function runOnce(network: Network, options: OnceOptions): Promise<Verdict> {
  const faults: string[] = [];
  const { nodes } = network;
  const plan: Sent[] = Array.from({ length: options.orders }, (_, index) => {
    const node = nodes[index % nodes.length];
    if (node === undefined) throw new RangeError('a network without nodes');
    return { order: options.source.next(), node };
  });

  // A network that has run before has orders in its archives.
  const before = new Map(
    await Promise.all(
      nodes.map(async (node) => [node.name, (await options.readArchive(node)).length] as const),
    ),
  );
  const answered = new Map<string, number>();
  await inParallel(plan, UNDER_WAY, async ({ order, node }) => {
    const problem = answerProblem(order, await sendOnce(node, order));
    if (problem === null) answered.set(node.name, (answered.get(node.name) ?? 0) + 1);
    else faults.push(`${node.name}, order ${order.sequence} (${order.method}): ${problem}`);
  });
  const again = plan.filter(({ order }) => REPEATABLE.has(order.method)).slice(0, options.duplicates);
  await inParallel(again, UNDER_WAY, async ({ order, node }) => {
    const problem = answerProblem(order, await sendOnce(node, order));
    if (problem !== null) faults.push(`${node.name}, order ${order.sequence} sent again: ${problem}`);
  });

  const late = AbortSignal.timeout(options.timeoutMs);
  await Promise.allSettled(nodes.map((node) => node.builder.waitFor(plan.length, late)));
  await network.stopNodes();

  const everything = plan.map(({ order }) => sha256(order.canonical));
  const verdicts = await Promise.all(
    nodes.map(async (node): Promise<NodeVerdict> => {
      const own = plan.filter((entry) => entry.node === node).map(({ order }) => sha256(order.canonical));
      const archived = await options.readArchive(node).catch((error: unknown) => {
        faults.push(`${node.name}: its archive cannot be read: ${String(error)}`);
        return [];
      });
      return {
        name: node.name,
        answered: answered.get(node.name) ?? 0,
        sent: own.length,
        builder: compare(
          everything,
          node.builder.records().map((record) => record.sha256),
        ),
        archive: compare(own, archived.slice(before.get(node.name)).map(sha256)),
      };
    }),
  );
  for (const verdict of verdicts) {
    faults.push(...describe(`the builder of ${verdict.name}`, verdict.builder));
    faults.push(...describe(`the archive of ${verdict.name}`, verdict.archive));
  }
  return { nodes: verdicts, faults };
}

/** The verdict as lines: a table, the faults, and one last word. */
export function renderVerdict(verdict: Verdict, colour: boolean): string[] {
  const paint = palette(colour);
  const headings = ['node', 'sent', 'answered', 'at builder', 'in archive'];
  const rows = verdict.nodes.map((node) => [
    node.name,
    grouped(node.sent),
    grouped(node.answered),
    share(node.builder),
    share(node.archive),
  ]);
  const widths = headings.map((heading, i) =>
    Math.max(heading.length, ...rows.map((row) => row[i]?.length ?? 0)),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join('  ');
  const orders = verdict.nodes.reduce((sum, node) => sum + node.sent, 0);
  const last =
    verdict.faults.length === 0
      ? paint.green(
          `all ${orders} orders reached every builder exactly once, byte for byte, and their archive`,
        )
      : paint.red(`${verdict.faults.length} faults`);
  return [paint.dim(line(headings)), ...rows.map(line), '', ...verdict.faults.map(paint.red), last];
}

/** Compares received digests with the expected ones. */
export function compare(expected: readonly string[], received: readonly string[]): Comparison {
  const counts = new Map<string, number>(expected.map((digest) => [digest, 0]));
  let foreign = 0;
  for (const digest of received) {
    const count = counts.get(digest);
    if (count === undefined) foreign++;
    else counts.set(digest, count + 1);
  }
  const all = [...counts.values()];
  return {
    expected: expected.length,
    right: all.filter((count) => count === 1).length,
    missing: all.filter((count) => count === 0).length,
    twice: all.reduce((sum, count) => sum + Math.max(0, count - 1), 0),
    foreign,
  };
}

/** @returns null when the answer is the one the protocol's document promises for this order. */
export function answerProblem(order: GeneratedOrder, answer: RpcAnswer | string): string | null {
  if (typeof answer === 'string') return answer;
  if (answer.error !== undefined) return `refused: ${answer.error.message}`;
  if (answer.status !== 200) return `status ${answer.status}`;
  const { result } = answer;
  switch (order.method) {
    case 'eth_sendRawTransaction':
      return result === order.hash ? null : 'another transaction hash in the answer';
    case 'eth_sendBundle':
    case 'mev_sendBundle': {
      const { bundleHash, receivedTimestampMs } = (result ?? {}) as Record<string, unknown>;
      if (bundleHash !== order.hash) return 'another bundle hash in the answer';
      return typeof receivedTimestampMs === 'number' ? null : 'no receive time in the answer';
    }
    default:
      return result === null ? null : 'an answer other than null';
  }
}

async function sendOnce(node: NetworkNode, order: GeneratedOrder): Promise<RpcAnswer | string> {
  return node.client.send(order).catch((error: unknown) => `no answer: ${String(error)}`);
}

function describe(where: string, comparison: Comparison): string[] {
  const { missing, twice, foreign } = comparison;
  return [
    ...(missing > 0 ? [`${where} lacks ${missing} of ${comparison.expected} orders`] : []),
    ...(twice > 0 ? [`${where} has ${twice} copies too many`] : []),
    ...(foreign > 0
      ? [`${where} has ${foreign} requests that are not byte for byte an order that belongs there`]
      : []),
  ];
}

function share({ right, expected }: Comparison): string {
  return `${grouped(right)}/${grouped(expected)}`;
}

function sha256(bytes: Buffer): string {
  return hash('sha256', bytes);
}

async function inParallel<T>(
  items: readonly T[],
  width: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const rest = items.values();
  // The workers share one iterator: each takes the next item.
  const worker = async (): Promise<void> => {
    for (const item of rest) await work(item);
  };
  await Promise.all(Array.from({ length: width }, worker));
}
