/** What the API's routes share: the services behind them, what they report, and how one is added. */
import type { Context } from 'hono';
import type { BodyReader } from '../ingress/body-reader.ts';
import type { HttpRequest, HttpResponse } from '../ingress/connection.ts';
import type { Access, Admission, PasswordChange } from './access.ts';
import type { Actions } from './actions.ts';
import type { BootSteps } from './boot-steps.ts';
import type { EventLog } from './event-log.ts';
import type { Uploads } from './uploads.ts';

export interface AppModules {
  readonly access: Access;
  readonly actions: Actions;
  readonly bodies: BodyReader;
  readonly bootSteps: BootSteps;
  readonly log: EventLog;
  readonly uploads: Uploads;
  readonly reports: AppReports;
  /** Milliseconds, from any start. */
  readonly now: () => number;
}

/** What the app reports; names are configured ones, never a caller's. */
export interface AppReports {
  login(result: Admission['kind']): void;
  passwordChanged(result: PasswordChange['kind'], error: Error | null): void;
  upload(name: string, result: 'stored' | 'refused' | 'failed', error: Error | null): void;
  answered(status: number): void;
  /** A defect of ours. */
  fault(error: Error): void;
}

export type Env = {
  Bindings: { incoming: HttpRequest; outgoing: HttpResponse };
  /** Of the password when the caller was admitted. */
  Variables: { generation: number };
};
type Handler = (c: Context<Env>) => Response | Promise<Response>;
export type AddRoute = (method: 'GET' | 'POST', path: string, handler: Handler) => void;

/** Sets the password, and says so in the log: never what it is, nor its hash. */
export async function changePassword(
  password: Buffer,
  generation: number,
  { access, log, reports }: AppModules,
): Promise<PasswordChange> {
  const change = await access.setPassword(password, generation);
  reports.passwordChanged(change.kind, change.kind === 'failed' ? change.error : null);
  if (change.kind === 'changed') await log.add('[system-api] basic auth secret updated', 'server');
  return change;
}
