/**
 * What the operator API reports, as log lines and metrics. A line holds names, results and reasons; never a password,
 * a hash, or what a file or an event says. What a program wrote is in the debug log alone.
 */
import type { Logger } from 'pino';
import type { OperatorMetrics } from './metrics/operator-metrics.ts';
import type { OperatorReports } from './operator/server.ts';

export function operatorReports(log: Logger, metrics: OperatorMetrics): OperatorReports {
  return {
    answered: (status) => metrics.answered(status),
    login(result) {
      metrics.login(result);
      if (result === 'throttled' || result === 'busy') {
        log.warn({ event: 'login', result }, 'a login was not looked at');
      }
    },
    passwordChanged(result, error) {
      metrics.passwordChanged(result);
      const fields = { event: 'password', result, reason: error?.message };
      if (result === 'changed') log.info(fields, 'the password has been changed');
      else log.warn(fields, 'the password has not been changed');
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
    connectionEvicted: () => metrics.connectionEvicted(),
    fault: (error) => log.error({ event: 'fault', reason: error.stack }, 'a defect of the operator API'),
  };
}
