/**
 * Orders as they arrive, each processed at least once: a crash repeats those since the last commit, none is lost.
 *
 *     KAFKA_BROKERS=127.0.0.1:9092 KAFKA_TLS=false npx node examples/at-least-once.ts
 */
import { accessFrom, consumeArchive } from 'orderflow/archive';

const consumer = await consumeArchive({
  ...(await accessFrom(process.env)),
  groupId: process.env.GROUP ?? 'example-at-least-once',
  onFinding(finding) {
    // An alarm belongs here. 'stop' instead would end the loop before the record with the problem.
    console.error(`${finding.kind}: ${finding.message}`);
    return 'continue';
  },
});
// Ctrl-C: the order in hand is finished and committed, then the loop ends.
process.once('SIGINT', () => void consumer.close());

for await (const { sequence, method, signer, value } of consumer.orders()) {
  // An order counts as processed when the loop asks for the next.
  console.log(`${sequence} ${method} of ${signer}, ${value.length} bytes`);
}
