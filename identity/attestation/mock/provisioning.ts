/**
 * The mock machine over HTTP: quotes as `--dev-dummy-dcap` asks for them, and the collateral that its "Intel"
 * publishes, in the form of a PCCS. For development, on the loopback interface.
 */
import { createServer } from 'node:http';
import type { RawCollateral } from '../collateral.ts';
import type { MockMachine } from './machine.ts';

export interface MockService {
  /** For --dev-dummy-dcap and --pccs-url. */
  readonly url: string;
  /** Paths asked for. */
  readonly asked: readonly string[];
  close(): Promise<void>;
}

/** @param port 0 takes a free one */
export async function startMockService(
  machine: MockMachine,
  port: number,
  collateral: () => Promise<RawCollateral> = () => machine.collateral(),
): Promise<MockService> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    const url = request.url ?? '';
    asked.push(url);
    answer(machine, url, collateral).then(
      (found) => {
        response.writeHead(found === undefined ? 404 : 200, found?.headers);
        response.end(found?.body);
      },
      () => response.writeHead(500).end(),
    );
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  const address = server.address();
  const actual = typeof address === 'object' && address !== null ? address.port : port;
  return {
    url: `http://127.0.0.1:${actual}`,
    asked,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

interface Found {
  readonly body: Buffer | string;
  readonly headers: Record<string, string>;
}

async function answer(
  machine: MockMachine,
  url: string,
  collateral: () => Promise<RawCollateral>,
): Promise<Found | undefined> {
  const hex = /^\/attest\/([0-9a-fA-F]{64}|[0-9a-fA-F]{128})$/u.exec(url)?.[1];
  if (hex !== undefined) {
    const reportData = Buffer.alloc(64);
    reportData.write(hex, 'hex');
    return { body: machine.quote(reportData), headers: {} };
  }
  const raw = await collateral();
  const chain = (name: string, pem: string) => ({ [name]: encodeURIComponent(pem) });
  switch (url.replace(/\?.*$/u, '')) {
    case '/tdx/certification/v4/tcb':
      return { body: raw.tcbInfo, headers: chain('TCB-Info-Issuer-Chain', raw.tcbInfoChain) };
    case '/tdx/certification/v4/qe/identity':
      return {
        body: raw.qeIdentity,
        headers: chain('SGX-Enclave-Identity-Issuer-Chain', raw.qeIdentityChain),
      };
    case '/sgx/certification/v4/pckcrl':
      return {
        body: raw.pckCrl.toString('hex'),
        headers: chain('SGX-PCK-CRL-Issuer-Chain', raw.pckCrlChain),
      };
    case '/sgx/certification/v4/rootcacrl':
      return { body: raw.rootCrl.toString('hex'), headers: {} };
    default:
      return undefined;
  }
}
