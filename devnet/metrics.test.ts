import { expect, test } from 'vitest';
import { figuresOf, parseMetrics, sumOf } from './metrics.ts';

const SEND_TIME = 'orderflow_proxy_share_queue_peer_rpc_duration_milliseconds';
const PAGE = `# HELP orderflow_orders_total orders
# TYPE orderflow_orders_total counter
orderflow_orders_total{side="user",method="eth_sendBundle"} 10
orderflow_orders_total{side="user",method="eth_cancelBundle"} 2
orderflow_orders_total{side="system",method="eth_sendBundle"} 20
orderflow_duplicates_total{side="user"} 1
orderflow_duplicates_total{side="system"} 3
orderflow_delivery_sent_total{target="local-builder"} 32
orderflow_delivery_sent_total{target="node-2"} 12
orderflow_delivery_connections{target="local-builder"} 4
orderflow_delivery_connections{target="node-10"} 0
orderflow_delivery_connections{target="node-2"} 2
orderflow_archive_durable_sequence 12
orderflow_archive_accepting 1
${SEND_TIME}{quantile="0.5",peer="node-2",is_big="false"} 1.25
${SEND_TIME}{quantile="0.99",peer="node-2",is_big="false"} 7
${SEND_TIME}_count{peer="node-2",is_big="false"} 12
${SEND_TIME}{quantile="0.5",peer="node-10",is_big="false"} 0
${SEND_TIME}_count{peer="node-10",is_big="false"} 0
`;

test('picks the figures of the view out of a metrics page', () => {
  expect(figuresOf(parseMetrics(PAGE))).toEqual({
    fromUsers: 12,
    fromPeers: 20,
    duplicates: 4,
    toBuilder: 32,
    archived: 12,
    archiveAccepting: true,
    peers: [
      { name: 'node-2', connections: 2, p50Ms: 1.25, p99Ms: 7 },
      { name: 'node-10', connections: 0, p50Ms: null, p99Ms: null },
    ],
  });
});

test('reads labels with escapes, special values and timestamps', () => {
  const samples = parseMetrics(
    'a{x="q\\"\\\\\\nz",y="1,2"} +Inf 1700000000\nb NaN\nnot a sample at all\nc -1.5e3',
  );
  expect(samples).toEqual([
    { name: 'a', labels: { x: 'q"\\\nz', y: '1,2' }, value: Number.POSITIVE_INFINITY },
    { name: 'b', labels: {}, value: Number.NaN },
    { name: 'c', labels: {}, value: -1500 },
  ]);
  expect(sumOf(samples, 'missing')).toBe(0);
});
