/** Becomes a node that may open no more than 512 files. */
import { join } from 'node:path';

const MAIN = join(import.meta.dirname, '..', '..', 'main.ts');
if (process.execve === undefined) throw new Error('this platform cannot replace a process');
process.execve('/bin/sh', ['sh', '-c', 'ulimit -n 512; exec "$0" "$1"', process.execPath, MAIN], process.env);
