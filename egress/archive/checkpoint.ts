/**
 * Checkpoints: every few seconds the node states, signed with its key, how far its archive goes and with which
 * chain value. A chain value covers every order before it, so one signature vouches for all of them, and an
 * archive that ends before a checkpoint's `s` has lost its end.
 *
 * The signature is the value of the network's signature header (protocol section 3) over the statement's text, so
 * everything that checks orders of peers can check it. The text has no `method`: it can never pass for an order.
 */

/** Header `control` of a checkpoint. */
export const CHECKPOINT_CONTROL = 'checkpoint';

/** What a node states: every record of (n, e) up to s is durable, the last with chain value h; at unix µs t. */
export interface Checkpoint {
  readonly n: string;
  readonly e: number;
  readonly s: number;
  readonly h: string;
  readonly t: number;
}

export interface SignedCheckpoint extends Checkpoint {
  /** `<address>:<0x signature>` over {@link checkpointText}; the address is `n`, apart from the case of its letters. */
  readonly signature: string;
}

/** @returns the text that is signed: JSON, keys in this order, no spaces. */
export function checkpointText({ n, e, s, h, t }: Checkpoint): string {
  return JSON.stringify({ n, e, s, h, t });
}

/** @returns the value of a checkpoint record: the signed text with the signature as one more key. */
export function encodeCheckpoint(checkpoint: Checkpoint, sign: (text: string) => string): Buffer {
  const { n, e, s, h, t } = checkpoint;
  return Buffer.from(JSON.stringify({ n, e, s, h, t, signature: sign(checkpointText(checkpoint)) }));
}

/** @returns the content of a checkpoint record, or null when the value is none. The signature is not checked. */
export function decodeCheckpoint(value: Buffer): SignedCheckpoint | null {
  let parsed: unknown;
  try {
    parsed = JSON.parse(value.toString());
  } catch {
    return null;
  }
  if (typeof parsed !== 'object' || parsed === null) return null;
  const { n, e, s, h, t, signature } = parsed as Partial<Record<keyof SignedCheckpoint, unknown>>;
  if (typeof n !== 'string' || typeof h !== 'string' || typeof signature !== 'string') return null;
  if (![e, s, t].every(Number.isSafeInteger)) return null;
  return { n, e: e as number, s: s as number, h, t: t as number, signature };
}

/**
 * @param verify the signature header's check: the signer's lower-case address, or anything else when it fails
 *   (identity/signature.ts, SignatureVerifier.verify).
 * @returns whether the node that the checkpoint names has signed it.
 */
export function isSignedByNode(
  checkpoint: SignedCheckpoint,
  verify: (signature: string, text: Buffer) => unknown,
): boolean {
  return verify(checkpoint.signature, Buffer.from(checkpointText(checkpoint))) === checkpoint.n.toLowerCase();
}
