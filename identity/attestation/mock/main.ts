/**
 * `npm run mock-tdx`: a machine that pretends to be a TD, for development networks. Prints its URL, which serves both
 * --dev-dummy-dcap and --pccs-url, and writes its root for --dev-mock-root and a policy of its image.
 */
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { MockMachine, patternMeasurements } from './machine.ts';
import { startMockService } from './provisioning.ts';

const HELP = `Usage: npm run mock-tdx -- [options]

  --port N          where it listens on 127.0.0.1 (default 0: a free one)
  --image LETTER    registers are LETTER0 to LETTER4 repeated, LETTER one of a to f (default a)
  --root FILE       writes its root certificate, for --dev-mock-root
  --policy FILE     writes a measurement policy that lists its image
  --help            this text

What it makes proves nothing: no production proxy takes its root.
`;

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    image: { type: 'string', default: 'a' },
    root: { type: 'string' },
    policy: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

if (values.help) {
  process.stdout.write(HELP);
} else if (!/^[a-f]$/u.test(values.image) || !/^\d{1,5}$/u.test(values.port)) {
  process.stderr.write(HELP);
  process.exitCode = 2;
} else {
  const measurements = patternMeasurements(values.image);
  const machine = await MockMachine.create({ now: Date.now(), measurements });
  if (values.root !== undefined) await writeFile(values.root, machine.rootPem);
  if (values.policy !== undefined) {
    const registers = Object.fromEntries(measurements.map((expected, register) => [register, { expected }]));
    const entry = {
      measurement_id: `mock ${values.image}`,
      attestation_type: 'dcap-tdx',
      measurements: registers,
    };
    await writeFile(values.policy, `${JSON.stringify([entry], null, 2)}\n`);
  }
  const service = await startMockService(machine, Number(values.port));
  process.stdout.write(`mock TDX machine on ${service.url}\n`);
  const stop = (): void => void service.close();
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
}
