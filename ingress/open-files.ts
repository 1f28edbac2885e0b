/**
 * How many connections a server may hold so that the process never runs out of file descriptors: at that point
 * nobody could connect any more, the archive could open no file and the builder could not be reached again.
 */
import { readFileSync } from 'node:fs';

/** Of all descriptors, what the two APIs may have together; the rest is for builder, peers, archive and hub. */
const SHARE_OF_APIS = 0.75;

/** @returns the process's limit (Node raises it to the hard one at its start), Infinity where it is not known. */
export function openFilesLimit(): number {
  try {
    return parseLimit(readFileSync('/proc/self/limits', 'utf8'));
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}

/** @param text as in /proc/PID/limits. */
function parseLimit(text: string): number {
  const soft = /^Max open files\s+(\d+)/m.exec(text)?.[1];
  return soft === undefined ? Number.POSITIVE_INFINITY : Number(soft);
}

/** @returns `wanted`, or as many as one of the two APIs can have within the limit. */
export function connectionsWithin(limit: number, wanted: number): number {
  return Math.min(wanted, Math.floor((limit * SHARE_OF_APIS) / 2));
}
