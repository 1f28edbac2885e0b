/**
 * Prometheus summaries as v1 exports them: quantiles over a sliding window of about five minutes, with
 * `_sum` and `_count` over all time. prom-client's own summary keeps a t-digest and costs over a
 * microsecond a value; this one counts into fixed buckets (32 a power of two: at most 3 % off) and
 * registers with prom-client's registry like any other metric. Memory: 8 KB a set of labels.
 */
import { Children, type ExportedValue, labelled } from './children.ts';

const QUANTILES = [0.5, 0.9, 0.97, 0.99, 1] as const;
const SUB_BITS = 5;
const SUB_BUCKETS = 1 << SUB_BITS;
const BUCKETS = (32 - SUB_BITS) * SUB_BUCKETS;
const MAX_VALUE = 0x7fffffff;
/** Half of the window: quantiles cover the current half and the one before. */
const HALF_WINDOW_MS = 150_000;

/** The values of one set of labels. */
export class SummaryChild {
  current = new Uint32Array(BUCKETS);
  previous = new Uint32Array(BUCKETS);
  currentMax = 0;
  previousMax = 0;
  sum = 0;
  count = 0;

  /** @param value whole number in the summary's recording unit (µs or bytes); clamped to 0..2^31-1 */
  observe(value: number): void {
    const clamped = value < 0 ? 0 : value > MAX_VALUE ? MAX_VALUE : Math.round(value);
    this.sum += clamped;
    this.count += 1;
    if (clamped > this.currentMax) this.currentMax = clamped;
    const bucket = bucketOf(clamped);
    this.current[bucket] = (this.current[bucket] ?? 0) + 1;
  }

  rotate(): void {
    const reused = this.previous.fill(0);
    this.previous = this.current;
    this.current = reused;
    this.previousMax = this.currentMax;
    this.currentMax = 0;
  }

  /** Adds what another thread has counted. */
  absorb({ sum, count, max, buckets }: SummarySnapshot['children'][number]): void {
    this.sum += sum;
    this.count += count;
    if (max > this.currentMax) this.currentMax = max;
    for (let i = 0; i < buckets.length; i += 2) {
      const bucket = buckets[i] ?? 0;
      this.current[bucket] = (this.current[bucket] ?? 0) + (buckets[i + 1] ?? 0);
    }
  }

  /** Place and count of each bucket of the window that is not empty. */
  buckets(): number[] {
    const pairs: number[] = [];
    for (let i = 0; i < BUCKETS; i += 1) {
      const count = (this.current[i] ?? 0) + (this.previous[i] ?? 0);
      if (count > 0) pairs.push(i, count);
    }
    return pairs;
  }

  get max(): number {
    return Math.max(this.currentMax, this.previousMax);
  }

  /** @returns the value below which the fraction `q` of the window's values lies; 0 of none. */
  quantile(q: number): number {
    const { max } = this;
    if (q >= 1) return max;
    let total = 0;
    for (let i = 0; i < BUCKETS; i += 1) total += (this.current[i] ?? 0) + (this.previous[i] ?? 0);
    let rank = Math.ceil(q * total);
    for (let i = 0; i < BUCKETS && rank > 0; i += 1) {
      rank -= (this.current[i] ?? 0) + (this.previous[i] ?? 0);
      if (rank <= 0) return Math.min(upperBoundOf(i), max);
    }
    return max;
  }
}

/** What a thread has counted, for another that adds several up: buckets as pairs of place and count. */
export interface SummarySnapshot extends SummaryOptions {
  readonly children: readonly {
    readonly labels: readonly string[];
    readonly sum: number;
    readonly count: number;
    readonly max: number;
    readonly buckets: readonly number[];
  }[];
}

/** Values below 32 have a bucket each; above, 32 buckets for each power of two. */
function bucketOf(value: number): number {
  if (value < SUB_BUCKETS) return value;
  const magnitude = 31 - Math.clz32(value) - SUB_BITS;
  return (magnitude + 1) * SUB_BUCKETS + ((value >>> magnitude) - SUB_BUCKETS);
}

function upperBoundOf(bucket: number): number {
  if (bucket < SUB_BUCKETS) return bucket;
  const magnitude = Math.floor(bucket / SUB_BUCKETS) - 1;
  return ((SUB_BUCKETS + (bucket % SUB_BUCKETS) + 1) << magnitude) - 1;
}

export interface SummaryOptions {
  readonly name: string;
  readonly help: string;
  readonly labels: readonly string[];
  /** Recorded units in one exported unit: 1000 when microseconds are exported as milliseconds. */
  readonly scale: number;
}

/** A summary with labels; has the shape that prom-client's registry asks of a metric. */
export class Summary {
  readonly name: string;
  readonly help: string;
  readonly type = 'summary';
  readonly aggregator = 'sum';
  readonly #options: SummaryOptions;
  readonly #children = new Children(() => new SummaryChild());
  #halfStartedMs = Date.now();

  constructor(options: SummaryOptions) {
    this.name = options.name;
    this.help = options.help;
    this.#options = options;
  }

  /** The values for these labels; callers keep it, looking it up costs more than recording. */
  child(...labels: string[]): SummaryChild {
    return this.#children.of(labels);
  }

  /** Forgets the children for which `test` is true (a peer that left). */
  remove(test: (labels: readonly string[]) => boolean): void {
    this.#children.remove(test);
  }

  reset(): void {
    this.#children.clear();
  }

  snapshot(): SummarySnapshot {
    this.#rotate();
    const { name, help, labels, scale } = this.#options;
    const children = [...this.#children.all()].map(({ values, child }) => ({
      labels: values,
      sum: child.sum,
      count: child.count,
      max: child.max,
      buckets: child.buckets(),
    }));
    return { name, help, labels, scale, children };
  }

  get(): { name: string; help: string; type: string; aggregator: string; values: ExportedValue[] } {
    this.#rotate();
    const values: ExportedValue[] = [];
    const { labels: names, scale } = this.#options;
    for (const { values: labelValues, child } of this.#children.all()) {
      const labels = labelled(names, labelValues);
      for (const q of QUANTILES)
        values.push({ labels: { ...labels, quantile: q }, value: child.quantile(q) / scale });
      values.push({ metricName: `${this.name}_sum`, labels, value: child.sum / scale });
      values.push({ metricName: `${this.name}_count`, labels, value: child.count });
    }
    return { name: this.name, help: this.help, type: this.type, aggregator: this.aggregator, values };
  }

  #rotate(): void {
    const now = Date.now();
    if (now - this.#halfStartedMs < HALF_WINDOW_MS) return;
    this.#halfStartedMs = now;
    for (const { child } of this.#children.all()) child.rotate();
  }
}
