/** The operator API as a process: its command line, what stops its start, its signals, and its end in mid-write. */
import { execFileSync } from 'node:child_process';
import { appendFile, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import https from 'node:https';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { temporaryDirectory } from '../testing/directory.ts';
import { type Program, startProgram } from '../testing/program.ts';
import { hashPassword, parseStoredHash, verifyPassword } from './password.ts';
import { testConfig } from './testing/api.ts';

const MAIN = 'operator-main.ts';
const PASSWORD = 'correct horse battery';
const HASH = await hashPassword(Buffer.from(PASSWORD));

async function outcome(args: readonly string[], input = '') {
  const { ended, stdout, output } = startProgram(MAIN, args, { input });
  return { code: (await ended).code, out: stdout.join('\n'), all: output.join('\n') };
}

interface Process {
  readonly program: Program;
  readonly url: string;
  readonly metricsUrl: string;
  /** @returns the status, or 0 when no answer came. */
  send(request: string, body?: string): Promise<{ status: number; body: string }>;
  kill(): Promise<void>;
}

const GENERAL = `
metrics_addr = "127.0.0.1:0"
basic_auth_secret_hash = "${HASH}"
pipe_file = "DIR/pipe"
events_file = "DIR/events"
log_debug = true
`;
const TABLES = `
[actions]
talks = ["/bin/sh", "-c", "echo said; echo complained >&2; exit 1"]
slow = ["/bin/sh", "-c", "sleep 0.5; touch DIR/done"]
[file_uploads]
file = { path = "DIR/file", check = "none", max_bytes = 2_000_000 }
`;

async function startProcess(directory: string, general = GENERAL): Promise<Process> {
  const config = join(directory, 'config.toml');
  await writeFile(config, testConfig(directory, general, TABLES));
  const program = startProgram(MAIN, ['--config', config]);
  const [, metrics = ''] = await program.line(/"event":"listening","server":"metrics","address":"([^"]+)"/u);
  const [, operator = ''] = await program.line(
    /"event":"listening","server":"operator","address":"([^"]+)"/u,
  );
  const url = `https://${operator}`;
  const ca = await readFile(join(directory, 'cert.pem'), 'utf8');
  const agent = new https.Agent({ keepAlive: true, ca });
  onTestFinished(() => agent.destroy());
  return {
    program,
    url,
    metricsUrl: `http://${metrics}`,
    send(request, body) {
      const [method, target] = request.split(' ');
      const answer = Promise.withResolvers<{ status: number; body: string }>();
      const lost = () => answer.resolve({ status: 0, body: '' });
      const sent = https.request(url + target, { method, agent, auth: `admin:${PASSWORD}` }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('end', () => answer.resolve({ status: response.statusCode ?? 0, body: text }));
        response.on('error', lost);
      });
      sent.on('error', lost);
      sent.end(body);
      return answer.promise;
    },
    async kill() {
      program.child.kill('SIGKILL');
      await program.ended;
      agent.destroy();
    },
  };
}

describe('command line', () => {
  test('--help tells every option', async () => {
    const { code, out } = await outcome(['--help']);
    expect(code).toBe(0);
    for (const text of [
      '--config',
      '--compat',
      '--listen-addr',
      '--pipe-file',
      'hash-password',
      'SHELL_TO_USE',
    ]) {
      expect(out).toContain(text);
    }
  });

  test('hash-password makes what basic_auth_secret_hash takes, of the first line', async () => {
    const { code, out } = await outcome(['hash-password'], `${PASSWORD}\nmore`);
    expect(code).toBe(0);
    expect(await verifyPassword(parseStoredHash(out)!, Buffer.from(PASSWORD), '')).toBe(true);
  });

  test('what is wrong stops the start, and is said', async () => {
    const cases: readonly [args: string[], message: string][] = [
      [['--nope'], "Unknown option '--nope'"],
      [['--compat', '0.6'], '--compat: "0.6" is not allowed; allowed is 0.7'],
      [['--config', '/no/such.toml'], '/no/such.toml: ENOENT'],
      [['--listen-addr', 'here'], 'general.listen_addr: "here" is not allowed'],
    ];
    const outcomes = await Promise.all(cases.map(([args]) => outcome(args)));
    for (const [index, [, message]] of cases.entries()) {
      expect(outcomes[index]?.all).toContain(message);
      expect(outcomes[index]?.code).toBe(1);
    }
  });
});

test('SIGTERM waits for the action that runs, keeps the last events, and exits with 0', async () => {
  const directory = await temporaryDirectory();
  const api = await startProcess(directory);
  const running = api.send('GET /api/v1/actions/slow');
  await appendFile(join(directory, 'pipe'), 'whole\nbegun');
  // Answered after the action has begun, and after the FIFO has been read.
  let logs = '';
  while (!logs.includes('executing action: slow') || !logs.includes('whole')) {
    logs = (await api.send('GET /logs')).body;
  }
  api.program.child.kill('SIGTERM');
  expect((await running).status).toBe(200);
  expect(await api.program.ended).toEqual({ code: 0, signal: null });
  await readFile(join(directory, 'done'));
  const again = await startProcess(directory);
  const events = (await again.send('GET /logs')).body;
  expect(events).toContain('executing action success: slow');
  expect(events).toMatch(/ \t begun\n/);
});

