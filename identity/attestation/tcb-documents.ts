/**
 * TCB info and QE identity as objects: version 3 and 2 of Intel's provisioning service, TDX kind. Levels stand in the
 * order of the document, newest first, which the evaluation relies on.
 */

export const TCB_STATUSES = [
  'UpToDate',
  'SWHardeningNeeded',
  'ConfigurationNeeded',
  'ConfigurationAndSWHardeningNeeded',
  'OutOfDate',
  'OutOfDateConfigurationNeeded',
  'Revoked',
] as const;
export type TcbStatus = (typeof TCB_STATUSES)[number];

/** A level of an enclave or of the TDX module: the security version from which it holds. */
export interface IsvLevel {
  readonly isvSvn: number;
  readonly status: TcbStatus;
  readonly advisories: readonly string[];
}

/** A level of the platform. */
export interface PlatformLevel {
  readonly sgxComponents: readonly number[];
  readonly tdxComponents: readonly number[];
  readonly pceSvn: number;
  readonly status: TcbStatus;
  /** ISO 8601, as given. */
  readonly date: string;
  readonly advisories: readonly string[];
}

export interface TdxModule {
  /** `TDX_01` and so on; undefined for the one of TDX 1.0. */
  readonly id: string | undefined;
  readonly mrSigner: Buffer;
  readonly attributes: Buffer;
  readonly attributesMask: Buffer;
  readonly levels: readonly IsvLevel[];
}

export interface TcbInfo {
  /** Grows with each recovery (tcbEvaluationDataNumber). */
  readonly evaluation: number;
  /** Unix milliseconds. */
  readonly issueDate: number;
  readonly nextUpdate: number;
  /** Lower-case hex. */
  readonly fmspc: string;
  readonly pceId: string;
  readonly module: TdxModule;
  readonly moduleIdentities: readonly TdxModule[];
  readonly levels: readonly PlatformLevel[];
}

export interface QeIdentity {
  /** As in `TcbInfo`. */
  readonly evaluation: number;
  readonly issueDate: number;
  readonly nextUpdate: number;
  readonly miscSelect: Buffer;
  readonly miscSelectMask: Buffer;
  readonly attributes: Buffer;
  readonly attributesMask: Buffer;
  readonly mrSigner: Buffer;
  readonly isvProdId: number;
  readonly levels: readonly IsvLevel[];
}

class DocumentError extends Error {}

/** A JSON object whose members are asked for with the type they must have. */
class Fields {
  readonly #value: Readonly<Record<string, unknown>>;

  constructor(value: unknown, what: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new DocumentError(`${what} is no object`);
    }
    this.#value = { ...value };
  }

  has(name: string): boolean {
    return this.#value[name] !== undefined;
  }

  text(name: string): string {
    const value = this.#value[name];
    if (typeof value !== 'string') throw new DocumentError(`${name} is no text`);
    return value;
  }

  integer(name: string, max: number): number {
    const value = this.#value[name];
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > max) {
      throw new DocumentError(`${name} is no number from 0 to ${max}`);
    }
    return value;
  }

  hex(name: string, bytes: number): Buffer {
    const value = this.text(name);
    if (value.length !== bytes * 2 || !/^[0-9a-fA-F]*$/u.test(value)) {
      throw new DocumentError(`${name} is not ${bytes} bytes in hex`);
    }
    return Buffer.from(value, 'hex');
  }

  time(name: string): number {
    const time = Date.parse(this.text(name));
    if (Number.isNaN(time)) throw new DocumentError(`${name} is no time`);
    return time;
  }

  object(name: string): Fields {
    return new Fields(this.#value[name], name);
  }

  list(name: string): Fields[] {
    const value = this.#value[name];
    if (!Array.isArray(value)) throw new DocumentError(`${name} is no list`);
    return value.map((entry) => new Fields(entry, name));
  }

  texts(name: string): string[] {
    const value = this.#value[name] ?? [];
    if (!Array.isArray(value)) throw new DocumentError(`${name} is no list`);
    return value.filter((entry) => typeof entry === 'string');
  }
}

