/**
 * What the development hub knows: builders, their credentials and documents, and measurements. Kept in one JSON
 * file that is replaced as a whole after every change.
 */
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { readText, writeAtomically } from '../store.ts';

/** What a builder registered for one service. Addresses are in lower case. */
export interface ServiceCredentials {
  readonly tls_cert?: string;
  readonly ecdsa_pubkey_address?: string;
  readonly region?: string;
}

export interface Builder {
  readonly name: string;
  readonly ip: string;
  readonly dns_name: string;
  readonly network: string;
  active: boolean;
  /** By service name, which is free. */
  readonly credentials: Map<string, ServiceCredentials>;
  /** Any JSON document; undefined when none was set. */
  configuration: unknown;
  secrets: unknown;
}

export interface Measurement {
  readonly measurement_id: string;
  readonly attestation_type: string;
  /** By register: the value it must have, or several of which one must fit. */
  readonly measurements: Readonly<
    Record<string, { readonly expected?: string; readonly expected_any?: string[] }>
  >;
  active: boolean;
}

/** The state in memory, with its file. */
export class HubState {
  readonly builders = new Map<string, Builder>();
  readonly measurements = new Map<string, Measurement>();
  readonly #file: string | undefined;
  #writing: Promise<void> | undefined;
  #again = false;

  /** Use `HubState.open`. */
  private constructor(file: string | undefined) {
    this.#file = file;
  }

  /**
   * @param file undefined keeps everything in memory
   * @throws Error naming the file when it is damaged
   */
  static async open(file: string | undefined): Promise<HubState> {
    const state = new HubState(file);
    if (file === undefined) return state;
    await mkdir(dirname(file), { recursive: true });
    const text = await readText(file);
    if (text === undefined) return state;
    try {
      const stored: StoredState = JSON.parse(text);
      for (const { credentials, ...builder } of stored.builders) {
        state.builders.set(builder.name, {
          ...builder,
          credentials: new Map(Object.entries(credentials)),
        });
      }
      for (const measurement of stored.measurements) {
        state.measurements.set(measurement.measurement_id, measurement);
      }
    } catch (error) {
      throw new Error(`${file} is damaged: it holds no state of a development hub`, { cause: error });
    }
    return state;
  }

  /** Writes the state; changes made while a write is under way go out together in the next one. */
  save(): Promise<void> {
    if (this.#file === undefined) return Promise.resolve();
    if (this.#writing !== undefined) {
      this.#again = true;
      return this.#writing;
    }
    this.#writing = this.#write(this.#file).finally(() => {
      this.#writing = undefined;
    });
    return this.#writing;
  }

  async #write(file: string): Promise<void> {
    do {
      this.#again = false;
      await writeAtomically(file, this.#serialize());
    } while (this.#again);
  }

  #serialize(): string {
    const stored: StoredState = {
      builders: [...this.builders.values()].map(({ credentials, ...builder }) => ({
        ...builder,
        credentials: Object.fromEntries(credentials),
      })),
      measurements: [...this.measurements.values()],
    };
    return `${JSON.stringify(stored, undefined, 1)}\n`;
  }
}

interface StoredState {
  readonly builders: readonly (Omit<Builder, 'credentials'> & {
    readonly credentials: Readonly<Record<string, ServiceCredentials>>;
  })[];
  readonly measurements: readonly Measurement[];
}
