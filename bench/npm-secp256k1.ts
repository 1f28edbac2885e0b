/** The libsecp256k1 that npm's `secp256k1` ships compiled: the reference machine was measured with it. */
import { createRequire } from 'node:module';
import { loadBackend, type Secp256k1 } from '../identity/secp256k1.ts';

const LIBRARY = 'secp256k1/bindings.js';

/** @throws Error where it does not load */
export function npmLibrary(): Secp256k1 {
  const require = createRequire(import.meta.url);
  const library = loadBackend((name) => {
    if (name !== LIBRARY) throw new Error('not wanted here');
    return require(name);
  });
  if (library.backend !== 'prebuilt') throw new Error(`${LIBRARY} does not load: ${library.backendFailure}`);
  return library;
}