/** @returns the document, or why it is none */
export function readTcbInfo(value: unknown): TcbInfo | string {
  return attempt(() => {
    const fields = new Fields(value, 'TCB info');
    mustBe(fields, 'TDX', 3);
    if (fields.integer('tcbType', 255) !== 0) throw new DocumentError('tcbType is not 0');
    return {
      evaluation: fields.integer('tcbEvaluationDataNumber', 2 ** 31),
      issueDate: fields.time('issueDate'),
      nextUpdate: fields.time('nextUpdate'),
      fmspc: fields.hex('fmspc', 6).toString('hex'),
      pceId: fields.hex('pceId', 2).toString('hex'),
      module: readModule(fields.object('tdxModule')),
      moduleIdentities: fields.has('tdxModuleIdentities')
        ? fields.list('tdxModuleIdentities').map(readModule)
        : [],
      levels: fields.list('tcbLevels').map(readPlatformLevel),
    };
  });
}

/** @returns the document, or why it is none */
export function readQeIdentity(value: unknown): QeIdentity | string {
  return attempt(() => {
    const fields = new Fields(value, 'QE identity');
    mustBe(fields, 'TD_QE', 2);
    return {
      evaluation: fields.integer('tcbEvaluationDataNumber', 2 ** 31),
      issueDate: fields.time('issueDate'),
      nextUpdate: fields.time('nextUpdate'),
      miscSelect: fields.hex('miscselect', 4),
      miscSelectMask: fields.hex('miscselectMask', 4),
      attributes: fields.hex('attributes', 16),
      attributesMask: fields.hex('attributesMask', 16),
      mrSigner: fields.hex('mrsigner', 32),
      isvProdId: fields.integer('isvprodid', 0xffff),
      levels: fields.list('tcbLevels').map(readIsvLevel),
    };
  });
}

function mustBe(fields: Fields, id: string, version: number): void {
  if (fields.text('id') !== id) throw new DocumentError(`id is not ${id}`);
  if (fields.integer('version', 255) !== version) throw new DocumentError(`version is not ${version}`);
}

function readModule(fields: Fields): TdxModule {
  return {
    id: fields.has('id') ? fields.text('id') : undefined,
    mrSigner: fields.hex('mrsigner', 48),
    attributes: fields.hex('attributes', 8),
    attributesMask: fields.hex('attributesMask', 8),
    levels: fields.has('tcbLevels') ? fields.list('tcbLevels').map(readIsvLevel) : [],
  };
}

function readIsvLevel(fields: Fields): IsvLevel {
  return {
    isvSvn: fields.object('tcb').integer('isvsvn', 0xffff),
    status: readStatus(fields),
    advisories: fields.texts('advisoryIDs'),
  };
}

function readPlatformLevel(fields: Fields): PlatformLevel {
  const tcb = fields.object('tcb');
  return {
    sgxComponents: readComponents(tcb, 'sgxtcbcomponents'),
    tdxComponents: readComponents(tcb, 'tdxtcbcomponents'),
    pceSvn: tcb.integer('pcesvn', 0xffff),
    status: readStatus(fields),
    date: fields.text('tcbDate'),
    advisories: fields.texts('advisoryIDs'),
  };
}

function readComponents(tcb: Fields, name: string): number[] {
  const components = tcb.list(name).map((component) => component.integer('svn', 255));
  if (components.length !== 16)
    throw new DocumentError(`${name} has ${components.length} components, not 16`);
  return components;
}

function readStatus(fields: Fields): TcbStatus {
  const text = fields.text('tcbStatus');
  const status = TCB_STATUSES.find((known) => known === text);
  if (status === undefined) throw new DocumentError('tcbStatus is not known');
  return status;
}

function attempt<T>(read: () => T): T | string {
  try {
    return read();
  } catch (error) {
    if (error instanceof DocumentError) return error.message;
    throw error;
  }
}
