import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { expect, onTestFinished, test } from 'vitest';
import { AnswerReader, AnswerWriter, answerMemory } from './answer-ring.ts';

test('numbers come out in their order, as long as there is room, also past 2^32', () => {
  const memory = answerMemory(4);
  new Int32Array(memory, 0, 2).fill(-6);
  const [writer, reader] = [new AnswerWriter(memory), new AnswerReader(memory)];
  const out: number[] = [];
  for (let first = 2 ** 50; first < 2 ** 50 + 16; first += 4) {
    expect([0, 1, 2, 3, 4].map((more) => writer.write(first + more))).toEqual([
      true,
      true,
      true,
      true,
      false,
    ]);
    reader.readAll((number) => out.push(number));
    expect(out).toHaveLength(first - 2 ** 50);
    writer.tell();
    reader.readAll((number) => out.push(number));
  }
  expect(out).toEqual(Array.from({ length: 16 }, (_, index) => 2 ** 50 + index));
});

test('the reader is woken once, only when it sleeps, and not when it looks by itself', () => {
  const memory = answerMemory(16);
  const [writer, reader] = [new AnswerWriter(memory), new AnswerReader(memory)];
  const add = () => writer.write(1) && writer.tell();
  expect([add(), add()]).toEqual([true, false]);
  expect(reader.sleep()).toBe(false);
  reader.readAll(() => undefined);
  expect(reader.sleep()).toBe(true);
  reader.stayAwake();
  expect(add()).toBe(false);
  expect(reader.sleep()).toBe(false);
  reader.readAll(() => undefined);
  expect([reader.sleep(), add()]).toEqual([true, true]);
});

const WRITER = `
  import { parentPort, workerData } from 'node:worker_threads';
  const { url, memory, count } = workerData;
  const { AnswerWriter } = await import(url);
  const ring = new AnswerWriter(memory);
  for (let number = 0; number < count; ) {
    if (ring.write(number)) number += 1;
    if (number % 5 === 0 || number === count) if (ring.tell()) parentPort.postMessage('answers');
  }
`;

test('from one thread to another none is lost or doubled, and the reader is never left asleep', async () => {
  const memory = answerMemory(64);
  const reader = new AnswerReader(memory);
  const count = 100_000;
  const url = new URL('./answer-ring.ts', import.meta.url).href;
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(WRITER)}`), {
    workerData: { url, memory, count },
  });
  onTestFinished(async () => void (await worker.terminate()));
  const seen = { next: 0, wrong: 0 };
  const take = (number: number) => {
    if (number !== seen.next) seen.wrong += 1;
    seen.next += 1;
  };
  while (seen.next < count) {
    await once(worker, 'message');
    do reader.readAll(take);
    while (!reader.sleep());
  }
  expect(seen).toEqual({ next: count, wrong: 0 });
});
