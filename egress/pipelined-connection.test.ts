/** One connection against servers that do what servers do, and what they must not: each request has one fate. */
import net, { type Socket } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { ConnectionEnd } from './delivery.ts';
import { type ConnectionOptions, type ConnectionOwner, PipelinedConnection } from './pipelined-connection.ts';
import { type RawServer, startRawServer } from './testing/raw-server.ts';

const OPTIONS: ConnectionOptions = {
  maxOutstanding: 64,
  maxOutstandingBytes: 10_000_000,
  maxBufferedBytes: 256 * 1024,
  connectTimeoutMs: 5_000,
  responseTimeoutMs: 10_000,
};

const HEAD_START = 'POST / HTTP/1.1\r\nHost: x\r\n';
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n';

interface Request {
  readonly id: number;
  readonly bytes: number;
  sentAtMs: number;
}

/** Writes down the fate of every request. */
class Owner implements ConnectionOwner<Request> {
  readonly answers: { id: number; status: number; body: string }[] = [];
  unanswered: number[] = [];
  written = -1;
  drains = 0;
  /** During the last answer: could another request be written? */
  couldTake = false;
  readonly up = Promise.withResolvers<void>();
  readonly end = Promise.withResolvers<ConnectionEnd>();
  readonly #wanted: { count: number; resolve: () => void }[] = [];

  opened(): void {
    this.up.resolve();
  }

