/** The node, its edge, and the certificate that anyone can fetch with a proof. */
import { BROKER_FILES, BROKER_PORT } from '../guest/brokers.ts';
import {
  ALL,
  APP,
  callTo,
  GUEST,
  LOCAL_HUB,
  loopback,
  MOUNTED,
  NODE,
  NODE_DATA,
  open,
  ROOT,
  type Service,
} from '../service.ts';
import type { Surroundings } from '../surroundings.ts';
import { proof, quoteAccess } from './hub.ts';

/** What the node's settings allow it adds up to 8.5 GiB (memory-bound.ts). */
const NODE_GIB = 10;

export function orderflowServices(around: Surroundings): Service[] {
  return [
    {
      unit: 'orderflow-proxy.service',
      does: 'the node: takes orders, hands them to the builder and to peers, archives them',
      from: 'this repository',
      profiles: ALL,
      user: { name: 'orderflow', uid: 204 },
      listens: [
        loopback(5543, 'user API'),
        loopback(5542, 'system API'),
        loopback(14727, '/cert'),
        loopback(8090, 'metrics'),
      ],
      calls: [
        { protocol: 'tcp', port: 5544, what: 'peers' },
        { protocol: 'tcp', port: BROKER_PORT, what: 'brokers' },
      ],
      run: {
        type: 'exec',
        start: `${NODE} --no-memory-reducer --min-semi-space-size=32 --max-semi-space-size=32 ${APP}/main.js`,
        ready: `${GUEST}/wait-for.js node http://127.0.0.1:5543/livez`,
        after: ['render-config.service', 'time-sync.target', MOUNTED],
        requires: ['render-config.service', MOUNTED],
        wantedBy: ['multi-user.target'],
        network: ['AF_INET'],
        environment: {
          USER_LISTEN_ADDR: '127.0.0.1:5543',
          USER_TLS: 'false',
          SYSTEM_LISTEN_ADDR: '127.0.0.1:5542',
          CERT_LISTEN_ADDR: '127.0.0.1:14727',
          METRICS_ADDR: '127.0.0.1:8090',
          BUILDER_ENDPOINT: 'http://127.0.0.1:8645',
          BUILDER_READY_ENDPOINT: 'http://127.0.0.1:6070',
          BUILDER_CONFIGHUB_ENDPOINT: LOCAL_HUB,
          DATA_DIR: NODE_DATA,
          NODE_ENV: 'production',
          // The other cores are the builder's and the execution client's; one takes several times the network's traffic.
          SHARDS: 1,
          // With settings that allow more the node does not start, and says which; its unit would be killed for them.
          MEMORY_CEILING_BYTES: NODE_GIB * 2 ** 30,
        },
        credentials: Object.values(BROKER_FILES).map((file) => `${file}:/run/node/orderflow-proxy/${file}`),
        state: 'persistent/orderflow-proxy',
        stopSec: 20,
        openFiles: 65_536,
        memory: `${NODE_GIB}G`,
        jit: true,
        lines: ['EnvironmentFile=/run/node/orderflow-proxy/env'],
      },
    },
    {
      unit: 'attested-tls-proxy-server.service',
      does: "anyone fetches the node's certificate, with a proof of the image that gave it out",
      from: 'this repository',
      profiles: ALL,
      user: { name: 'attested-server', uid: 208 },
      listens: [open(7936, '/cert, attested')],
      calls: callTo(around.quotes, 'quotes stand-in'),
      run: {
        type: 'exec',
        start: `${NODE} ${APP}/attested/main.js server --listen-addr 0.0.0.0:7936 --target-addr http://127.0.0.1:14727 ${proof('server', around)}`,
        after: ['orderflow-proxy.service'],
        requires: ['orderflow-proxy.service'],
        wantedBy: ['multi-user.target'],
        network: ['AF_INET'],
        ...quoteAccess(around),
        jit: true,
      },
    },
    {
      unit: 'haproxy.service',
      does: 'edge: 443 ends here with the certificate of the node, 5544 passes through',
      from: 'Debian',
      profiles: ALL,
      user: { name: 'haproxy', uid: 205 },
      listens: [
        open(80, 'redirect to https'),
        open(443, 'user API'),
        open(5544, 'system API, TLS passed through'),
        loopback(8405, 'metrics'),
      ],
      calls: [],
      run: {
        type: 'notify',
        start: '/usr/sbin/haproxy -Ws -f /etc/haproxy/haproxy.cfg',
        after: ['render-config.service', 'orderflow-proxy.service'],
        requires: ['render-config.service', 'orderflow-proxy.service'],
        wantedBy: ['multi-user.target'],
        capabilities: ['CAP_NET_BIND_SERVICE'],
        network: ['AF_INET'],
        credentials: [
          `node.pem:${NODE_DATA}/tls.pem`,
          'privileged.lst:/run/node/haproxy/privileged.lst',
          'senders.map:/run/node/haproxy/senders.map',
        ],
        openFiles: 32_768,
        lines: ['EnvironmentFile=/run/node/haproxy/env'],
      },
    },
    {
      unit: 'haproxy-certificate.service',
      does: 'haproxy takes the new certificate when the node has renewed it',
      from: 'this repository',
      profiles: ALL,
      user: ROOT,
      listens: [],
      calls: [],
      run: {
        type: 'oneshot',
        start: '/usr/bin/systemctl try-restart haproxy.service',
        // Asks systemd over its private socket, which only root may use.
        triggered: true,
      },
      triggers: {
        'haproxy-certificate.path': `[Unit]
Description=the certificate of the node has changed
DefaultDependencies=no
Conflicts=shutdown.target
After=haproxy.service

[Path]
PathChanged=${NODE_DATA}/tls.pem
`,
      },
    },
  ];
}
