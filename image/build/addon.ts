/**
 * The libsecp256k1 of the image, compiled from the project's C sources by the compiler of the tools tree. An image
 * without it is not built: its node would run on npm's older library, whose signatures take 1.7 times as long.
 */
import { basename, dirname, join } from 'node:path';
import { compileCommand } from '../../identity/native/build.ts';
import { runTool } from './sandbox.ts';

/** Of the addon and its sources, in the project and in the image. */
export const ADDON_FOLDER = 'identity/native';

export interface AddonOptions {
  /** Folder of this project. */
  readonly sources: string;
  /** Unpacked package of the image's Node, which has the headers. */
  readonly node: string;
  readonly tools: string;
  /** File to make; its folder must be there. */
  readonly target: string;
}

/** @throws ToolError with what the compiler said */
export async function buildAddon({ sources, node, tools, target }: AddonOptions): Promise<void> {
  const command = compileCommand('gcc', '/store', `/work/${basename(target)}`);
  await runTool(['env', '--chdir=/work2', ...command], {
    tools,
    mounts: {
      '/work': dirname(target),
      '/work2': join(sources, ADDON_FOLDER),
      '/store': join(node, 'include/node'),
    },
  });
}
