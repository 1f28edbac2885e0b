/** What a machine tells about itself: metrics for itself, and in testnet metrics and journal for the network. */
import { loopback, type Service } from '../service.ts';

const EXPORT = { protocol: 'tcp', port: 443, what: 'stores of the network' } as const;
const METRICS = { name: 'prometheus-agent', uid: 217 };

export function exportServices(): Service[] {
  return [
    {
      unit: 'prometheus-node-exporter.service',
      does: 'metrics of the machine',
      from: 'Debian',
      profiles: ['testnet', 'devnet', 'debug'],
      user: { name: 'prometheus', uid: 207 },
      listens: [loopback(9100, 'metrics')],
      calls: [],
      run: {
        type: 'exec',
        start:
          '/usr/bin/prometheus-node-exporter --web.listen-address=127.0.0.1:9100 --log.level=warn --collector.disable-defaults --collector.cpu --collector.meminfo --collector.loadavg --collector.filesystem --collector.netdev --collector.diskstats --collector.stat --collector.time',
        wantedBy: ['multi-user.target'],
        network: ['AF_INET', 'AF_NETLINK'],
        loopbackOnly: true,
        // It reads /proc/stat, /proc/meminfo and the like.
        lines: ['ProcSubset=all'],
      },
    },
    {
      unit: 'prometheus-agent.service',
      does: 'sends the metrics of all services to the network; keeps what is not taken on the encrypted disk',
      from: 'Debian',
      profiles: ['testnet'],
      user: METRICS,
      listens: [loopback(9090, 'its own metrics')],
      calls: [EXPORT],
      run: {
        type: 'exec',
        start: `/usr/bin/prometheus --enable-feature=agent --config.file=%d/prometheus.yml --storage.agent.path=/var/lib/persistent/prometheus-agent --web.listen-address=127.0.0.1:9090 --log.level=warn`,
        after: ['render-config.service', 'time-sync.target', 'var-lib-persistent.mount'],
        requires: ['render-config.service', 'var-lib-persistent.mount'],
        wantedBy: ['multi-user.target'],
        network: ['AF_INET', 'AF_NETLINK'],
        credentials: ['prometheus.yml:/run/node/prometheus-agent/prometheus.yml'],
        state: 'persistent/prometheus-agent',
        memory: '1G',
      },
    },
    {
      unit: 'systemd-journal-upload.service',
      does: 'sends the journal to the network',
      from: 'Debian',
      profiles: ['testnet'],
      user: { name: 'systemd-journal-upload', uid: 218 },
      listens: [],
      calls: [EXPORT],
      run: {
        type: 'notify',
        start: `/usr/lib/systemd/systemd-journal-upload --save-state=/var/lib/journal-upload/state --url=\${JOURNAL_URL} --trust=/etc/ssl/certs/ca-certificates.crt`,
        after: ['render-config.service', 'time-sync.target'],
        requires: ['render-config.service'],
        wantedBy: ['multi-user.target'],
        network: ['AF_INET'],
        state: 'journal-upload',
        lines: [
          'SupplementaryGroups=systemd-journal',
          'EnvironmentFile=/run/node/systemd-journal-upload/env',
        ],
      },
    },
  ];
}
