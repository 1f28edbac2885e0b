/** Ending what was started, in reverse order. */
import type { Logger } from 'pino';

/** What has been started, in order, and how it is ended. */
export type Closers = { what: string; close: () => Promise<unknown> }[];

/** One that fails to close does not keep the others open. */
export async function closeInReverse(closers: Closers, log: Logger): Promise<void> {
  for (const { what, close } of closers.toReversed()) {
    await close().catch((error: unknown) =>
      log.error({ event: 'close failed', what, reason: String(error) }, 'close failed'),
    );
  }
}

/** Waits for `work`, but no longer than `ms`. */
export async function within(ms: number, work: Promise<unknown>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await Promise.race([work, promise]);
  clearTimeout(timer);
}