  answered(
    connection: PipelinedConnection<Request>,
    requests: readonly Request[],
    status: number,
    body: Buffer,
  ): void {
    this.couldTake = connection.canTake(1, 1_000);
    for (const { id } of requests) this.answers.push({ id, status, body: body.toString() });
    for (const wanted of this.#wanted) if (this.answers.length >= wanted.count) wanted.resolve();
  }

  drained(): void {
    this.drains++;
  }

  ended(
    _connection: PipelinedConnection<Request>,
    reason: ConnectionEnd,
    unanswered: Request[],
    written: number,
  ): void {
    expect(this.written, 'ended twice').toBe(-1);
    this.unanswered = unanswered.map((request) => request.id);
    this.written = written;
    this.end.resolve(reason);
  }

  answersReach(count: number): Promise<void> {
    if (this.answers.length >= count) return Promise.resolve();
    return new Promise((resolve) => this.#wanted.push({ count, resolve }));
  }
}

interface Setup {
  readonly server: RawServer;
  readonly owner: Owner;
  readonly connection: PipelinedConnection<Request>;
  /** Writes requests `from`..`from + count - 1` and flushes, after each or once. */
  readonly write: (count: number, body?: Buffer, from?: number, together?: boolean) => void;
}

async function connect(
  accept: (socket: Socket, index: number) => void,
  options: Partial<ConnectionOptions> = {},
): Promise<Setup> {
  const server = await startRawServer(accept);
  const owner = new Owner();
  const connection = new PipelinedConnection<Request>(
    {
      dial: (onread) => net.connect({ host: '127.0.0.1', port: server.port, onread }),
      readyEvent: 'connect',
      refuse: () => null,
    },
    owner,
    { ...OPTIONS, ...options },
  );
  onTestFinished(async () => {
    connection.destroy('shutdown');
    await server.close();
  });
  await owner.up.promise;
  const write: Setup['write'] = (count, body = Buffer.from('{}'), from = 0, together = false) => {
    for (let id = from; id < from + count; id++) {
      const headEnd = `Content-Length: ${body.length}\r\n\r\n`;
      const bytes = HEAD_START.length + headEnd.length + body.length;
      connection.write({ id, bytes, sentAtMs: 0 }, HEAD_START, headEnd, body, performance.now());
      if (!together) connection.flush();
    }
    connection.flush();
  };
  return { server, owner, connection, write };
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}

/** Calls `reply` once, when `count` request heads have come in. */
function afterRequests(count: number, reply: (socket: Socket) => void): (socket: Socket) => void {
  return (socket) => {
    let text = '';
    socket.on('data', (chunk) => {
      const before = text.split('POST ').length - 1;
      text += chunk.toString('latin1');
      if (before < count && text.split('POST ').length - 1 >= count) reply(socket);
    });
  };
}

describe('answers', () => {
  test('go to the requests in their order, however the bytes are cut', async () => {
    const { owner, write } = await connect(
      afterRequests(3, (socket) => {
        socket.setNoDelay(true);
        const stream = `${OK}aaHTTP/1.1 100 Continue\r\n\r\n${OK}bbHTTP/1.1 500 No\r\nContent-Length: 1\r\n\r\nc`;
        for (const byte of stream) socket.write(byte);
      }),
    );
    write(3);
    await owner.answersReach(3);
    expect(owner.answers).toEqual([
      { id: 0, status: 200, body: 'aa' },
      { id: 1, status: 200, body: 'bb' },
      { id: 2, status: 500, body: 'c' },
    ]);
  });

  test('arrive byte for byte as written at the server', async () => {
    const seen = Promise.withResolvers<string>();
    const { write } = await connect((socket) => {
      let text = '';
      socket.on('data', (chunk) => {
        text += chunk.toString('latin1');
        if (text.split('{"a":1}').length === 3) seen.resolve(text);
      });
    });
    write(2, Buffer.from('{"a":1}'));
    expect(await seen.promise).toBe(
      'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n{"a":1}'.repeat(2),
    );
  });

  test('before the request is written whole count as answers', async () => {
    const { owner, connection, write, server } = await connect((socket) => {
      socket.once('data', () => {
        socket.pause();
        socket.write(`${OK}xx`);
      });
    });
    write(1, Buffer.alloc(40_000_000));
    await owner.answersReach(1);
    expect(owner.answers).toEqual([{ id: 0, status: 200, body: 'xx' }]);
    expect(connection.open).toBe(true);
    server.sockets[0]?.resume();
  });
});

describe('the end of a connection', () => {
  test('Connection: close in the middle of a pipeline leaves the rest unanswered', async () => {
    const { owner, write } = await connect(
      afterRequests(10, (socket) => {
        socket.write(`${OK}xx`.repeat(3));
        socket.end(`HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n${OK}yy`);
      }),
    );
    write(10);
    expect(await owner.end.promise).toBe('closed');
    expect(owner.answers.map((answer) => answer.id)).toEqual([0, 1, 2, 3]);
    expect({ unanswered: owner.unanswered, written: owner.written }).toEqual({
      unanswered: range(4, 10),
      written: 6,
    });
  });

  test('the last answer says so: nothing is written any more, and we close where the server does not', async () => {
    const { owner, write } = await connect(
      afterRequests(2, (socket) => {
        socket.write(`${OK}xxHTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
      }),
    );
    write(1);
    expect(owner.couldTake).toBe(false);
    write(2, Buffer.from('{}'), 1);
    await owner.answersReach(2);
    expect(owner.couldTake).toBe(false);
    expect(await owner.end.promise).toBe('closed');
    expect(owner.unanswered).toEqual([2]);
  });

  test('a reset in the middle of a pipeline of 50: one fate each', async () => {
    const { owner, write } = await connect(
      afterRequests(50, (socket) => {
        socket.write(`${OK}xx`.repeat(20), () => socket.resetAndDestroy());
      }),
    );
    write(50);
    expect(await owner.end.promise).toBe('connection_lost');
    // A reset may overtake answers that were sent before it.
    const answered = owner.answers.map((answer) => answer.id);
    expect([...answered, ...owner.unanswered]).toEqual(range(0, 50));
    expect(owner.unanswered.length).toBeGreaterThanOrEqual(30);
    expect(owner.written).toBe(owner.unanswered.length);
  });

  test('a reset when several have left together: one fate each', async () => {
    const { owner, write } = await connect(
      afterRequests(8, (socket) => {
        socket.write(`${OK}xx`.repeat(3), () => socket.resetAndDestroy());
      }),
    );
    write(8, undefined, 0, true);
    expect(await owner.end.promise).toBe('connection_lost');
    expect([...owner.answers.map((answer) => answer.id), ...owner.unanswered]).toEqual(range(0, 8));
    expect(owner.written).toBe(owner.unanswered.length);
  });

  test('half a response, then the end', async () => {
    const { owner, write } = await connect(afterRequests(2, (socket) => socket.end(`${OK}xx${OK}y`)));
    write(2);
    expect(await owner.end.promise).toBe('protocol_error');
    expect({ answers: owner.answers.length, unanswered: owner.unanswered }).toEqual({
      answers: 1,
      unanswered: [1],
    });
  });

  test('a body that ends with the connection is an answer', async () => {
    const { owner, write } = await connect(
      afterRequests(2, (socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\nno')),
    );
    write(2);
    expect(await owner.end.promise).toBe('closed');
    expect(owner.answers).toEqual([{ id: 0, status: 400, body: 'no' }]);
    expect(owner.unanswered).toEqual([1]);
  });

  test('the server ends an idle connection', async () => {
    const { owner } = await connect((socket) => socket.end());
    expect(await owner.end.promise).toBe('closed');
    expect(owner.unanswered).toEqual([]);
  });

  test('requests whose bytes have left the process are told from those whose have not', async () => {
    const { owner, write, server } = await connect((socket) => {
      socket.pause();
    });
    write(2);
    // More than the kernel's buffers take: of the first a part leaves.
    write(3, Buffer.alloc(20_000_000), 2);
    setImmediate(() => server.sockets[0]?.resetAndDestroy());
    expect(await owner.end.promise).toBe('connection_lost');
    expect({ unanswered: owner.unanswered, written: owner.written }).toEqual({
      unanswered: range(0, 5),
      written: 2,
    });
  });
});

describe('what no server may send', () => {
  test.each([
    ['garbage', '\x16\x03\x01 this is not HTTP\r\n\r\n'],
    ['a response that nobody asked for, after the answers', `${OK}xx${OK}yy`],
    ['the beginning of such a response', `${OK}xxHTT`],
    ['a header without end', `HTTP/1.1 200 OK\r\n${'X-A: b\r\n'.repeat(5_000)}`],
  ])('%s', async (_name, reply) => {
    const { owner, write } = await connect(afterRequests(1, (socket) => socket.write(reply, 'latin1')));
    write(1);
    expect(await owner.end.promise).toBe('protocol_error');
    expect(owner.answers.length + owner.unanswered.length).toBe(1);
  });

  test('a response before any request', async () => {
    const { owner } = await connect((socket) => socket.write(`${OK}xx`));
    expect(await owner.end.promise).toBe('protocol_error');
  });
});

describe('time', () => {
  test('a server that never answers is given up', async () => {
    const { owner, write } = await connect((socket) => socket.resume(), { responseTimeoutMs: 80 });
    const start = performance.now();
    write(5);
    expect(await owner.end.promise).toBe('response_timeout');
    expect(performance.now() - start).toBeGreaterThanOrEqual(79);
    expect({ unanswered: owner.unanswered, written: owner.written }).toEqual({
      unanswered: range(0, 5),
      written: 5,
    });
  });

  test('a server that answers a byte at a time is given up too', async () => {
    const { owner, write } = await connect(
      (socket) => {
        socket.once('data', () => {
          const timer = setInterval(() => socket.write('H'), 20);
          socket.write('HTTP/1.1 200 OK\r\nX-');
          socket.on('close', () => clearInterval(timer));
        });
      },
      { responseTimeoutMs: 120 },
    );
    write(1);
    expect(await owner.end.promise).toBe('response_timeout');
  });

  test('answers that come one after another keep the others behind them from being overdue', async () => {
    const { owner, write } = await connect(
      (socket) => {
        socket.once('data', () => {
          let left = 6;
          const timer = setInterval(() => {
            socket.write(`${OK}xx`);
            if (--left === 0) clearInterval(timer);
          }, 60);
          socket.on('close', () => clearInterval(timer));
        });
      },
      { responseTimeoutMs: 200 },
    );
    write(6);
    await owner.answersReach(6);
    expect(owner.written, 'not ended').toBe(-1);
  });

  test('an idle connection is not overdue', async () => {
    const { owner, write } = await connect(
      (socket) => {
        socket.on('data', () => socket.write(`${OK}xx`));
        setTimeout(() => socket.end(), 150);
      },
      { responseTimeoutMs: 50 },
    );
    write(1);
    expect(await owner.end.promise).toBe('closed');
  });

  test('a server that does not finish connecting is given up', async () => {
    const server = await startRawServer(() => {});
    const owner = new Owner();
    const connection = new PipelinedConnection<Request>(
      // Never ready: the event is TLS's, the socket is not.
      {
        dial: (onread) => net.connect({ host: '127.0.0.1', port: server.port, onread }),
        readyEvent: 'secureConnect',
        refuse: () => null,
      },
      owner,
      { ...OPTIONS, connectTimeoutMs: 50 },
    );
    onTestFinished(() => server.close());
    expect(await owner.end.promise).toBe('connect_timeout');
    expect(connection.canTake(1, 1)).toBe(false);
  });
});

describe('bounds', () => {
  test('requests outstanding', async () => {
    const { owner, connection, write, server } = await connect(() => {}, { maxOutstanding: 3 });
    write(2);
    expect(connection.canTake(1, 100)).toBe(true);
    expect(connection.canTake(1, 2)).toBe(false);
    write(1, Buffer.from('{}'), 2);
    expect(connection.canTake(1, 100)).toBe(false);
    server.sockets[0]?.write(`${OK}xx`);
    await owner.answersReach(1);
    expect(connection.canTake(1, 100)).toBe(true);
  });

  test('bytes outstanding, but one large request is let through', async () => {
    const { connection, write } = await connect(() => {}, { maxOutstandingBytes: 1_000 });
    expect(connection.canTake(100_000, 100)).toBe(true);
    write(1, Buffer.alloc(100_000));
    expect(connection.canTake(1, 100)).toBe(false);
  });

  test('bytes outstanding, counted down by answers', async () => {
    const { owner, connection, write, server } = await connect(() => {}, { maxOutstandingBytes: 1_000 });
    write(2, Buffer.alloc(400));
    expect(connection.canTake(400, 100)).toBe(false);
    server.sockets[0]?.write(`${OK}xx`);
    await owner.answersReach(1);
    expect(owner.couldTake).toBe(true);
    expect(connection.canTake(400, 100)).toBe(true);
  });

  test('bytes that a slow reader leaves in user space', async () => {
    const { owner, connection, write, server } = await connect((socket) => {
      socket.pause();
    });
    const body = Buffer.alloc(100_000);
    let count = 0;
    // The kernel takes a few megabytes, then no more.
    while (connection.canTake(body.length, 1_000) && count < 500) write(1, body, count++);
    expect(count).toBeLessThan(500);
    expect(owner.drains).toBe(0);
    let read = 0;
    const all = Promise.withResolvers<void>();
    server.sockets[0]?.on('data', (chunk) => {
      read += chunk.length;
      if (read >= count * body.length) all.resolve();
    });
    server.sockets[0]?.resume();
    await all.promise;
    expect(owner.drains).toBe(1);
    expect(connection.canTake(body.length, 1_000)).toBe(true);
  });
});
