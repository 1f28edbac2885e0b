/**
 * Stands in for rbuilder in development images: JSON-RPC on 8645, readiness on 6070. Each order is one line on the
 * console with its digest, so that a test outside can tell what came; no content.
 */
import { createServer } from 'node:http';
import { startBuilder } from '../../devnet/builder-stand-in.ts';

const builder = await startBuilder({
  listen: '127.0.0.1:8645',
  limit: 1000,
  onOrder: ({ sequence, method, bytes, sha256 }) =>
    console.log(`builder-standin: order ${sequence} ${method} ${bytes} bytes sha256 ${sha256}`),
});
const readiness = createServer((request, response) => {
  response.writeHead(request.url === '/readyz' ? 200 : 404).end();
});
readiness.listen(6070, '127.0.0.1');

process.on('SIGTERM', () => {
  readiness.close();
  readiness.closeAllConnections();
  void builder.close();
});
