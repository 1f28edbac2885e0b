/** Boot step: 32 random bytes in hex, which execution and consensus client know each other by (engine API, JWT). */
import { randomBytes } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';

const file = process.argv[2] ?? '';
rmSync(file, { force: true });
writeFileSync(file, randomBytes(32).toString('hex'), { mode: 0o400, flag: 'wx' });
