/** A quota of a broker, which no client library here can set: AlterClientQuotas version 0, by its bytes. */
import { once } from 'node:events';
import { connect } from 'node:net';

const ALTER_CLIENT_QUOTAS = 49;

/** A string with its length before it, as the protocol has it. */
function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  const length = Buffer.alloc(2);
  length.writeInt16BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

/**
 * Bounds what clients of this name may read.
 * @param address HOST:PORT of a broker. @throws when the broker does not take it.
 */
export async function limitReading(address: string, clientId: string, bytesPerSec: number): Promise<void> {
  const rate = Buffer.alloc(8);
  rate.writeDoubleBE(bytesPerSec);
  const entry = [
    int32(1),
    text('client-id'),
    text(clientId),
    int32(1),
    text('consumer_byte_rate'),
    rate,
    Buffer.of(0),
  ];
  const header = [Buffer.of(0, ALTER_CLIENT_QUOTAS, 0, 0), int32(1), text('quota')];
  const request = Buffer.concat([...header, int32(1), ...entry, Buffer.of(0)]);
  const [host = '', port = ''] = address.split(':');
  const socket = connect({ host, port: Number(port) });
  socket.write(Buffer.concat([int32(request.length), request]));
  const [answer] = (await once(socket, 'data')) as [Buffer];
  socket.destroy();
  // Length, correlation, throttle time, number of entries: then the first one's error.
  const error = answer.readInt16BE(16);
  if (error !== 0) throw new Error(`the broker refuses the quota: error ${error}`);
}
