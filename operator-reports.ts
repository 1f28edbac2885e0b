/**
 * What the operator API reports, as log lines and metrics. A line holds names, results and reasons; never a password,
 * a hash, or what a file or an event says. What a program wrote is in the debug log alone.
 */
import type { Logger } from 'pino';
import type { OperatorMetrics } from './metrics/operator-metrics.ts';
import type { OperatorReports } from './operator/server.ts';

const SELDOM_MS = 60_000;

export function operatorReports(log: Logger, metrics: OperatorMetrics): OperatorReports {
  const loginRefused = seldom((result, more) =>
    log.warn({ event: 'login', result, more }, 'a login was refused'),
  );
  const passwordRefused = seldom((result, more) =>
    log.warn({ event: 'password', result, more }, 'the password was not changed'),
  );
  return {
    answered: (status) => metrics.answered(status),
    login(result) {
      metrics.login(result);
      if (result === 'wrong' || result === 'throttled' || result === 'busy') loginRefused(result);
    },
    passwordChanged(result, error) {
      metrics.passwordChanged(result);
      if (result === 'changed') log.info({ event: 'password' }, 'the password was changed');
      else if (error === null) passwordRefused(result);
      else log.error({ event: 'password', reason: error.message }, 'the password could not be stored');
    },
    event: (source) => metrics.event(source),
    eventFileFailed(error) {
      metrics.eventFileFailed();
      log.error(
        { event: 'event file', reason: error.message },
        'events are not on the disk; they stay in memory and are tried again',
      );
    },
    pipeFailed(error) {
      metrics.pipeFailed();
      log.error({ event: 'pipe', reason: error.message }, 'the event FIFO failed; it is opened again');
    },
    action(name, failure, seconds, stdout) {
      metrics.action(name, failure === null, seconds);
      if (failure === null) log.info({ event: 'action', name, seconds }, 'an action was run');
      else log.warn({ event: 'action', name, seconds, reason: failure }, 'an action failed');
      log.debug({ event: 'action output', name, stdout }, 'what the action wrote');
    },
    upload(name, result, error) {
      metrics.upload(name, result);
      const fields = { event: 'upload', name, result, reason: error?.message };
      if (result === 'stored') log.info(fields, 'a file was replaced');
      else log.warn(fields, 'a file was not replaced');
    },
    certificateMade: (path) =>
      log.info({ event: 'made', what: 'certificate', path }, 'made a new certificate'),
    certificateChanged: (notAfter) =>
      log.info({ event: 'certificate', notAfter: notAfter.toISOString() }, 'another certificate is shown'),
    certificateFailed: (error) =>
      log.error(
        { event: 'certificate', reason: error.message },
        'certificate and key cannot be used; what was shown is still shown',
      ),
    connectionEvicted: () => metrics.connectionEvicted(),
    fault: (error) => log.error({ event: 'fault', reason: error.stack }, 'a defect of the operator API'),
  };
}

/**
 * Whoever calls the API can cause these lines, with no credentials: one a minute is written.
 *
 * @param write gets what came first, and how many were not written since the last line
 */
function seldom(write: (result: string, more: number) => void): (result: string) => void {
  let next = Number.NEGATIVE_INFINITY;
  let unwritten = 0;
  return (result) => {
    const now = performance.now();
    if (now < next) {
      unwritten += 1;
      return;
    }
    write(result, unwritten);
    next = now + SELDOM_MS;
    unwritten = 0;
  };
}
