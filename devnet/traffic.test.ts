import { expect, test } from 'vitest';
import type { RpcAnswer, UserClient } from './client.ts';
import { createOrderSource } from './orders.ts';
import { startTraffic } from './traffic.ts';

function clientThat(answer: (count: number) => Promise<RpcAnswer>): UserClient & { bodies: string[] } {
  const bodies: string[] = [];
  return {
    bodies,
    send({ body }) {
      bodies.push(body.toString());
      return answer(bodies.length);
    },
    status: () => Promise.resolve(200),
    close() {},
  };
}

const source = () => createOrderSource({ seed: 'traffic test', methods: 'bundles', bodyBytes: 400 });

test('goes round the nodes and sends some orders again to the same one', async () => {
  const enough = Promise.withResolvers<void>();
  const answered = (count: number): Promise<RpcAnswer> => {
    if (count === 80) enough.resolve();
    return Promise.resolve({ status: 200, result: null });
  };
  const clients = [clientThat(answered), clientThat(answered)];
  const traffic = startTraffic({ source: source(), clients, rate: 1_000 });
  await enough.promise;
  await traffic.stop();
  const [first = [], second = []] = clients.map(({ bodies }) => bodies);
  expect(Math.abs(first.length - second.length)).toBeLessThanOrEqual(2);
  expect(first.filter((body) => second.includes(body))).toEqual([]);
  expect(first.length - new Set(first).size).toBeGreaterThanOrEqual(1);
  expect(traffic.accepted).toBe(first.length + second.length);
  expect(traffic.failed).toBe(0);
});

test('counts refusals and lost answers, and says the last', async () => {
  const enough = Promise.withResolvers<void>();
  const client = clientThat(async (count) => {
    if (count === 2) enough.resolve();
    if (count === 1) return { status: 200, error: { code: -32000, message: 'no room' } };
    throw new Error('gone');
  });
  const traffic = startTraffic({ source: source(), clients: [client], rate: 200 });
  await enough.promise;
  await traffic.stop();
  expect(traffic.failed).toBe(client.bodies.length);
  expect(traffic.lastFailure).toBe('gone');
});
