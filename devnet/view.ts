/**
 * What `npm start` shows: pure functions from the network's state to lines, and a small screen that redraws
 * them in place on a terminal. Colours only where asked for.
 */
import { stripVTControlCharacters } from 'node:util';
import type { NodeFigures, PeerFigures } from './metrics.ts';

interface NodeState {
  readonly name: string;
  /** `down` when the process has ended or does not answer. */
  readonly status: 'starting' | 'up' | 'down';
  /** null until the first answer of its metrics server. */
  readonly figures: NodeFigures | null;
}

export interface NetworkState {
  readonly nodes: readonly NodeState[];
  /** Orders per second the generator aims at. */
  readonly rate: number;
  readonly elapsedSec: number;
  /** Orders sent by the generator and answered with success, and all others. */
  readonly accepted: number;
  readonly failed: number;
  /** Why the last of them failed; null while none has. */
  readonly lastFailure: string | null;
}

export interface Look {
  readonly colour: boolean;
  /** Columns; longer lines are cut. */
  readonly width: number;
}

type Paint = (text: string) => string;
type Palette = Record<'bold' | 'dim' | 'green' | 'yellow' | 'red' | 'cyan', Paint>;

interface Cell {
  readonly text: string;
  readonly paint?: Paint | undefined;
}

const HEADINGS = ['node', 'users', 'peers', 'dup', 'builder', 'archive', 'sent to, p50/p99 ms'];
const NUMERIC = new Set([1, 2, 3, 4, 5]);
const GAP = '  ';
const ESCAPE = '\u001b[';
const ESCAPE_OR_CHARACTER = new RegExp(`${RegExp.escape(ESCAPE)}\\d+m|.`, 'gu');

/** The table of the whole network: a header line, an empty one, headings, one line per node, the sender's line. */
export function renderNetwork(state: NetworkState, look: Look): string[] {
  const paint = palette(look.colour);
  const rows: Cell[][] = [
    HEADINGS.map((text) => ({ text, paint: paint.dim })),
    ...state.nodes.map((node) => nodeCells(node, paint)),
  ];
  const widths = HEADINGS.map((_, column) => Math.max(...rows.map((row) => row[column]?.text.length ?? 0)));
  const table = rows.map((row) =>
    row.map((cell, column) => pad(cell, widths[column] ?? 0, column)).join(GAP),
  );
  const title = `${paint.bold('orderflow devnet')}  ${countOf(state.nodes.length, 'node')}, ${state.rate} orders/s, ${clock(state.elapsedSec)}`;
  const failed =
    state.failed === 0
      ? paint.green('0 failed')
      : paint.red(`${grouped(state.failed)} failed, last: ${state.lastFailure ?? 'unknown'}`);
  const sender = `${paint.dim('generator')}  ${grouped(state.accepted)} accepted, ${failed}`;
  return [title, '', ...table, '', sender].map((line) => clip(line.trimEnd(), look.width));
}

/** The same as one plain line, for logs and pipes. */
export function renderPlain(state: NetworkState): string {
  const nodes = state.nodes.map((node) => {
    const f = node.figures;
    if (node.status !== 'up' || f === null) return `${node.name} ${node.status}`;
    const peers = f.peers.map(peerText).join(' ');
    const counts = `users=${f.fromUsers} peers=${f.fromPeers} dup=${f.duplicates} builder=${f.toBuilder} archive=${f.archived}`;
    return `${node.name} ${counts}${peers === '' ? '' : ` sent: ${peers}`}`;
  });
  return `${clock(state.elapsedSec)} accepted=${state.accepted} failed=${state.failed} | ${nodes.join(' | ')}`;
}

/** Draws blocks of lines over one another at the bottom of a terminal. */
export class Screen {
  readonly #out: NodeJS.WritableStream;
  #height = 0;

  constructor(out: NodeJS.WritableStream) {
    this.#out = out;
  }

  /** Replaces what the last call drew. */
  draw(lines: readonly string[]): void {
    const up = this.#height === 0 ? '' : `${ESCAPE}${this.#height}A`;
    const body = lines.map((line) => `${line}${ESCAPE}K\n`).join('');
    this.#out.write(`${ESCAPE}?25l${up}\r${body}${ESCAPE}J`);
    this.#height = lines.length;
  }

  /** Leaves what is drawn and shows the cursor again. */
  end(): void {
    this.#out.write(`${ESCAPE}?25h`);
    this.#height = 0;
  }
}

/** Whether to colour: a terminal, and NO_COLOR (no-color.org) not set to anything. */
export function wantsColour(out: { isTTY?: boolean }, env: NodeJS.ProcessEnv): boolean {
  return out.isTTY === true && (env.NO_COLOR ?? '') === '' && env.TERM !== 'dumb';
}

/** Colours as functions; they leave text as it is when `colour` is false. */
export function palette(colour: boolean): Palette {
  const code =
    (on: number, off: number): Paint =>
    (text) =>
      colour ? `${ESCAPE}${on}m${text}${ESCAPE}${off}m` : text;
  return {
    bold: code(1, 22),
    dim: code(2, 22),
    green: code(32, 39),
    yellow: code(33, 39),
    red: code(31, 39),
    cyan: code(36, 39),
  };
}

function nodeCells(node: NodeState, paint: Palette): Cell[] {
  const colours = { up: paint.cyan, starting: paint.yellow, down: paint.red };
  const name = { text: node.name, paint: colours[node.status] };
  const f = node.figures;
  if (node.status !== 'up' || f === null) {
    const waiting = { text: node.status, paint: colours[node.status] };
    return [name, ...Array.from({ length: 5 }, () => ({ text: '-', paint: paint.dim })), waiting];
  }
  const counts = [f.fromUsers, f.fromPeers, f.duplicates, f.toBuilder].map((count) => ({
    text: grouped(count),
  }));
  const archive = { text: grouped(f.archived), paint: f.archiveAccepting ? paint.green : paint.red };
  const peers = f.peers.map(peerText);
  const away = f.peers.some((peer) => peer.connections === 0);
  return [name, ...counts, archive, { text: peers.join(GAP), paint: away ? paint.yellow : undefined }];
}

function pad(cell: Cell, width: number, column: number): string {
  const text = NUMERIC.has(column) ? cell.text.padStart(width) : cell.text.padEnd(width);
  return cell.paint === undefined ? text : cell.paint(text);
}

/** Cuts to `width` visible characters; colours are closed by the codes that stay. */
function clip(line: string, width: number): string {
  if (stripVTControlCharacters(line).length <= width) return line;
  let visible = 0;
  return line.replaceAll(ESCAPE_OR_CHARACTER, (token) => {
    if (token.startsWith(ESCAPE)) return token;
    visible++;
    return visible <= width ? token : '';
  });
}

function peerText({ name, connections, p50Ms, p99Ms }: PeerFigures): string {
  if (connections === 0) return `${name} away`;
  return p50Ms === null || p99Ms === null ? `${name} -` : `${name} ${short(p50Ms)}/${short(p99Ms)}`;
}

function short(ms: number): string {
  return ms < 100 ? ms.toFixed(1) : ms.toFixed(0);
}

/** 1234567 → 1,234,567 */
export function grouped(count: number): string {
  return count.toLocaleString('en');
}

function countOf(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

function clock(seconds: number): string {
  const part = (value: number): string => String(Math.floor(value)).padStart(2, '0');
  const hours = seconds >= 3600 ? `${part(seconds / 3600)}:` : '';
  return `${hours}${part((seconds / 60) % 60)}:${part(seconds % 60)}`;
}
