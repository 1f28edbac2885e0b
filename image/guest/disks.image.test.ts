import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { outputOf } from '../testing/world.ts';
import { diskOf } from './disks.ts';

/** A folder as `/sys/class/block`: serial by name; null: a disk without one. */
function devices(serials: Readonly<Record<string, string | null>>): string {
  const folder = mkdtempSync(join(tmpdir(), 'image-disks-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  for (const [name, serial] of Object.entries(serials)) {
    mkdirSync(join(folder, name));
    if (serial !== null) writeFileSync(join(folder, name, 'serial'), `${serial}\n`);
  }
  return folder;
}

test('the data disk is the one with the serial; none and two are no disk', () => {
  expect(diskOf('persistent', devices({ vda: null, vdb: 'other', vdc: 'persistent' }))).toBe('vdc');
  expect(() => diskOf('persistent', devices({ vda: null, vdb: 'other', vdc: 'persistent2' }))).toThrow(
    '0 disks have the serial persistent',
  );
  expect(() => diskOf('persistent', devices({ vdb: 'persistent', vdc: 'persistent' }))).toThrow(
    '2 disks have the serial persistent',
  );
});

/** What disk_wipe answers to a name where there is no disk at all: no test looks at those of this machine. */
async function answerTo(name: string): Promise<string> {
  const env = { SERIAL: 'the-serial', DEVICES: devices({}) };
  const { status, errors } = await outputOf('image/guest/disk-wipe.ts', [], { env, input: name });
  expect(status).toBe(1);
  return errors;
}

test('disk_wipe wipes what the operator has named, and says why it does not', async () => {
  const unnamed = 'disk_wipe: refused: upload the serial of the disk as disk_wipe first\n';
  const other = 'disk_wipe: refused: that is not the serial of the data disk\n';
  expect(await answerTo('')).toBe(unnamed);
  expect(await answerTo(' \n')).toBe(unnamed);
  for (const name of ['another', 'the-seria', 'the-serial-', 'x'.repeat(100_000)])
    expect(await answerTo(name)).toBe(other);
  expect(await answerTo('the-serial\n')).toBe('disk_wipe: refused: 0 disks have the serial the-serial\n');
});

test('what an operator uploads for an action is its input once', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'image-action-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const [path, upload] = [join(folder, 'socket'), join(folder, 'upload')];
  const inputs: string[] = [];
  const unit = createServer({ allowHalfOpen: true }, (socket) => {
    let input = '';
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => {
      input += chunk;
    });
    socket.on('end', () => {
      inputs.push(input);
      socket.end(input === '' ? 'refused' : '');
    });
  });
  await new Promise<void>((resolve) => unit.listen(path, resolve));
  onTestFinished(() => void unit.close());
  writeFileSync(upload, 'serial');
  const act = () => outputOf('image/guest/operator-action.ts', [path, upload]);
  expect(await act()).toEqual({ status: 0, output: '', errors: '' });
  expect(existsSync(upload)).toBe(false);
  expect(await act()).toEqual({ status: 1, output: '', errors: 'refused' });
  expect(inputs).toEqual(['serial', '']);
  unit.close();
  expect(await outputOf('image/guest/operator-action.ts', [join(folder, 'none')])).toMatchObject({
    status: 1,
  });
});
