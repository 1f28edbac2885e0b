/** What can go wrong with brokers, told apart by their own error codes; and waiting for them no longer than so. */
import { asError } from '../failure.ts';

/** Why something failed, for labels and decisions. */
export type TroubleKind =
  | 'unreachable'
  | 'stalled'
  | 'authentication'
  | 'authorization'
  | 'topic_missing'
  | 'too_few_replicas'
  | 'too_large'
  | 'clock'
  | 'producer_lost'
  | 'out_of_range'
  | 'other';

/** A failure of the brokers or on the way to them. The message holds names and codes, never a record. */
export class KafkaTrouble extends Error {
  override readonly name = 'KafkaTrouble';
  readonly kind: TroubleKind;

  constructor(kind: TroubleKind, message: string, cause?: unknown) {
    super(message, { cause });
    this.kind = kind;
  }
}

/** Error types of the protocol, and what they mean to the shipper. */
const KINDS: ReadonlyMap<string, TroubleKind> = new Map([
  ['MESSAGE_TOO_LARGE', 'too_large'],
  ['RECORD_LIST_TOO_LARGE', 'too_large'],
  ['UNKNOWN_TOPIC_OR_PARTITION', 'topic_missing'],
  ['TOPIC_AUTHORIZATION_FAILED', 'authorization'],
  ['CLUSTER_AUTHORIZATION_FAILED', 'authorization'],
  ['TRANSACTIONAL_ID_AUTHORIZATION_FAILED', 'authorization'],
  ['SASL_AUTHENTICATION_FAILED', 'authentication'],
  ['UNSUPPORTED_SASL_MECHANISM', 'authentication'],
  ['ILLEGAL_SASL_STATE', 'authentication'],
  ['NOT_ENOUGH_REPLICAS', 'too_few_replicas'],
  ['NOT_ENOUGH_REPLICAS_AFTER_APPEND', 'too_few_replicas'],
  ['INVALID_TIMESTAMP', 'clock'],
  ['OFFSET_OUT_OF_RANGE', 'out_of_range'],
  ['GROUP_AUTHORIZATION_FAILED', 'authorization'],
  ['OUT_OF_ORDER_SEQUENCE_NUMBER', 'producer_lost'],
  ['UNKNOWN_PRODUCER_ID', 'producer_lost'],
  ['INVALID_PRODUCER_EPOCH', 'producer_lost'],
  ['INVALID_PRODUCER_ID_MAPPING', 'producer_lost'],
]);

/** @returns the failure behind whatever kafkajs has thrown. */
export function troubleOf(thrown: unknown): KafkaTrouble {
  if (thrown instanceof KafkaTrouble) return thrown;
  const error = asError(thrown);
  for (let inner: unknown = error, depth = 0; inner instanceof Error && depth < 8; depth += 1) {
    const { type, name, cause, errors } = inner as Error & { type?: unknown; errors?: readonly unknown[] };
    const kind = typeof type === 'string' ? KINDS.get(type) : undefined;
    if (kind !== undefined) return new KafkaTrouble(kind, `${String(type)}: ${inner.message}`, error);
    if (name === 'KafkaJSSASLAuthenticationError')
      return new KafkaTrouble('authentication', inner.message, error);
    if (inner.name.startsWith('KafkaJSConnection') || name === 'KafkaJSRequestTimeoutError') {
      return new KafkaTrouble('unreachable', inner.message, error);
    }
    inner = errors?.[0] ?? cause;
  }
  return new KafkaTrouble('other', error.message, error);
}

/** @throws KafkaTrouble `stalled` when the promise takes longer; it goes on unseen then. */
export async function withDeadline<T>(promise: Promise<T>, timeoutMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(
      () => reject(new KafkaTrouble('stalled', `no answer from the brokers within ${timeoutMs / 1000} s`)),
      timeoutMs,
    );
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

const PASSING: ReadonlySet<TroubleKind> = new Set(['unreachable', 'stalled', 'other']);

/** @returns whether an error is a trouble of brokers that passes by itself: a reader may ask again. */
export function isPassing(error: unknown): boolean {
  return error instanceof KafkaTrouble && PASSING.has(error.kind);
}
