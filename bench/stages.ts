/**
 * Reads a CPU profile of a node as time per stage. A sample counts for the innermost function of the project's that
 * it was in: what Node, a library or the kernel did for a stage is that stage's. What belongs to no function of the
 * project (the event loop, Node's own HTTP between two callbacks) is a stage of its own.
 */
import type { Profiler } from 'node:inspector';

/** First match wins. `file` is relative to the project; `of` names functions where a file serves several stages. */
const RULES: readonly { readonly stage: string; readonly file: RegExp; readonly of?: RegExp }[] = [
  { stage: 'signing for peers', file: /^identity\/(?:signature|secp256k1)\.ts$/, of: /^sign/ },
  { stage: 'signature check', file: /^identity\// },
  { stage: 'keccak', file: /^pipeline\/keccak\.ts$/ },
  { stage: 'transactions', file: /^pipeline\/(?:transaction|rlp|order-transactions)/ },
  { stage: 'dedupe', file: /^pipeline\/dedupe/ },
  {
    stage: 'pipeline',
    file: /^pipeline\/(?:pipeline|operators|intake|routes|submission|rate-limit|clock)|^node_modules\/rxjs\//,
  },
  { stage: 'JSON and canonical form', file: /^pipeline\// },
  { stage: 'archive', file: /^egress\/archive\// },
  { stage: 'to builder and peers', file: /^egress\// },
  { stage: 'HTTP in', file: /^ingress\/|^node_modules\/(?:hono|@hono)\// },
  {
    stage: 'metrics and logs',
    file: /^(?:metrics|reports|log)|^node_modules\/(?:prom-client|pino|sonic-boom)\//,
  },
  { stage: 'composition', file: /^(?!node_modules)/ },
];

export const SOCKETS = 'Node: sockets and HTTP';
export const COLLECTOR = 'garbage collection';
export const OUTSIDE = 'outside JavaScript';

/**
 * @param profile of one thread
 * @param root directory of the project that ran, without a slash at its end
 * @returns microseconds by stage, idle time left out
 */
export function stagesOf(profile: Profiler.Profile, root: string): Map<string, number> {
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]));
  const parents = new Map<number, number>();
  for (const { id, children } of profile.nodes) for (const child of children ?? []) parents.set(child, id);
  const stageOfNode = new Map<number, string | null>();

  function stageOf(id: number): string | null {
    const known = stageOfNode.get(id);
    if (known !== undefined) return known;
    const found = ownStage(id);
    stageOfNode.set(id, found);
    return found;
  }
  function ownStage(id: number): string | null {
    const node = nodes.get(id);
    if (node === undefined) return OUTSIDE;
    const { functionName, url } = node.callFrame;
    if (functionName === '(idle)') return null;
    if (functionName === '(garbage collector)') return COLLECTOR;
    if (functionName === '(program)' || functionName === '(root)') return OUTSIDE;
    const ruled = ruledStage(pathOf(url, root), functionName);
    if (ruled !== null) return ruled;
    const parent = parents.get(id);
    const outer = parent === undefined ? OUTSIDE : stageOf(parent);
    return outer === OUTSIDE || outer === null ? SOCKETS : outer;
  }

  const stages = new Map<string, number>();
  for (const [index, id] of (profile.samples ?? []).entries()) {
    const stage = stageOf(id);
    if (stage === null) continue;
    // A delta stands for the time since the sample before.
    stages.set(stage, (stages.get(stage) ?? 0) + (profile.timeDeltas?.[index] ?? 0));
  }
  return stages;
}

/** @returns the path inside the project, null for Node's own modules, other programs and native code. */
function pathOf(url: string, root: string): string | null {
  const prefix = `file://${root}/`;
  return url.startsWith(prefix) ? url.slice(prefix.length) : null;
}

function ruledStage(path: string | null, functionName: string): string | null {
  if (path === null || path.startsWith('bench/')) return null;
  for (const { stage, file, of } of RULES) {
    if (file.test(path) && (of === undefined || of.test(functionName))) return stage;
  }
  return null;
}
