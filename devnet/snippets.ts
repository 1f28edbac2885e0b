/** Text to paste into a shell: one order with curl, signed already, and one made and signed with viem. */
import type { SignedRequest } from './client.ts';

/** Where the order goes, and which certificate the node shows there. */
export interface SnippetTarget {
  readonly url: string;
  /** Path of the node's certificate, PEM. */
  readonly certificateFile: string;
}

/**
 * A curl command that posts a signed request.
 * @param order its body must be plain JSON without a single quote, as the order source makes it.
 */
export function curlSnippet({ url, certificateFile }: SnippetTarget, order: SignedRequest): string {
  return [
    `curl --cacert ${quote(certificateFile)} ${url} \\`,
    `  -H 'content-type: application/json' \\`,
    `  -H 'x-flashbots-signature: ${order.signature}' \\`,
    `  -d ${quote(order.body.toString())}`,
  ].join('\n');
}

/** A Node program in a here-document; it runs where viem is installed, such as this project's directory. */
export function viemSnippet({ url, certificateFile }: SnippetTarget): string {
  return `NODE_EXTRA_CA_CERTS=${quote(certificateFile)} npx node --input-type=module <<'END'
import { keccak256, stringToHex } from 'viem';
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';

const account = privateKeyToAccount(generatePrivateKey());
const tx = await account.signTransaction({
  type: 'eip1559', chainId: 1, nonce: 0, gas: 21_000n, to: account.address, value: 1n,
  maxFeePerGas: 30_000_000_000n, maxPriorityFeePerGas: 1_000_000_000n,
});
const body = JSON.stringify({
  jsonrpc: '2.0', id: 1, method: 'eth_sendBundle', params: [{ txs: [tx], blockNumber: null }],
});
const signature = await account.signMessage({ message: keccak256(stringToHex(body)) });
const response = await fetch('${url}', {
  method: 'POST',
  headers: { 'content-type': 'application/json', 'x-flashbots-signature': \`\${account.address}:\${signature}\` },
  body,
});
console.log(await response.json());
END`;
}

function quote(text: string): string {
  return /^[\w./:@-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
