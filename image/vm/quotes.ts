/**
 * The quoting hardware of a development machine, outside it: signs for whoever asks, with the registers of the machine
 * that is attached. MRTD is that of the firmware file. The root of the signatures is a mock.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { MockMachine } from '../../identity/attestation/mock/machine.ts';
import { type MockService, startMockService } from '../../identity/attestation/mock/provisioning.ts';
import { type RuntimeRegisters, readEventLog, runtimeRegisters } from '../measure/event-log.ts';
import { mrtd } from '../measure/mrtd.ts';
import type { Machine } from './machine.ts';

export interface Quotes {
  /** Trusted by whoever is to take the quotes. */
  readonly rootFingerprint: string;
  readonly rootPem: string;
  /** Serves the collateral. */
  readonly collateral: MockService;
  /** From now on quotes are about the machine with these registers; none is made before they are known. */
  attach(registers: Promise<RuntimeRegisters>): void;
  close(): Promise<void>;
}

const ZERO = '0'.repeat(96);

/**
 * @param port on loopback
 * @param firmware file of the firmware
 * @throws Error when the port is taken
 */
export async function startQuotes(port: number, firmware: string): Promise<Quotes> {
  const machine = await MockMachine.create({ now: Date.now() });
  const mrTd = mrtd(readFileSync(firmware), 'page');
  let attached: Promise<void> = new Promise(() => undefined);
  const server = createServer((request, response) => {
    const hex = /^\/attest\/([0-9a-f]{64}|[0-9a-f]{128})$/u.exec(request.url ?? '')?.[1];
    if (hex === undefined) {
      response.writeHead(404).end();
      return;
    }
    const reportData = Buffer.alloc(64);
    reportData.write(hex, 'hex');
    // Nothing is said of a machine before it has told what it measured.
    void attached.then(() => response.end(machine.quote(reportData)));
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  const collateral = await startMockService(machine, 0);
  return {
    rootFingerprint: machine.rootFingerprint,
    rootPem: machine.rootPem,
    collateral,
    attach(registers) {
      const { promise, resolve } = Promise.withResolvers<void>();
      attached = promise;
      registers.then(
        ({ rtmr1, rtmr2 }) => {
          machine.measurements = [mrTd, ZERO, rtmr1, rtmr2, ZERO];
          resolve();
        },
        // It ended before: nobody is left to ask for its quotes.
        () => undefined,
      );
    },
    async close() {
      server.close();
      server.closeAllConnections();
      await collateral.close();
    },
  };
}

/** What a development machine has measured: folded from the event log that its kernel holds, as TDX's firmware would. */
export async function registersOfMachine(machine: Machine): Promise<RuntimeRegisters> {
  return runtimeRegisters(readEventLog(Buffer.from(await machine.report<string>('events'), 'base64')));
}
