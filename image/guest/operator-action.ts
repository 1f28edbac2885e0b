/**
 * An action of the operator API: connects to the socket that is its argument, which starts one command of systemd as
 * root, and waits for its end. What the command says is a failure.
 */
import { connect } from 'node:net';

const socket = connect(process.argv[2] ?? '');
let said = '';
socket.setEncoding('utf8');
socket.on('data', (chunk: string) => {
  said = (said + chunk).slice(0, 4096);
});
socket.on('error', (error) => {
  said += error.message;
});
socket.on('close', () => {
  if (said === '') return;
  process.stderr.write(said);
  process.exitCode = 1;
});
