/**
 * The stream every order takes: verify → parse → identify → decode → admit → builder, and after a slice
 * of requests: peers, archive, answers. Each stage is a plain method that returns its submission, or
 * null once it has answered.
 *
 * Order of work is the product here. The builder gets an order in the same call stack in which it was
 * decoded, or, when more are waiting, together with the up to three behind it: their system calls and the
 * builder's wake-up are then one. Signing for the peers, the disk and the answers come after the slice (invariant
 * "builder first"), the peers at most every two milliseconds (departures.ts). A user's success answer is sent when the
 * archive has the order on disk, never before (invariant "acknowledged means archived"), nor before it has left for the peers.
 */
import { filter, Subject, share, tap } from 'rxjs';
import { decodeOrder } from './decode.ts';
import type { OrderWindow, SeenOrder } from './dedupe.ts';
import { Departures, type DeparturesOptions } from './departures.ts';
import { Rejection } from './errors.ts';
import { Intake } from './intake.ts';
import { parseRequest, RefusedRequest } from './json-rpc.ts';
import { afterSlice, stage } from './operators.ts';
import type { Address, AdmittedOrder, Method, Side } from './order.ts';
import type { Limiter } from './rate-limit.ts';
import type { NonceSource } from './replacement-nonces.ts';
import { isArchived, isShared, ROUTES, USER_CALLER } from './routes.ts';
import { type Arrival, accept, refuse, type ShownCertificate, Submission } from './submission.ts';

/** Where an order goes next. Must take it at once, without throwing and without waiting. */
export interface Outlet {
  send(admitted: AdmittedOrder): void;
  /** What is sent from now on may wait for `uncork`, to leave together. */
  cork(): void;
  uncork(): void;
}

/** The archive: `done` runs once the order is durable, or with the reason why it is not. */
export interface ArchiveOutlet {
  readonly accepting: boolean;
  /** Why not, for the caller, when it is not accepting. */
  readonly refusal: string;
  append(admitted: AdmittedOrder, done: (error: Error | null) => void): void;
}

/** Who is calling on the system API. */
export interface Callers {
  /** @returns the hub name of the caller, or why it may not call. Never throws. */
  identify(signer: Address, certificate: ShownCertificate | undefined): string | Rejection;
  /** Fetches the hub's list anew (rate-limited and coalesced by the registry). */
  refresh(): Promise<void>;
}

export type PipelineStep = 'validation' | 'serialize' | 'rate_limiting' | 'builder' | 'share' | 'archive';

/** What is reported for metrics. Durations in microseconds. */
export interface PipelineEvents {
  /** A listed peer or Flashbots has called the system API, whatever becomes of the request. */
  called(caller: string): void;
  /** An order has been decoded. */
  incoming(side: Side, method: Method): void;
  duplicate(side: Side, caller: string): void;
  step(side: Side, method: Method, step: PipelineStep, us: number): void;
  rejected(side: Side, method: Method | 'unknown', kind: Rejection['kind']): void;
  /** An answer was sent: `us` since the body was read, `bytes` of the body. */
  answered(side: Side, method: Method | 'unknown', us: number, bytes: number): void;
  /** A defect of ours, in which step if an outlet threw; the request got an internal error. */
  fault(error: unknown, step: PipelineStep | null): void;
}

export interface PipelineOptions {
  readonly validation: Readonly<Record<Side, 'strict' | 'off'>>;
  readonly chainId: bigint;
  readonly flashbotsSigner: Address;
  /** Bytes of request bodies that may wait for their turn, and as many for a refresh of the hub's list. */
  readonly intakeBytes: number;
  /** Requests that may wait for a refresh of the hub's list at once. */
  readonly maxWaitingForRefresh: number;
  /** When orders leave for the peers, where it is not as usual. */
  readonly departures?: Partial<DeparturesOptions>;
}

export interface PipelineModules {
  readonly verifySignature: (header: string | undefined, body: Uint8Array) => Address | Rejection;
  readonly callers: Callers;
  readonly nonces: NonceSource;
  readonly window: OrderWindow;
  /** Of user requests. */
  readonly limiter: Limiter;
  readonly builder: Outlet | null;
  readonly peers: Outlet | null;
  readonly archive: ArchiveOutlet | null;
  /** Unix microseconds, for durations: never before an arrival's. */
  readonly clock: () => number;
  readonly events: PipelineEvents;
}

/** Requests worked off between two turns of the event loop (measured: see intake.ts). */
const SLICE_LENGTH = 8;
/** Orders that leave for the builder together when several wait for their turn. */
const BUILDER_BATCH = 4;
/** Least time between two sendings to the peers while there are many orders: at 2,000/s four leave together. */
const PEERS_EVERY_MS = 2;
/** Below 1,000 orders/s, which is more than the network has on most days, each leaves at once. */
const BUSY_GAP_MS = 1;
/** As many orders, and bytes of them, do not wait for it. */
const PEERS_BATCH = 16;
const PEERS_BATCH_BYTES = 256 * 1024;
const NO_SIGNER: Address = '0x0000000000000000000000000000000000000000';

