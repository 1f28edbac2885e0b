/** Where tests keep what they build. */
import { join } from 'node:path';
import type { Store } from '../build/store.ts';

/** Folder of the development image that all tests look at. */
export function testImage(store: Store): string {
  return join(store.folder('test'), 'devnet');
}
