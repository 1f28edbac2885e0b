/** Says what a long step is doing: one line each, with the seconds since the start. */
export type Progress = (line: string) => void;

/** @returns a progress that writes to standard error, so that a command's result stays alone on standard output */
export function progressToStderr(): Progress {
  const start = performance.now();
  return (line) => {
    const seconds = ((performance.now() - start) / 1000).toFixed(1).padStart(6);
    process.stderr.write(`${seconds} s  ${line}\n`);
  };
}
