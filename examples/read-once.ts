/**
 * A spool folder or a topic read from a time on to its end, without a group: who sent how many bytes of orders.
 *
 *     npx node examples/read-once.ts data/archive
 *     KAFKA_BROKERS=127.0.0.1:9092 KAFKA_TLS=false npx node examples/read-once.ts
 */
import { accessFrom, openArchive } from 'orderflow/archive';

const [, , dir] = process.argv;
const yesterday = (Date.now() - 86_400_000) * 1000;
const archive = await openArchive(dir === undefined ? { access: await accessFrom(process.env) } : { dir }, {
  sinceUs: yesterday,
});

const bytes = new Map<string, number>();
const findings: string[] = [];
const records = archive.records(({ kind, place, message }) => {
  if (kind === 'problem') findings.push(`${place}: ${message}`);
}, new AbortController().signal);
for await (const { method, signer, value } of records) {
  // Control records (openings of epochs, checkpoints) have no method.
  if (method !== null && signer !== null) bytes.set(signer, (bytes.get(signer) ?? 0) + value.length);
}
await archive.close();

for (const [signer, total] of bytes) console.log(`${signer} ${total}`);
console.log(`${archive.parts}, ${findings.length} problems`);
for (const finding of findings) console.error(finding);