export class Pipeline {
  readonly #options: PipelineOptions;
  readonly #modules: PipelineModules;
  readonly #intake: Intake<Submission>;
  readonly #submissions$ = new Subject<Submission>();
  readonly #sliceEnd$ = new Subject<void>();
  readonly #departure$ = new Subject<void>();
  readonly #departures: Departures;
  #leftInSlice = 0;
  #waitingForRefresh = 0;
  /** Bytes of their bodies. */
  #refreshBytes = 0;
  #unanswered = 0;
  #draining = false;
  #drained: (() => void) | null = null;

  constructor(options: PipelineOptions, modules: PipelineModules) {
    this.#options = options;
    this.#modules = modules;
    this.#departures = new Departures(
      {
        intervalMs: PEERS_EVERY_MS,
        busyGapMs: BUSY_GAP_MS,
        maxOrders: PEERS_BATCH,
        maxBytes: PEERS_BATCH_BYTES,
        ...options.departures,
      },
      () => this.#sendToPeers(),
    );
    this.#intake = new Intake(
      { maxBytes: options.intakeBytes, sliceLength: SLICE_LENGTH },
      {
        sliceStart: (length) => this.#startSlice(length),
        process: (submission) => this.#process(submission),
        sliceEnd: () => this.#endSlice(),
        bytesOf: (submission) => submission.arrival.body.length,
      },
    );
    this.#connect();
  }

  /** Bytes and requests waiting, requests not yet answered, keys in the dedupe window. */
  state(): { waitingBytes: number; waiting: number; unanswered: number; dedupeKeys: number } {
    return {
      waitingBytes: this.#intake.bytes + this.#refreshBytes,
      waiting: this.#intake.length + this.#waitingForRefresh,
      unanswered: this.#unanswered,
      dedupeKeys: this.#modules.window.size,
    };
  }

  /** Takes a request. Its answer comes through `arrival.respond`, always, once. */
  submit(arrival: Arrival): void {
    const submission = new Submission(arrival);
    this.#unanswered += 1;
    if (this.#draining) {
      this.#refuse(submission, new Rejection('shutting_down', 'the node is shutting down'));
    } else if (!this.#intake.offer(submission)) {
      this.#refuse(submission, new Rejection('overloaded', 'too many requests are waiting, try again'));
    }
  }

  /** Refuses what comes from now on. @returns when everything taken before has been answered. */
  drain(): Promise<void> {
    this.#draining = true;
    this.#departures.now();
    if (this.#unanswered === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#drained = resolve;
    });
  }

  #startSlice(length: number): void {
    this.#leftInSlice = length;
    if (length > 1) this.#modules.builder?.cork();
  }

  #process(submission: Submission): void {
    this.#submissions$.next(submission);
    this.#leftInSlice -= 1;
    const { builder } = this.#modules;
    if (builder === null || this.#leftInSlice % BUILDER_BATCH !== 0) return;
    this.#uncork(builder, 'builder');
    if (this.#leftInSlice > 1) builder.cork();
  }

  #endSlice(): void {
    this.#departures.sliceEnd();
    this.#sliceEnd$.next();
  }

  #sendToPeers(): void {
    const { peers } = this.#modules;
    if (peers === null) return;
    peers.cork();
    this.#departure$.next();
    this.#uncork(peers, 'share');
  }

  /** As in a stage of the stream, a defect of one outlet stops nobody else. */
  #uncork(outlet: Outlet, step: PipelineStep): void {
    try {
      outlet.uncork();
    } catch (error) {
      this.#modules.events.fault(error, step);
    }
  }

  #connect(): void {
    const { builder, peers, archive } = this.#modules;
    const faultIn = (step: PipelineStep | null) => (submission: Submission, error: unknown) => {
      this.#modules.events.fault(error, step);
      this.#refuse(submission, new Rejection('internal', 'internal error'));
    };
    const fault = faultIn(null);
    const admitted$ = this.#submissions$.pipe(
      stage(this.#verify, fault),
      stage(this.#parse, fault),
      stage(this.#identify, fault),
      stage(this.#decode, fault),
      stage(this.#admit, fault),
      share(),
    );
    const later$ = admitted$.pipe(afterSlice(this.#sliceEnd$), share());

    // Subscription order is delivery order: the builder is first.
    if (builder !== null) {
      const send = this.#handingTo('builder', (submission) => builder.send(submission));
      admitted$.pipe(filter(goesToBuilder), stage(send, faultIn('builder'))).subscribe();
    }
    if (peers !== null) {
      const send = this.#handingTo('share', (submission) => {
        submission.heldForPeers = false;
        peers.send(submission);
      });
      admitted$
        .pipe(
          filter(goesToPeers),
          tap(this.#holdForPeers),
          afterSlice(this.#departure$),
          stage(send, faultIn('share')),
        )
        .subscribe();
    }
    if (archive !== null) {
      const append = this.#handingTo('archive', (submission) =>
        archive.append(submission, (error) => this.#archived(submission, error)),
      );
      later$.pipe(filter(goesToArchive), stage(append, this.#archiveFault)).subscribe();
    }
    later$.pipe(filter(answersAtOnce), stage(this.#answer, fault)).subscribe();
  }

  /** Who signed? Protocol section 3; a stream has proven it, an unsigned order is taken from Flashbots' own infrastructure only. */
  readonly #verify = (submission: Submission): Submission | null => {
    const { arrival } = submission;
    if (arrival.streamed !== null) {
      submission.signer = arrival.streamed.peer;
      return submission;
    }
    if (arrival.signature === undefined && ROUTES[arrival.side].signature === 'optional') {
      submission.signer = NO_SIGNER;
      return submission;
    }
    const signer = this.#modules.verifySignature(arrival.signature, arrival.body);
    if (signer instanceof Rejection) return this.#refuse(submission, signer);
    submission.signer = signer;
    return submission;
  };

  /** Which method, with which params? Protocol section 2. */
  readonly #parse = (submission: Submission): Submission | null => {
    const { body, streamed } = submission.arrival;
    const parsed = streamed === null ? parseRequest(body) : streamed.record.request();
    submission.idText = parsed.idText;
    if (parsed instanceof RefusedRequest) return this.#refuse(submission, parsed.rejection);
    submission.method = parsed.method;
    submission.request = parsed;
    return submission;
  };

  /** May the signer call here? Protocol section 5. */
  readonly #identify = (submission: Submission): Submission | null => {
    const { arrival, signer } = submission;
    if (ROUTES[arrival.side].signer === 'anyone') {
      submission.caller = USER_CALLER;
      return submission;
    }
    const caller = this.#modules.callers.identify(signer, arrival.certificate);
    if (typeof caller === 'string') {
      submission.caller = caller;
      this.#modules.events.called(caller);
      return submission;
    }
    const { length } = arrival.body;
    if (submission.refreshed || !this.#mayWaitForRefresh(length)) return this.#refuse(submission, caller);
    submission.refreshed = true;
    // A hub may take seconds; meanwhile the body is held, but not its text.
    submission.request = null;
    this.#waitingForRefresh += 1;
    this.#refreshBytes += length;
    const again = () => {
      this.#waitingForRefresh -= 1;
      this.#refreshBytes -= length;
      if (!this.#intake.offer(submission)) this.#refuse(submission, caller);
    };
    this.#modules.callers.refresh().then(again, again);
    return null;
  };

  /** @param bytes of the request's body; a lone one may always wait */
  #mayWaitForRefresh(bytes: number): boolean {
    const { maxWaitingForRefresh, intakeBytes } = this.#options;
    if (this.#waitingForRefresh === 0) return maxWaitingForRefresh > 0;
    return this.#waitingForRefresh < maxWaitingForRefresh && this.#refreshBytes + bytes <= intakeBytes;
  }

  /** The order itself: validated, completed, canonical. Protocol section 4. */
  readonly #decode = (submission: Submission): Submission | null => {
    const { arrival, signer, request } = submission;
    if (request === null) throw new Error('decode before parse');
    const start = this.#modules.clock();
    const order = decodeOrder(request, {
      side: arrival.side,
      signer,
      isFlashbots: signer === this.#options.flashbotsSigner,
      receivedAtUs: arrival.receivedAtUs,
      validation: this.#options.validation[arrival.side],
      chainId: this.#options.chainId,
      nonces: this.#modules.nonces,
      hashes: arrival.streamed === null,
    });
    submission.request = null;
    if (order instanceof Rejection) return this.#refuse(submission, order);
    submission.order = order;
    const { events } = this.#modules;
    events.incoming(arrival.side, order.method);
    const now = this.#modules.clock();
    events.step(arrival.side, order.method, 'validation', start - arrival.receivedAtUs);
    events.step(arrival.side, order.method, 'serialize', now - start);
    return submission;
  };

  /**
   * Taken before? Within the limits? A duplicate gets the first one's answer, which for a user means: when
   * the archive has it. A user's order that a peer sent before is archived here too, because only this
   * node answers for it.
   */
  readonly #admit = (submission: Submission): Submission | null => {
    const start = this.#modules.clock();
    const { order, side, receivedAtUs } = submission;
    const { archive, window } = this.#modules;
    const archived = archive !== null && isArchived(ROUTES[side], order.method);
    let counted = false;
    for (;;) {
      const seen = order.key === null ? null : window.find(order.key, receivedAtUs);
      if (seen !== null) {
        if (!counted) this.#modules.events.duplicate(side, submission.caller);
        counted = true;
        const settled = !archived || seen.archive === 'durable';
        if (settled || seen.archive === 'pending') {
          const forwarded = seen.forwarded || !window.forward(seen);
          submission.waits = !settled;
          if (!settled) window.wait(seen, (error) => this.#told(submission, seen.receivedAtUs, error));
          else if (forwarded) this.#accept(submission, seen.receivedAtUs);
          submission.seen = seen;
          return forwarded ? null : submission;
        }
      }
      if (archived && !archive.accepting) {
        return this.#refuse(submission, new Rejection('archive_unavailable', archive.refusal));
      }
      if (ROUTES[side].rateLimited && !this.#modules.limiter.take(receivedAtUs)) {
        return this.#refuse(
          submission,
          new Rejection('rate_limited', 'requests to user API are rate limited'),
        );
      }
      if (!this.#claim(submission, seen, archived)) continue;
      this.#modules.events.step(side, order.method, 'rate_limiting', this.#modules.clock() - start);
      return submission;
    }
  };

  /** Makes the order this submission's to deal with. @returns false when another copy was quicker. */
  #claim(submission: Submission, seen: SeenOrder | null, archived: boolean): boolean {
    const { window } = this.#modules;
    const { key } = submission.order;
    submission.seen = seen;
    if (seen !== null) {
      if (!window.append(seen)) return false;
      submission.forwarded = seen.forwarded || !window.forward(seen);
      return true;
    }
    if (key === null) return true;
    submission.seen = window.add(key, submission.receivedAtUs, archived ? 'pending' : 'none');
    return submission.seen !== null;
  }

  /** @returns the last stage of a branch: hands the order on and measures that. */
  #handingTo(step: PipelineStep, hand: (submission: Submission) => void) {
    const { clock, events } = this.#modules;
    return (submission: Submission): null => {
      const start = clock();
      hand(submission);
      events.step(submission.side, submission.order.method, step, clock() - start);
      return null;
    };
  }

  readonly #holdForPeers = (submission: Submission): void => {
    submission.heldForPeers = true;
    this.#departures.add(submission.order.canonical.length);
  };

  readonly #answer = (submission: Submission): null => {
    this.#accept(submission, submission.seen?.receivedAtUs ?? submission.receivedAtUs);
    return null;
  };

  /** The archive's word on an order: answers its sender and every duplicate that waited for it. */
  #archived(submission: Submission, error: Error | null): void {
    const { seen } = submission;
    this.#told(submission, seen?.receivedAtUs ?? submission.receivedAtUs, error);
    if (seen !== null) this.#modules.window.settle(seen, error);
  }

  /** Answers one of them. */
  #told(submission: Submission, receivedAtUs: number, error: Error | null): void {
    if (error === null) this.#accept(submission, receivedAtUs);
    else
      this.#refuse(
        submission,
        new Rejection('archive_unavailable', `the order was not archived: ${error.message}`),
      );
  }

  readonly #archiveFault = (submission: Submission, error: unknown): void => {
    this.#modules.events.fault(error, 'archive');
    this.#archived(submission, new Error('internal error'));
  };

  #accept(submission: Submission, receivedAtUs: number): void {
    if (submission.heldForPeers) this.#departures.now();
    if (submission.answered) return;
    accept(submission, receivedAtUs);
    this.#answered(submission);
  }

  #refuse(submission: Submission, rejection: Rejection): null {
    if (submission.answered) return null;
    this.#modules.events.rejected(submission.side, submission.method, rejection.kind);
    refuse(submission, rejection);
    this.#answered(submission);
    return null;
  }

  #answered(submission: Submission): void {
    submission.answered = true;
    this.#unanswered -= 1;
    const { arrival } = submission;
    const us = this.#modules.clock() - arrival.receivedAtUs;
    this.#modules.events.answered(arrival.side, submission.method, us, arrival.body.length);
    if (this.#unanswered === 0 && this.#drained !== null) {
      this.#departures.now();
      this.#drained();
    }
  }
}

function goesToBuilder(submission: Submission): boolean {
  return ROUTES[submission.side].builder && !submission.forwarded;
}

function goesToPeers(submission: Submission): boolean {
  return isShared(ROUTES[submission.side], submission.side, submission.order.method) && !submission.forwarded;
}

/** A durable one is of an earlier run, see remember.ts. */
function goesToArchive({ side, order, seen, waits }: Submission): boolean {
  return isArchived(ROUTES[side], order.method) && !waits && seen?.archive !== 'durable';
}

function answersAtOnce(submission: Submission): boolean {
  return !submission.waits && !goesToArchive(submission);
}
