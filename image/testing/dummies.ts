/** Dummies in the place of the programs that no registry offers, for images that are made and run by tests alone. */
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { type Artifact, artifacts } from '../artifacts.ts';
import { digestOf, type Store } from '../build/store.ts';
import { DEVELOPMENT } from '../surroundings.ts';

const SOURCES = join(import.meta.dirname, '../..');

/** Listens on the ports of its row and says its name to whoever connects; the builder says what orders it has, too. */
function dummy(name: string): string {
  const ports: Readonly<Record<string, readonly string[]>> = {
    reth: ['30303, "0.0.0.0"', '8545, "127.0.0.1"'],
    lighthouse: ['9000, "0.0.0.0"', '3500, "127.0.0.1"'],
    'rbuilder-operator': ['6000, "0.0.0.0"'],
    'bidding-service': ['6148, "127.0.0.1"'],
  };
  const listens = (ports[name] ?? []).map(
    (port) => `net.createServer((s) => { s.on("error", () => {}); s.end(said()); }).listen(${port});`,
  );
  const builder = `
const http = require("node:http");
const crypto = require("node:crypto");
http.createServer((q, a) => a.writeHead(q.url === "/readyz" ? 200 : 404).end()).listen(6070, "127.0.0.1");
http.createServer((q, a) => {
  const chunks = [];
  q.on("data", (c) => chunks.push(c));
  q.on("end", () => {
    const body = Buffer.concat(chunks);
    orders.push(crypto.createHash("sha256").update(body).digest("hex"));
    a.setHeader("content-type", "application/json");
    a.end(JSON.stringify({ jsonrpc: "2.0", id: JSON.parse(body).id, result: null }));
  });
}).listen(8645, "127.0.0.1");`;
  return `#!/usr/bin/node --jitless
const net = require("node:net");
const orders = [];
const said = () => JSON.stringify({ dummy: ${JSON.stringify(name)}, orders });
${listens.join('\n')}
${name === 'rbuilder-operator' ? builder : ''}
setInterval(() => {}, 1e6);
process.on("SIGTERM", () => process.exit(0));
`;
}

export interface Dummies {
  /** The manifest of the project, with their digests. */
  readonly manifest: readonly Artifact[];
  /** Text by the path that the manifest gives it. */
  readonly texts: ReadonlyMap<string, string>;
}

/** Writes the dummies to a folder, and those that are built in to the store as well. */
export async function makeDummies(folder: string, store: Store): Promise<Dummies> {
  const manifest: Artifact[] = [];
  const texts = new Map<string, string>();
  for (const artifact of artifacts(SOURCES)) {
    const file = join(folder, artifact.name);
    writeFileSync(file, dummy(artifact.name));
    texts.set(artifact.target, dummy(artifact.name));
    const digest = await digestOf(file);
    if (artifact.when === 'build') await store.take(artifact.name, file, digest);
    manifest.push({ ...artifact, ...digest });
  }
  return { manifest, texts };
}

/** The place where private programs are released. @param answer to a request for a program with these credentials */
export function startReleases(answer: (name: string, credentials: string | undefined) => string): {
  close(): void;
} {
  const server = createServer((request, response) => {
    response.end(answer((request.url ?? '').slice(1), request.headers.authorization));
  }).listen(Number(new URL(DEVELOPMENT.releases ?? '').port), '127.0.0.1');
  return {
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}
