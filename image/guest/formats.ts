/** How a value is written into the files that services read: by each format's own quoting, never as it stands. */

/**
 * An environment file as systemd reads it (systemd.exec(5), EnvironmentFile=): in double quotes, where `\`, `"`, `$`
 * and the backquote are escaped by `\`.
 */
export function environmentFile(entries: readonly (readonly [string, string])[]): string {
  return entries.map(([name, value]) => `${name}="${value.replaceAll(/[\\"$`]/gu, '\\$&')}"\n`).join('');
}

/**
 * A basic string of TOML 1.0 or a double-quoted one of YAML: both are JSON's, but for DEL, which JSON leaves as it is.
 * @param value without lone surrogates
 */
export function quoted(value: string): string {
  return JSON.stringify(value).replaceAll('\x7f', '\\u007f');
}
