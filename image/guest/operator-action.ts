/**
 * An action of the operator API: connects to the socket that is its argument, which starts one command of systemd as
 * root, and waits for its end. What the command says is a failure.
 *
 * Arguments: the socket; a file that the operator has uploaded, where the command reads one. It is used once.
 */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';

const [, , path = '', upload] = process.argv;
let input = '';
if (upload !== undefined && existsSync(upload)) {
  input = readFileSync(upload, 'utf8');
  rmSync(upload);
}
const socket = connect({ path, allowHalfOpen: true });
let said = '';
socket.setEncoding('utf8');
if (upload !== undefined) socket.end(input);
socket.on('data', (chunk: string) => {
  said = (said + chunk).slice(0, 4096);
});
socket.on('error', (error) => {
  said += error.message;
});
socket.on('end', () => socket.destroy());
socket.on('close', () => {
  if (said === '') return;
  process.stderr.write(said);
  process.exitCode = 1;
});
