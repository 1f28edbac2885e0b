/** Writes the firewall and the edge's configuration from the service table. */
import { ANYWHERE } from '../guest/config.ts';
import type { AddressSet, Call, Service } from '../service.ts';

/** Until the configuration is there anybody may watch the boot, and nobody logs in. */
const AT_FIRST: Readonly<Record<AddressSet, readonly string[]>> = { operator: [ANYWHERE], ssh: [] };

/** The table of nftables: drop by default in both directions, each drop counted. */
export function firewall(services: readonly Service[]): string {
  const opened = services.flatMap(({ listens }) => listens).filter(({ open }) => open === 'all');
  const ports = (protocol: string): string =>
    opened
      .filter((port) => port.protocol === protocol && port.from === undefined)
      .map(({ port }) => port)
      .join(', ');
  const limited = opened.filter(({ from }) => from !== undefined);
  const input = [
    ...['tcp', 'udp']
      .filter((protocol) => ports(protocol) !== '')
      .map((protocol) => `    ${protocol} dport { ${ports(protocol)} } accept`),
    ...limited.map(({ from, protocol, port }) => `    ip saddr @${from} ${protocol} dport ${port} accept`),
  ];
  const sets = limited.flatMap(({ from }) => {
    if (from === undefined) return [];
    const elements = AT_FIRST[from].length === 0 ? '' : ` elements = { ${AT_FIRST[from].join(', ')} }`;
    return [`  set ${from} { type ipv4_addr; flags interval; auto-merge;${elements} }`];
  });
  const output = services.flatMap(({ user, calls }) =>
    calls.map(
      (call) => `    meta skuid ${user.uid} ${matchOf(call)} accept comment "${user.name}: ${call.what}"`,
    ),
  );
  return `# Made from the service table: what is not listed is dropped, both ways.
flush ruleset
table inet filter {
  counter input_dropped {}
  counter output_dropped {}
  counter forward_dropped {}
${sets.join('\n')}
  chain input {
    type filter hook input priority filter; policy drop;
    iifname "lo" accept
    ct state established,related accept
    ct state invalid counter name input_dropped drop
    icmp type { echo-request, destination-unreachable } limit rate 20/second accept
    udp sport 67 udp dport 68 accept
${input.join('\n')}
    counter name input_dropped drop
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    counter name forward_dropped drop
  }
  chain output {
    type filter hook output priority filter; policy drop;
    oifname "lo" accept
    ct state established,related accept
${[...new Set(output)].join('\n')}
    counter name output_dropped drop
  }
}
`;
}

function matchOf({ protocol, port, address }: Call): string {
  return `${address === undefined ? '' : `ip daddr ${address} `}${protocol} dport ${port}`;
}

/**
 * haproxy: TLS of users ends here with the certificate that the node registered; the system side passes through as
 * TCP, because the node must see the client's certificate. Limits come from the hub in a file of their own.
 */
export function haproxy(): string {
  return `global
    maxconn 8192
    fd-hard-limit 32768
    # No client address and no path leaves the machine.
    log stderr format raw local0 warning
    ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets
    ssl-default-bind-ciphers ECDHE+AESGCM:ECDHE+CHACHA20
    tune.h2.initial-window-size 1048576
    tune.h2.max-concurrent-streams 256

defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout http-request 10s
    timeout http-keep-alive 30s

frontend redirect
    bind 0.0.0.0:80
    http-request redirect scheme https code 301

frontend users
    bind 0.0.0.0:443 ssl crt "\${CREDENTIALS_DIRECTORY}/node.pem" alpn h2,http/1.1
    stick-table type ip size 100k expire 5m store conn_rate(10s),conn_cur,bytes_in_rate(60s),http_req_rate(10s)
    tcp-request connection track-sc0 src
    acl privileged src -f "\${CREDENTIALS_DIRECTORY}/privileged.lst"
    http-request set-var(txn.sender) "src,map_ip(\${CREDENTIALS_DIRECTORY}/senders.map,unknown)"
    http-request set-header X-Forwarded-For %[var(txn.sender)]
${limits()}
    http-request return status 200 content-type text/plain string "OK" if { path /livez }
    http-request return status 200 content-type text/html file /usr/share/orderflow/index.html if { method GET } { path / }
    default_backend node

frontend system
    mode tcp
    bind 0.0.0.0:5544
    timeout client 1h
    default_backend node_system

frontend metrics
    bind 127.0.0.1:8405
    http-request use-service prometheus-exporter if { path /metrics }
    http-request deny

backend node
    option httpchk GET /livez
    server node 127.0.0.1:5543 check inter 5s fall 3 rise 1

backend node_system
    mode tcp
    timeout server 1h
    server node 127.0.0.1:5542 check inter 5s fall 3 rise 1
`;
}

/** Over a limit of its class a source gets 429; what recovers within seconds says so. */
function limits(): string {
  const meters = [
    ['sc_conn_rate(0)', 'CONN_RATE', 10],
    ['sc_conn_cur(0)', 'TOTAL_CONN', 10],
    ['sc_bytes_in_rate(0)', 'BYTES_IN_RATE', 60],
    ['sc_http_req_rate(0)', 'HTTP_REQ_RATE', 10],
  ] as const;
  const classes = [
    ['!privileged', 'REGULAR'],
    ['privileged', 'PRIVILEGED'],
  ] as const;
  return meters
    .flatMap(([meter, name, retry]) =>
      classes.map(
        ([condition, suffix]) =>
          `    http-request return status 429 hdr Retry-After ${retry} if ${condition} { ${meter} gt "\${${name}_${suffix}}" }`,
      ),
    )
    .join('\n');
}
