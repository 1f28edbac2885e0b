/**
 * Reads a node's `/metrics` page (Prometheus text format 0.0.4) into what the terminal view shows. Takes what a
 * node exports, no comments, no exemplars.
 */

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** One peer as a node sees it. Latencies in milliseconds, null until something was sent. */
export interface PeerFigures {
  readonly name: string;
  readonly connections: number;
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
}

/** What the view shows of one node, since the node's start. */
export interface NodeFigures {
  readonly fromUsers: number;
  readonly fromPeers: number;
  readonly duplicates: number;
  readonly toBuilder: number;
  /** Sequence of the last order that is durable in the archive. */
  readonly archived: number;
  readonly archiveAccepting: boolean;
  readonly peers: readonly PeerFigures[];
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: -?\d+)?$/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;
/** The builder is a target among the peers in these metrics. */
const BUILDER = 'local-builder';
const SEND_TIME = 'orderflow_proxy_share_queue_peer_rpc_duration_milliseconds';

/** @returns every sample of the page in order; lines that are none are left out. */
export function parseMetrics(page: string): Sample[] {
  const samples: Sample[] = [];
  for (const line of page.split('\n')) {
    const match = line.startsWith('#') ? null : LINE.exec(line);
    if (match === null) continue;
    const [, name = '', pairs = '', value = ''] = match;
    const labels: Record<string, string> = {};
    for (const [, key = '', text = ''] of pairs.matchAll(LABEL)) {
      labels[key] = text.replace(/\\(.)/g, (_, escaped: string) => (escaped === 'n' ? '\n' : escaped));
    }
    samples.push({ name, labels, value: parseValue(value) });
  }
  return samples;
}

/** Adds up the samples of a name that carry all the given labels; 0 where there is none. */
export function sumOf(samples: readonly Sample[], name: string, labels: Record<string, string> = {}): number {
  return matching(samples, name, labels).reduce((sum, sample) => sum + sample.value, 0);
}

/** Picks out the figures of the view. */
export function figuresOf(samples: readonly Sample[]): NodeFigures {
  const peers = connectionsOf(samples).map(({ peer, connections }) => ({
    name: peer,
    connections,
    p50Ms: quantileOf(samples, peer, '0.5'),
    p99Ms: quantileOf(samples, peer, '0.99'),
  }));
  return {
    fromUsers: sumOf(samples, 'orderflow_orders_total', { side: 'user' }),
    fromPeers: sumOf(samples, 'orderflow_orders_total', { side: 'system' }),
    duplicates: sumOf(samples, 'orderflow_duplicates_total'),
    toBuilder: sumOf(samples, 'orderflow_delivery_sent_total', { target: BUILDER }),
    archived: sumOf(samples, 'orderflow_archive_durable_sequence'),
    archiveAccepting: sumOf(samples, 'orderflow_archive_accepting') === 1,
    peers: peers.sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true })),
  };
}

/** How many connections a node has to each of its peers. */
export function connectionsOf(samples: readonly Sample[]): { peer: string; connections: number }[] {
  return matching(samples, 'orderflow_delivery_connections', {})
    .map(({ labels, value }) => ({ peer: labels.target ?? '', connections: value }))
    .filter(({ peer }) => peer !== BUILDER);
}

function matching(samples: readonly Sample[], name: string, labels: Record<string, string>): Sample[] {
  const wanted = Object.entries(labels);
  return samples.filter(
    (sample) => sample.name === name && wanted.every(([key, value]) => sample.labels[key] === value),
  );
}

/** Small requests are the rule, so theirs stand for the peer; big ones where there are no others. */
function quantileOf(samples: readonly Sample[], peer: string, quantile: string): number | null {
  for (const isBig of ['false', 'true']) {
    const found = matching(samples, SEND_TIME, { peer, is_big: isBig, quantile })[0];
    if (found !== undefined && Number.isFinite(found.value) && sentTo(samples, peer, isBig) > 0) {
      return found.value;
    }
  }
  return null;
}

function sentTo(samples: readonly Sample[], peer: string, isBig: string): number {
  return sumOf(samples, `${SEND_TIME}_count`, { peer, is_big: isBig });
}

function parseValue(text: string): number {
  if (text === '+Inf') return Number.POSITIVE_INFINITY;
  if (text === '-Inf') return Number.NEGATIVE_INFINITY;
  return Number(text);
}
