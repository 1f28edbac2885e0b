/**
 * `npm start`: a living network on one machine, with gentle traffic and a view of it. `--once` proves it with a
 * hundred orders and ends; `--node` runs one production node instead (main.ts of the project's root).
 */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { readArchivedOrders } from './archive-reader.ts';
import { type Network, startNetwork } from './network.ts';
import { renderVerdict, runOnce } from './once.ts';
import { createOrderSource } from './orders.ts';
import { curlSnippet, viemSnippet } from './snippets.ts';
import { startTraffic, type Traffic } from './traffic.ts';
import { type NetworkState, palette, renderNetwork, renderPlain, Screen, wantsColour } from './view.ts';

const HELP = `Usage: npm start -- [options]

A development network on this machine: a hub, nodes with a builder stand-in each, and traffic.

  --nodes N    how many nodes (default 3)
  --rate R     orders per second over all nodes (default 20; 0 = none)
  --data DIR   keep keys, archives and logs in DIR and use them again (default: a new
               directory under the system's temporary one, removed at the end)
  --seed TEXT  seed of the generated orders (default: random)
  --once       send 100 orders, verify that each reached every builder exactly once and byte
               for byte and that each archive holds its own, print a verdict, exit 0 or 1
  --node       run one production node instead; all other flags are then that node's
               (npm start -- --node --help)
  --help       this text

NO_COLOR is honoured. Ctrl-C stops in order, a second one at once.
`;

const ONCE_ORDERS = 100;
const ONCE_DUPLICATES = 10;
const ONCE_TIMEOUT_MS = 20_000;
const CONNECT_TIMEOUT_MS = 30_000;
const REFRESH_MS = 1_000;
const EXIT_INTERRUPTED = 130;
/** Some terminals do not say how wide they are. */
const DEFAULT_COLUMNS = 80;

interface Options {
  readonly nodes: number;
  readonly rate: number;
  readonly data: string | undefined;
  readonly seed: string;
  readonly once: boolean;
}

const { stdout } = process;
const colour = wantsColour(stdout, process.env);
const paint = palette(colour);

const nodeFlag = process.argv.indexOf('--node');
if (nodeFlag >= 0) {
  process.argv.splice(nodeFlag, 1);
  await import('../main.ts');
} else {
  process.exitCode = await main();
}

async function main(): Promise<number> {
  const options = readOptions();
  if (typeof options === 'number') return options;
  const directory = options.data ?? (await mkdtemp(join(tmpdir(), 'orderflow-')));
  const interrupted = Promise.withResolvers<void>();
  let network: Network | null = null;
  let signals = 0;
  const onSignal = (): void => {
    if (++signals > 1) {
      network?.kill();
      process.exit(EXIT_INTERRUPTED);
    }
    interrupted.resolve();
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal);

  try {
    stdout.write(`starting ${options.nodes} nodes in ${directory}\n`);
    network = await startNetwork({ nodes: options.nodes, directory });
    const connected = network.connected(CONNECT_TIMEOUT_MS);
    const stopped = await Promise.race([connected.then(() => false), interrupted.promise.then(() => true)]);
    if (stopped) {
      connected.catch(() => {});
      return EXIT_INTERRUPTED;
    }
    return options.once ? await once(network, options) : await live(network, options, interrupted.promise);
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  } finally {
    await network?.close();
    if (options.data === undefined) await rm(directory, { recursive: true, force: true });
  }
}

async function once(network: Network, { seed }: Options): Promise<number> {
  const verdict = await runOnce(network, {
    source: createOrderSource({ seed }),
    orders: ONCE_ORDERS,
    duplicates: ONCE_DUPLICATES,
    timeoutMs: ONCE_TIMEOUT_MS,
    readArchive: (node) => readArchivedOrders(join(node.directory, 'archive')),
  });
  stdout.write(`seed ${seed}\n\n${renderVerdict(verdict, colour).join('\n')}\n`);
  return verdict.faults.length === 0 ? 0 : 1;
}

async function live(network: Network, { rate, seed }: Options, interrupted: Promise<void>): Promise<number> {
  const source = createOrderSource({ seed });
  stdout.write(`${introduction(network).join('\n')}\n\n`);
  const traffic = startTraffic({ source, rate, clients: network.nodes.map((node) => node.client) });
  const screen = stdout.isTTY ? new Screen(stdout) : null;
  // The cursor comes back on any exit, also that of a second interrupt.
  process.once('exit', () => screen?.end());
  const startedMs = performance.now();

  async function show(): Promise<void> {
    const state = await stateOf(network, traffic, rate, (performance.now() - startedMs) / 1000);
    if (screen === null) stdout.write(`${renderPlain(state)}\n`);
    else screen.draw(renderNetwork(state, { colour, width: stdout.columns || DEFAULT_COLUMNS }));
  }
  await show();
  let showing = Promise.resolve();
  const timer = setInterval(() => {
    showing = showing.then(show);
  }, REFRESH_MS);
  await interrupted;
  clearInterval(timer);
  await showing;
  stdout.write('stopping\n');
  await traffic.stop();
  return 0;
}

async function stateOf(
  network: Network,
  traffic: Traffic,
  rate: number,
  elapsedSec: number,
): Promise<NetworkState> {
  const nodes = await Promise.all(
    network.nodes.map(async (node) => {
      const figures = node.process.running ? await node.figures() : null;
      return { name: node.name, status: figures === null ? ('down' as const) : ('up' as const), figures };
    }),
  );
  const { accepted, failed, lastFailure } = traffic;
  return { nodes, rate, elapsedSec, accepted, failed, lastFailure };
}

/** Where everything is, and what to paste. */
function introduction(network: Network): string[] {
  const [first] = network.nodes;
  const lines = [`hub     ${paint.cyan(network.hubUrl)}`];
  for (const node of network.nodes) {
    lines.push(
      `${node.name}  ${paint.cyan(node.userUrl)}  metrics ${node.metricsUrl}  builder ${node.builder.url}/orders`,
    );
  }
  if (first === undefined) return lines;
  // A small one: a cancellation or a long bundle would show nothing to a reader.
  const example = createOrderSource({
    seed: randomBytes(8).toString('hex'),
    methods: 'bundles',
    bodyBytes: 400,
  });
  return [
    ...lines,
    '',
    paint.bold('post a bundle with curl (signed already; -k instead of --cacert to trust anything)'),
    curlSnippet({ url: first.userUrl, certificateFile: resolve(first.certificateFile) }, example.next()),
    '',
    paint.bold('make, sign and post one with viem (in this directory)'),
    viemSnippet({ url: first.userUrl, certificateFile: resolve(first.certificateFile) }),
  ];
}

/** @returns the options, or the exit code when there is nothing to run. */
function readOptions(): Options | number {
  try {
    const { values } = parseArgs({
      options: {
        nodes: { type: 'string', default: '3' },
        rate: { type: 'string', default: '20' },
        data: { type: 'string' },
        seed: { type: 'string', default: randomBytes(8).toString('hex') },
        once: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    if (values.help) {
      stdout.write(HELP);
      return 0;
    }
    return {
      nodes: numberIn('--nodes', values.nodes, 1, 50),
      rate: numberIn('--rate', values.rate, 0, 1_000),
      data: values.data,
      seed: values.seed,
      once: values.once,
    };
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    return 2;
  }
}

function numberIn(name: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isInteger(value) || value < min || value > max) {
    throw new RangeError(`${name} must be a whole number from ${min} to ${max}, got ${text}`);
  }
  return value;
}
