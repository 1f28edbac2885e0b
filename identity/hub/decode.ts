/**
 * Reads what callers send to the hub. Refusals have BuilderHub's form, `{"message","error"?}` with status 400, and
 * its words, which are those of Go's decoders.
 */
import { isIP } from 'node:net';
import { parseAddress } from '../address.ts';
import { firstCertificate } from '../hub-list.ts';
import type { Measurement, ServiceCredentials } from './state.ts';

/** Why a request is refused: the body of the 400. */
export class BadRequest {
  readonly message: string;
  readonly error: string | undefined;

  constructor(message: string, error?: string) {
    this.message = message;
    this.error = error;
  }
}

const NOT_UNMARSHALLED = 'failed to unmarshal request body';

/** @returns the JSON object, or why there is none */
export function readObject(text: string): Record<string, unknown> | BadRequest {
  const value = readJson(text);
  if (value instanceof BadRequest) return value;
  return isRecord(value)
    ? value
    : new BadRequest(NOT_UNMARSHALLED, `json: cannot unmarshal ${kindOf(value)} into Go value`);
}

/** @returns the JSON value, or why there is none */
export function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return new BadRequest(NOT_UNMARSHALLED, syntaxError(text));
  }
}

function syntaxError(text: string): string {
  const first = text.trimStart().charAt(0);
  if (first === '' || /[[{"]/u.test(first)) return 'unexpected end of JSON input';
  return `invalid character '${first}' looking for beginning of value`;
}

/**
 * The credentials of one service. Stricter than BuilderHub, which takes any text for a certificate: on a private
 * network a mistake should show at once.
 */
export function readCredentials(text: string): ServiceCredentials | BadRequest {
  const body = readObject(text);
  if (body instanceof BadRequest) return body;
  for (const field of ['tls_cert', 'ecdsa_pubkey_address', 'region']) {
    const value = body[field];
    if (value !== undefined && value !== null && typeof value !== 'string') {
      return new BadRequest(
        NOT_UNMARSHALLED,
        `json: cannot unmarshal ${kindOf(value)} into Go struct field ServiceCred.${field}`,
      );
    }
  }
  const certificate = textOf(body.tls_cert);
  const addressText = textOf(body.ecdsa_pubkey_address);
  const region = textOf(body.region);
  if (certificate === '' && addressText === '') return new BadRequest('no credentials provided');
  const address = addressText === '' ? undefined : readAddress(addressText);
  if (address instanceof BadRequest) return address;
  if (certificate !== '' && firstCertificate(certificate) === undefined) {
    return new BadRequest('failed to parse tls_cert', 'it holds no certificate in PEM form that can be read');
  }
  return {
    ...(certificate === '' ? {} : { tls_cert: certificate }),
    ...(address === undefined ? {} : { ecdsa_pubkey_address: address }),
    ...(region === '' ? {} : { region }),
  };
}

function readAddress(text: string): string | BadRequest {
  if (!/^0x/iu.test(text)) {
    return new BadRequest(
      NOT_UNMARSHALLED,
      'json: cannot unmarshal hex string without 0x prefix into Go struct field ServiceCred.ecdsa_pubkey_address of type common.Address',
    );
  }
  const digits = text.length - 2;
  if (digits !== 40) {
    return new BadRequest(NOT_UNMARSHALLED, `hex string has length ${digits}, want 40 for common.Address`);
  }
  return parseAddress(text) ?? new BadRequest(NOT_UNMARSHALLED, 'invalid hex string');
}

export interface NewBuilder {
  readonly name: string;
  readonly ip: string;
  readonly dns_name: string;
  readonly network: string;
}

/** A builder as the admin API takes it. */
export function readBuilder(text: string): NewBuilder | BadRequest {
  const body = readObject(text);
  if (body instanceof BadRequest) return body;
  const network = textOf(body.network);
  if (network === '') return new BadRequest('network field is required');
  const ip = textOf(body.ip_address);
  if (isIP(ip) === 0) {
    return new BadRequest('failed to convert builder to domain builder', 'invalid ip address');
  }
  return { name: textOf(body.name), ip, dns_name: textOf(body.dns_name), network };
}

/** A measurement as the admin API takes it; it starts inactive. */
export function readMeasurement(text: string): Measurement | BadRequest {
  const body = readObject(text);
  if (body instanceof BadRequest) return body;
  const registers: Measurement['measurements'] = Object.fromEntries(
    Object.entries(isRecord(body.measurements) ? body.measurements : {}).map(([register, expected]) => [
      register,
      readExpected(expected),
    ]),
  );
  return {
    measurement_id: textOf(body.measurement_id),
    attestation_type: textOf(body.attestation_type),
    measurements: registers,
    active: false,
  };
}

function readExpected(value: unknown): { expected?: string; expected_any?: string[] } {
  if (!isRecord(value)) return {};
  const any = Array.isArray(value.expected_any)
    ? value.expected_any.filter((text) => typeof text === 'string')
    : undefined;
  return {
    ...(typeof value.expected === 'string' ? { expected: value.expected } : {}),
    ...(any === undefined ? {} : { expected_any: any }),
  };
}

/** @returns the text, or the empty one for anything else, as Go's zero value */
function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function kindOf(value: unknown): string {
  if (Array.isArray(value)) return 'array';
  return typeof value === 'boolean' ? 'bool' : typeof value;
}
