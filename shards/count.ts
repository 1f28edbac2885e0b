/** How many shards a node has that is not told: one for each core, fewer where that would not do. */
import { memoryProblem } from '../memory-bound.ts';
import { MAX_SHARDS, type Settings } from '../settings.ts';

/** Where the node runs. */
export interface Machine {
  /** Cores that the process may use, less what its affinity or a container's quota takes (os.availableParallelism). */
  readonly cores: number;
  /** Can several threads listen on one port? */
  readonly sharesPorts: boolean;
  /** The process's limit, see open-files.ts. */
  readonly openFiles: number;
}

/** @returns the number that SHARDS names; for `auto` the most that cores and MEMORY_CEILING_BYTES allow, at least 1. */
export function shardCount(settings: Settings, { cores, sharesPorts, openFiles }: Machine): number {
  if (settings.shards !== 'auto') return settings.shards;
  let shards = sharesPorts ? Math.min(cores, MAX_SHARDS) : 1;
  while (shards > 1 && memoryProblem(settings, shards, openFiles) !== null) shards -= 1;
  return shards;
}