test('nothing secret is in the log or the metrics, at debug level', async () => {
  const directory = await temporaryDirectory();
  const api = await startProcess(directory);
  const secrets = [HASH, HASH.split('$').at(-1) ?? '', PASSWORD];
  secrets.push(Buffer.from(`admin:${PASSWORD}`).toString('base64'));
  await api.send('GET /api/v1/new_event?message=of-an-event');
  await api.send('GET /api/v1/actions/talks');
  await api.send('POST /api/v1/file-upload/file', 'of-an-upload');
  await api.send('POST /api/v1/set-basic-auth', 'another password of mine');
  const stored = await readFile(join(directory, 'password'), 'utf8');
  secrets.push(
    'another password of mine',
    stored,
    stored.split('$').at(-1) ?? '',
    'of-an-event',
    'of-an-upload',
  );
  const metrics = await (await fetch(`${api.metricsUrl}/metrics`)).text();
  api.program.child.kill('SIGTERM');
  await api.program.ended;
  const seen = api.program.output.join('\n') + metrics;
  for (const secret of secrets) expect(seen).not.toContain(secret);
  expect(metrics).toContain('orderflow_operator_password_changes_total{result="changed"} 1');
  expect(metrics).toContain('orderflow_operator_action_seconds_count{name="talks",result="failed"} 1');
  expect(seen).toContain('the password was changed');
});

describe('killed in mid-write', () => {
  test('every event that was answered is there afterwards, in order', async () => {
    const directory = await temporaryDirectory();
    const answered: number[] = [];
    let next = 0;
    for (const enough of [60, 200]) {
      const api = await startProcess(directory, `${GENERAL}log_max_entries = 100_000\n`);
      const { promise: killed, resolve: kill } = Promise.withResolvers<void>();
      const client = async () => {
        for (;;) {
          const number = next;
          next += 1;
          const { status } = await api.send(`GET /api/v1/new_event?message=n${number}`);
          if (status !== 200) return;
          answered.push(number);
          if (answered.length === enough) kill();
        }
      };
      const clients = Array.from({ length: 8 }, client);
      await killed;
      await api.kill();
      await Promise.all(clients);
    }
    const api = await startProcess(directory, `${GENERAL}log_max_entries = 100_000\n`);
    const events = JSON.parse((await api.send('GET /api/v1/events')).body) as { message: string }[];
    const kept = new Set(events.map(({ message }) => message));
    expect(answered.filter((number) => !kept.has(`n${number}`))).toEqual([]);
    expect(kept.size).toBe(events.length);
  });

  test('an uploaded file is the old one or the new one, whole, and the next upload works', async () => {
    const directory = await temporaryDirectory();
    const letters = 'abcdefgh';
    const content = (index: number) => (letters[index % letters.length] ?? '').repeat(1_500_000);
    for (const enough of [2, 5]) {
      const api = await startProcess(directory);
      const { promise: killed, resolve: kill } = Promise.withResolvers<void>();
      const upload = async () => {
        for (let i = 0; (await api.send('POST /api/v1/file-upload/file', content(i))).status === 200; i++) {
          if (i === enough) kill();
        }
      };
      const uploads = upload();
      await killed;
      await api.kill();
      await uploads;
      const file = await readFile(join(directory, 'file'), 'utf8');
      expect(file).toBe(content(letters.indexOf(file[0] ?? '')));
    }
    const api = await startProcess(directory);
    expect((await api.send('POST /api/v1/file-upload/file', 'after')).status).toBe(200);
    expect(await readFile(join(directory, 'file'), 'utf8')).toBe('after');
    expect((await readdir(directory)).filter((name) => name.endsWith('.new'))).toEqual([]);
  });
});

test('lines come whole through the FIFO, however they are cut and by whom', async () => {
  const directory = await temporaryDirectory();
  const api = await startProcess(
    directory,
    `${GENERAL}log_max_entries = 100_000\npipe_fragment_ms = 60_000\n`,
  );
  const lines = fc.sample(
    fc.string({ maxLength: 200, unit: 'binary-ascii' }).map((text) => text.replaceAll(/\p{Cc}/gu, '')),
    { seed: 2, numRuns: 300 },
  );
  const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''));
  const script = join(directory, 'writer.sh');
  await writeFile(join(directory, 'bytes'), bytes);
  // Each piece by a process of its own, which opens and closes the FIFO.
  await writeFile(
    script,
    `split -b 997 "${directory}/bytes" "${directory}/piece." && for p in "${directory}"/piece.*; do cat "$p" > "${directory}/pipe"; done; echo end > "${directory}/pipe"`,
  );
  execFileSync('/bin/sh', [script]);
  let events: { message: string }[] = [];
  while (events.at(-1)?.message !== 'end') {
    events = JSON.parse((await api.send('GET /api/v1/events')).body) as { message: string }[];
  }
  expect(events.map(({ message }) => message)).toEqual([...lines, 'end']);
  await rm(script);
});
