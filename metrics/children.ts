/** What a metric keeps for each set of labels, and how the page shows it. */

/** As prom-client's registry takes values of a metric. */
export interface ExportedValue {
  readonly metricName?: string;
  readonly labels: Record<string, string | number>;
  readonly value: number;
}

/** One of each set of labels, in the order in which they were first asked for. */
export class Children<T> {
  readonly #make: () => T;
  readonly #known = new Map<string, { readonly values: readonly string[]; readonly child: T }>();

  constructor(make: () => T) {
    this.#make = make;
  }

  of(values: readonly string[]): T {
    const key = values.join('\0');
    let known = this.#known.get(key);
    if (known === undefined) {
      known = { values, child: this.#make() };
      this.#known.set(key, known);
    }
    return known.child;
  }

  /** Forgets those for which `test` is true (a peer that left). */
  remove(test: (values: readonly string[]) => boolean): void {
    for (const [key, { values }] of this.#known) if (test(values)) this.#known.delete(key);
  }

  clear(): void {
    this.#known.clear();
  }

  all(): Iterable<{ readonly values: readonly string[]; readonly child: T }> {
    return this.#known.values();
  }
}

/** @returns the labels by name, as on the page. */
export function labelled(names: readonly string[], values: readonly string[]): Record<string, string> {
  return Object.fromEntries(names.map((name, index) => [name, values[index] ?? '']));
}
