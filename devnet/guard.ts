/**
 * Makes sure that child processes never outlive this one, even when it is killed with -9: a tiny shell process
 * in a session of its own holds the list of their ids and reads a pipe; when the pipe ends, it stops what is
 * left on the list. (Linux alone knows a parent-death signal, and Node does not offer it.)
 */
import { spawn } from 'node:child_process';

/** Reads lines "+ PID" and "- PID"; at the end of input SIGTERM to all, five seconds later SIGKILL. */
const SCRIPT = `
pids=''
while read -r op pid; do
  if [ "$op" = + ]; then pids="$pids $pid"; continue; fi
  kept=''
  for p in $pids; do [ "$p" = "$pid" ] || kept="$kept $p"; done
  pids=$kept
done
alive() { for p in $pids; do kill -0 "$p" 2>/dev/null && return 0; done; return 1; }
for p in $pids; do kill -TERM "$p" 2>/dev/null; done
n=0
while alive && [ $n -lt 5 ]; do sleep 1; n=$((n + 1)); done
for p in $pids; do kill -KILL "$p" 2>/dev/null; done
exit 0
`;

export interface ChildGuard {
  add(pid: number): void;
  /** Call it once the child has ended: its id may belong to somebody else soon. */
  remove(pid: number): void;
  /** Ends the guard; children still on its list are stopped. */
  close(): Promise<void>;
}

/** Starts the guard; it keeps neither this process nor its event loop alive. */
export function startGuard(): ChildGuard {
  const shell = spawn('/bin/sh', ['-c', SCRIPT], { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
  const ended = new Promise<void>((resolve) => {
    shell.once('exit', () => resolve());
    shell.once('error', () => resolve());
  });
  // Where there is no shell the children are still stopped on every orderly exit.
  shell.stdin.on('error', () => {});
  shell.unref();
  return {
    add: (pid) => void shell.stdin.write(`+ ${pid}\n`),
    remove: (pid) => void shell.stdin.write(`- ${pid}\n`),
    async close() {
      shell.ref();
      shell.stdin.end();
      await ended;
    },
  };
}
