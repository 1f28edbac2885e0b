/** An NTP server for a development machine: answers with this machine's clock (RFC 5905, client-server mode). */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';

const PACKET_BYTES = 48;
/** Seconds from 1900 to 1970. */
const NTP_EPOCH = 2_208_988_800;
const SERVER_MODE = 0x24;
const STRATUM = 2;

export interface NtpServer {
  /** Requests answered. */
  readonly answered: number;
  close(): Promise<void>;
}

/** @throws Error when the port is taken */
export async function startNtpServer(port: number): Promise<NtpServer> {
  const socket = createSocket('udp4');
  let answered = 0;
  socket.on('message', (request, from) => {
    if (request.length < PACKET_BYTES) return;
    const now = timestamp();
    const answer = Buffer.alloc(PACKET_BYTES);
    answer[0] = SERVER_MODE;
    answer[1] = STRATUM;
    answer[2] = request[2] ?? 0;
    answer.writeInt8(-20, 3);
    // Delay and dispersion of a clock close by, about 1 ms.
    answer.writeUInt32BE(64, 4);
    answer.writeUInt32BE(64, 8);
    answer.write('LOCL', 12, 'latin1');
    now.copy(answer, 16);
    request.copy(answer, 24, 40, 48);
    now.copy(answer, 32);
    timestamp().copy(answer, 40);
    answered++;
    socket.send(answer, from.port, from.address);
  });
  socket.bind(port, '127.0.0.1');
  await once(socket, 'listening');
  return {
    get answered() {
      return answered;
    },
    async close() {
      socket.close();
      await once(socket, 'close');
    },
  };
}

function timestamp(): Buffer {
  const ms = performance.timeOrigin + performance.now();
  const buffer = Buffer.alloc(8);
  buffer.writeUInt32BE(Math.floor(ms / 1000) + NTP_EPOCH, 0);
  buffer.writeUInt32BE(Math.floor(((ms % 1000) / 1000) * 2 ** 32), 4);
  return buffer;
}
