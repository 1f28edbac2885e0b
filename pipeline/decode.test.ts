/** Protocol section 4, row by row: what each method takes, refuses, fills in and writes, on each side. */
import { describe, expect, test } from 'vitest';
import { bundleUuid } from './bundle-uuid.ts';
import { decodeOrder } from './decode.ts';
import { Rejection } from './errors.ts';
import { MAX_FREE_TEXT } from './fields.ts';
import { parseRequest, RefusedRequest } from './json-rpc.ts';
import { keccak256Hex } from './keccak.ts';
import type { Order, Side } from './order.ts';
import type { DecodeContext } from './order-context.ts';
import { bodyOf, contextOf, recover, SIGNED } from './testing/random-orders.ts';
import { transactionHash } from './transaction.ts';

const SIGNER = contextOf().signer;
const UUID = '1f8a44c4-df81-5c43-c0f3-c58c79e20f75';
const ADDRESS = `0x${'ab'.repeat(20)}`;
const HASH = `0x${'cd'.repeat(32)}`;
const NOW = contextOf().receivedAtUs;
const [tx = '', , otherTx = ''] = SIGNED;
const hashOf = (hex: string) => transactionHash(Buffer.from(hex.slice(2), 'hex'));

function decode(method: string, param: unknown, context: Partial<DecodeContext> = {}): Order | Rejection {
  const text = typeof param === 'string' ? param : JSON.stringify(param);
  const request = parseRequest(bodyOf(method, text));
  return request instanceof RefusedRequest ? request.rejection : decodeOrder(request, contextOf(context));
}

function order(method: string, param: unknown, context: Partial<DecodeContext> = {}): Order {
  const result = decode(method, param, context);
  if (result instanceof Rejection) throw new Error(result.message);
  return result;
}

/** The canonical text of the one param. */
function canonical(method: string, param: unknown, context: Partial<DecodeContext> = {}): string {
  const text = order(method, param, context).canonical.toString();
  const head = `{"method":"${method}","params":[`;
  const tail = '],"id":0,"jsonrpc":"2.0"}';
  expect(text.startsWith(head) && text.endsWith(tail)).toBe(true);
  return text.slice(head.length, -tail.length);
}

function refusal(method: string, param: unknown, context: Partial<DecodeContext> = {}): string {
  const result = decode(method, param, context);
  if (!(result instanceof Rejection)) throw new Error('not refused');
  expect(result.kind).toBe('invalid_params');
  return result.message;
}

const user = { side: 'user' } as const;

describe('eth_sendBundle', () => {
  const bundle = { txs: [tx], version: 'v2' };

  test('every field in canonical order', () => {
    const param = `{"delayedRefund":true,"refundTxHashes":["${HASH.toUpperCase()}"],"refundRecipient":"${ADDRESS}","refundPercent":99,
      "uuid":"${UUID.toUpperCase()}","droppingTxHashes":["${HASH}","0x${'00'.repeat(32)}"],"refundIdentity":"${ADDRESS}",
      "signingAddress":"${ADDRESS}","replacementNonce":18446744073709551615,"version":"v2","revertingTxHashes":["${HASH}"],
      "maxTimestamp":2,"minTimestamp":1,"blockNumber":"0X3E8","txs":["${tx}"]}`;
    expect(canonical('eth_sendBundle', param)).toBe(
      `{"txs":["${tx}"],"blockNumber":"0x3e8","minTimestamp":1,"maxTimestamp":2,"revertingTxHashes":["${HASH}"],` +
        `"replacementUuid":"${UUID}","version":"v2","replacementNonce":18446744073709551615,"signingAddress":"${ADDRESS}",` +
        `"refundIdentity":"${ADDRESS}","droppingTxHashes":["0x${'00'.repeat(32)}","${HASH}"],"refundPercent":99,` +
        `"refundRecipient":"${ADDRESS}","refundTxHashes":["${HASH.toUpperCase()}"],"delayedRefund":true}`,
    );
  });

  test.each(['null', '"0x"'])('block %s is the next block', (block) => {
    expect(canonical('eth_sendBundle', `{"txs":["${tx}"],"version":"v2","blockNumber":${block}}`)).toBe(
      `{"txs":["${tx}"],"blockNumber":null,"version":"v2"}`,
    );
  });

  test.each([
    ['null', 'null'],
    ['[]', '[]'],
  ])('txs %s with a UUID is a cancellation', (txs, written) => {
    const param = `{"version":"v2","replacementUuid":"${UUID}","txs":${txs}}`;
    expect(canonical('eth_sendBundle', param)).toBe(
      `{"txs":${written},"blockNumber":null,"replacementUuid":"${UUID}","version":"v2"}`,
    );
    expect(order('eth_sendBundle', param).hash).toBe(`0x${keccak256Hex('')}`);
  });

  test('unlisted keys survive behind the listed ones', () => {
    const param = `{"targetSlots":[1.0, 2],"txs":["${tx}"],"desiredState":{"b":1,"a":2},"version":"v2"}`;
    expect(canonical('eth_sendBundle', param)).toBe(
      `{"txs":["${tx}"],"blockNumber":null,"version":"v2","targetSlots":[1.0,2],"desiredState":{"b":1,"a":2}}`,
    );
  });

  test('bundleHash is over the transaction hashes', () => {
    const hashes = Buffer.from(hashOf(tx) + hashOf(otherTx), 'hex');
    expect(order('eth_sendBundle', { txs: [tx, otherTx], version: 'v2' }).hash).toBe(
      `0x${keccak256Hex(hashes)}`,
    );
  });

  describe('on the user API', () => {
    test('version, nonce and signer are filled in', () => {
      expect(canonical('eth_sendBundle', { txs: [tx], replacementUuid: UUID }, user)).toBe(
        `{"txs":["${tx}"],"blockNumber":null,"replacementUuid":"${UUID}","version":"v2","replacementNonce":${NOW},"signingAddress":"${SIGNER}"}`,
      );
      expect(canonical('eth_sendBundle', { txs: [tx], version: '' }, user)).toBe(
        `{"txs":["${tx}"],"blockNumber":null,"version":"v2","signingAddress":"${SIGNER}"}`,
      );
    });

    test('what the user set stays', () => {
      expect(
        canonical('eth_sendBundle', { txs: [tx], uuid: UUID, version: 'v1', replacementNonce: 5 }, user),
      ).toBe(
        `{"txs":["${tx}"],"blockNumber":null,"replacementUuid":"${UUID}","version":"v1","replacementNonce":5,"signingAddress":"${SIGNER}"}`,
      );
    });

    test.each([
      [{ signingAddress: ADDRESS }, 'signing address field should not be set'],
      [{ version: 'v3' }, 'invalid version'],
    ])('refused: %j', (changes, message) => {
      expect(refusal('eth_sendBundle', { ...bundle, ...changes }, user)).toBe(message);
    });
  });

  describe('on the system API', () => {
    test.each([
      [{ version: undefined }, 'version field should be set'],
      [{ version: '' }, 'version field should be set'],
      [{ version: null }, 'version field should be set'],
      [{ version: 'V1' }, 'invalid version'],
      [{ version: 'v1', droppingTxHashes: [HASH] }, 'dropping tx hashes field should not be set'],
      [{ version: 'v1', refundPercent: 0 }, 'refund percent field should not be set'],
      [{ version: 'v1', refundRecipient: ADDRESS }, 'refund recipient field should not be set'],
      [{ version: 'v1', refundTxHashes: [HASH] }, 'refund tx hashes field should not be set'],
    ])('refused: %j', (changes, message) => {
      expect(refusal('eth_sendBundle', { ...bundle, ...changes })).toBe(message);
    });

    test('empty lists are no fields', () => {
      const param = {
        ...bundle,
        version: 'v1',
        droppingTxHashes: [],
        refundTxHashes: [],
        revertingTxHashes: [],
      };
      expect(canonical('eth_sendBundle', param)).toBe(`{"txs":["${tx}"],"blockNumber":null,"version":"v1"}`);
    });

    test('the order counts for the signer it names, else for who signed the request', () => {
      expect(order('eth_sendBundle', { ...bundle, signingAddress: ADDRESS }).signer).toBe(ADDRESS);
      expect(order('eth_sendBundle', bundle).signer).toBe(SIGNER);
    });
  });

  describe('from Flashbots on the way to the builders', () => {
    const sender = { side: 'sender' } as const;

    test('a bundle without a version is one of v1, times of 0 are none, the signer stays as it is', () => {
      const param = { txs: [tx], minTimestamp: 0, maxTimestamp: 0, signingAddress: ADDRESS };
      expect(canonical('eth_sendBundle', param, sender)).toBe(
        `{"txs":["${tx}"],"blockNumber":null,"version":"v1","signingAddress":"${ADDRESS}"}`,
      );
    });

    test('what the system API would refuse is refused', () => {
      expect(refusal('eth_sendBundle', { txs: [tx], refundPercent: 5 }, sender)).toBe(
        'refund percent field should not be set',
      );
      expect(refusal('mev_sendBundle', { body: [{ tx }] }, sender)).toBe('metadata: missing');
    });

    test('subsidies pass', () => {
      expect(canonical('bid_subsidiseBlock', '5', { ...sender, isFlashbots: false })).toBe('5');
    });
  });

  describe('on both', () => {
    const sides: readonly Side[] = ['user', 'system'];

    test.each([
      [{ refundPercent: 100 }, 'refundPercent: not between 0 and 99'],
      [{ refundTxHashes: [HASH, HASH] }, 'no more than one refund tx hash is allowed'],
      [{ uuid: UUID, replacementUuid: UUID }, 'one of uuid or replacementUuid fields should be empty'],
      [{ txs: Array(101).fill('not even hex') }, 'too many txs in bundle'],
      [{ txs: [] }, 'bundle with no txs'],
      [{ txs: null }, 'bundle with no txs'],
      [{ txs: [tx, '0x02'] }, 'txs[1]: RLP: too few elements'],
      [{ txs: [tx, '0x'] }, 'txs[1]: transaction is empty'],
      [{ txs: [1] }, 'txs[0]: not a string'],
      [{ TXS: [] }, 'txs: key appears in two spellings'],
      [{ blockNumber: 1 }, 'blockNumber: not a string'],
    ])('refused: %j', (changes, message) => {
      for (const side of sides)
        expect(refusal('eth_sendBundle', { ...bundle, ...changes }, { side })).toBe(message);
    });

    test('a null uuid is no uuid', () => {
      const param = `{"txs":["${tx}"],"version":"v2","uuid":null,"replacementUuid":"${UUID}"}`;
      expect(canonical('eth_sendBundle', param)).toContain(`"replacementUuid":"${UUID}"`);
    });

    test('a hundred transactions pass', () => {
      expect(canonical('eth_sendBundle', { txs: Array(100).fill(tx), version: 'v2' })).toContain(tx);
    });

    test('the transaction and the rule are named', () => {
      const other = contextOf({ side: 'user', chainId: 2n });
      expect(refusal('eth_sendBundle', bundle, other)).toBe(
        'txs[0]: chain id is not the one of this network (EIP-155)',
      );
    });

    test('validation off: any bytes, and neither txs nor UUID', () => {
      for (const side of sides) {
        const off = { side, validation: 'off', chainId: 2n } as const;
        expect(order('eth_sendBundle', { ...bundle, txs: ['0x0102030405060708', '0x'] }, off).hash).toBe(
          `0x${keccak256Hex(Buffer.from(keccak256Hex(Buffer.from('0102030405060708', 'hex')) + keccak256Hex(''), 'hex'))}`,
        );
        expect(canonical('eth_sendBundle', { version: 'v2' }, off)).toContain(
          '{"txs":null,"blockNumber":null',
        );
        expect(refusal('eth_sendBundle', { ...bundle, txs: ['0x1'] }, off)).toBe(
          'txs[0]: hex string of odd length',
        );
      }
    });
  });
});

describe('mev_sendBundle', () => {
  const metadata = { signer: ADDRESS };
  const bundle = { version: 'v0.1', inclusion: { block: '0x1' }, body: [{ tx }], metadata };
  const inner = (body: unknown) => ({ bundle: { version: 'v0.1', inclusion: {}, body } });

  test('every field in canonical order', () => {
    const param = `{"privacy":{ "hints":["\\u0041<"] },"metadata":{"cancelled":false,"replacementNonce":-3,"signer":"${ADDRESS}","x":1},
      "validity":{"refundConfig":[{"percent":1,"address":"${ADDRESS}"}],"refund":[{"percent":90,"bodyIdx":0,"y":2}],"z":[]},
      "body":[{"revertMode":"allow","canRevert":true,"tx":"${tx}","w":{}},{"canRevert":false,"revertMode":"","bundle":{"body":null,"v":0}}],
      "inclusion":{"maxBlock":"0X2","block":"0x1","u":null},"replacementUuid":"${UUID}","version":"v0.1"}`;
    expect(canonical('mev_sendBundle', param, { validation: 'off' })).toBe(
      `{"version":"v0.1","replacementUuid":"${UUID}","inclusion":{"block":"0x1","maxBlock":"0x2","u":null},` +
        `"body":[{"tx":"${tx}","canRevert":true,"revertMode":"allow","w":{}},` +
        `{"bundle":{"version":"","inclusion":{"block":"0x0","maxBlock":"0x0"},"body":null,"validity":{},"v":0}}],` +
        `"validity":{"refund":[{"bodyIdx":0,"percent":90,"y":2}],"refundConfig":[{"address":"${ADDRESS}","percent":1}],"z":[]},` +
        `"metadata":{"signer":"${ADDRESS}","replacementNonce":-3,"cancelled":false,"x":1},"privacy":{"hints":["\\u0041\\u003c"]}}`,
    );
  });

  test('absent objects are written', () => {
    expect(canonical('mev_sendBundle', { metadata, replacementUuid: UUID })).toBe(
      `{"version":"","replacementUuid":"${UUID}","inclusion":{"block":"0x0","maxBlock":"0x0"},"body":null,"validity":{},"metadata":{"signer":"${ADDRESS}"}}`,
    );
  });

  test('bundleHash counts a bundle inside with its own', () => {
    const insideHash = keccak256Hex(Buffer.from(hashOf(otherTx) + hashOf(tx), 'hex'));
    const hash = keccak256Hex(Buffer.from(hashOf(tx) + insideHash + hashOf(otherTx), 'hex'));
    const body = [{ tx }, inner([{ tx: otherTx }, { tx }]), { tx: otherTx }];
    expect(order('mev_sendBundle', { ...bundle, body }).hash).toBe(`0x${hash}`);
  });

  test.each(['strict', 'off'] as const)('refused on both sides, %s', (validation) => {
    for (const side of ['user', 'system'] as const) {
      const base = { ...bundle, metadata: side === 'user' ? undefined : metadata };
      const refused = (changes: object) =>
        refusal('mev_sendBundle', { ...base, ...changes }, { side, validation });
      expect(refused({ body: [] })).toBe('bundle with no txs');
      expect(refused({ body: null })).toBe('bundle with no txs');
      expect(refused({ body: [inner([inner([{ tx }])])] })).toBe('mev bundle too deep');
      expect(refused({ body: [{ hash: HASH }] })).toBe('mev bundle with unmatched tx');
      expect(refused({ body: [inner([{ hash: HASH }])] })).toBe('mev bundle with unmatched tx');
      expect(refused({ body: [{ tx }, { tx: '0x1234' }] })).toBe(
        'body[1].tx: transaction type not supported',
      );
      expect(refused({ body: [{ tx }, inner([{ tx: '0x02' }])] })).toBe(
        'body[1].bundle.body[0].tx: RLP: too few elements',
      );
      expect(refused({ body: [{ tx }, null] })).toBe('body[1]: not an object');
      expect(refused({ body: {} })).toBe('body: not a list');
      expect(refused({ body: Array.from({ length: 101 }, () => ({ tx })) })).toBe('too many txs in bundle');
      const ten = Array.from({ length: 10 }, () => ({ tx }));
      const tenTimes = ten.map(() => inner(ten));
      expect(refused({ body: [...tenTimes, { tx }] })).toBe('too many txs in bundle');
      expect(refused({ inclusion: { block: '0x' } })).toBe('inclusion.block: hex number without digits');
      expect(refused({ validity: { refund: [{ bodyIdx: 1.5 }] } })).toBe(
        'validity.refund[0].bodyIdx: not an integer',
      );
      expect(refused({ body: [{ tx, Tx: tx }] })).toBe('body[0].tx: key appears in two spellings');
    }
  });

  test('strict: rules hold for every tx, an element is a tx or a bundle', () => {
    const strict = (body: unknown, chainId = 1n) =>
      refusal('mev_sendBundle', { ...bundle, body }, { chainId });
    expect(strict([inner([{ tx }])], 2n)).toBe(
      'body[0].bundle.body[0].tx: chain id is not the one of this network (EIP-155)',
    );
    expect(strict([{}])).toBe('body[0]: needs either tx or bundle');
    expect(strict([{ tx, ...inner([]) }])).toBe('body[0]: needs either tx or bundle');
  });

  test('off: as v1, which counts the bundle and passes over a tx beside it', () => {
    const off = { validation: 'off', chainId: 2n } as const;
    const both = { tx: '0x1234', ...inner([{ tx }]) };
    const insideHash = keccak256Hex(Buffer.from(hashOf(tx), 'hex'));
    expect(order('mev_sendBundle', { ...bundle, body: [{}, both] }, off).hash).toBe(
      `0x${keccak256Hex(Buffer.from(insideHash, 'hex'))}`,
    );
    expect(canonical('mev_sendBundle', { ...bundle, body: [{}, both] }, off)).toContain(
      '"body":[{},{"tx":"0x1234","bundle":{',
    );
  });

  describe('on the user API', () => {
    const mine = { ...bundle, metadata: undefined };

    test('the signer is filled in', () => {
      expect(canonical('mev_sendBundle', mine, user)).toContain(
        `"validity":{},"metadata":{"signer":"${SIGNER}"}}`,
      );
    });

    test('with a UUID nonces count on, for accepted orders only; an empty body cancels', () => {
      const context = contextOf(user);
      const withUuid = { ...mine, replacementUuid: UUID.toUpperCase() };
      expect(canonical('mev_sendBundle', withUuid, context)).toContain(
        `"metadata":{"signer":"${SIGNER}","replacementNonce":0}`,
      );
      expect(refusal('mev_sendBundle', { ...withUuid, body: [{ tx: '0x' }] }, context)).toBe(
        'body[0].tx: transaction is empty',
      );
      expect(canonical('mev_sendBundle', { ...withUuid, body: [] }, context)).toContain(
        `"metadata":{"signer":"${SIGNER}","replacementNonce":1,"cancelled":true}`,
      );
      const otherSigner = { ...context, signer: contextOf({ signer: `0x${'77'.repeat(20)}` }).signer };
      expect(canonical('mev_sendBundle', withUuid, otherSigner)).toContain('"replacementNonce":0}');
    });

    test.each([metadata, {}, { signer: null }])('metadata %j is refused', (sent) => {
      expect(refusal('mev_sendBundle', { ...mine, metadata: sent }, user)).toBe(
        'mev share bundle should not contain metadata when sent to local endpoint',
      );
    });
  });

  test.each([
    [undefined, 'metadata: missing'],
    [null, 'metadata: missing'],
    [{}, 'metadata.signer: missing'],
    [{ signer: null, cancelled: true }, 'metadata.signer: missing'],
    [{ signer: 5 }, 'metadata.signer: not a string'],
    [[], 'metadata: not an object'],
  ])('on the system API metadata %j is refused', (sent, message) => {
    expect(refusal('mev_sendBundle', { ...bundle, metadata: sent })).toBe(message);
  });
});

describe('eth_cancelBundle', () => {
  test('on the user API the signer is filled in and must not be sent', () => {
    expect(canonical('eth_cancelBundle', { replacementUuid: UUID }, user)).toBe(
      `{"replacementUuid":"${UUID}","signingAddress":"${SIGNER}"}`,
    );
    expect(refusal('eth_cancelBundle', { replacementUuid: UUID, signingAddress: ADDRESS }, user)).toBe(
      'signing address field should not be set',
    );
  });

  test('on the system API it is kept', () => {
    expect(canonical('eth_cancelBundle', { signingAddress: ADDRESS, replacementUuid: UUID })).toBe(
      `{"replacementUuid":"${UUID}","signingAddress":"${ADDRESS}"}`,
    );
    expect(canonical('eth_cancelBundle', { replacementUuid: UUID })).toBe(
      `{"replacementUuid":"${UUID}","signingAddress":null}`,
    );
    expect(order('eth_cancelBundle', { replacementUuid: UUID, signingAddress: ADDRESS })).toMatchObject({
      key: null,
      hash: null,
      signer: ADDRESS,
    });
    expect(order('eth_cancelBundle', { replacementUuid: UUID }).signer).toBe(SIGNER);
  });

  test('it names the UUID', () => {
    expect(refusal('eth_cancelBundle', {})).toBe('replacementUuid: missing');
    expect(refusal('eth_cancelBundle', [])).toBe('params[0]: not an object');
  });
});

describe('eth_sendRawTransaction', () => {
  test('the data as it is, the hash as the result', () => {
    expect(canonical('eth_sendRawTransaction', `"${tx.toUpperCase()}"`, user)).toBe(`"${tx}"`);
    expect(order('eth_sendRawTransaction', `"${tx}"`)).toMatchObject({
      hash: `0x${hashOf(tx)}`,
      signer: SIGNER,
    });
  });

  test('strict and off', () => {
    expect(refusal('eth_sendRawTransaction', '"0x0102"')).toBe('params[0]: payload is not a list');
    expect(refusal('eth_sendRawTransaction', `"${tx}"`, { chainId: 5n })).toBe(
      'params[0]: chain id is not the one of this network (EIP-155)',
    );
    expect(canonical('eth_sendRawTransaction', '"0x0102"', { validation: 'off' })).toBe('"0x0102"');
    expect(refusal('eth_sendRawTransaction', '5', { validation: 'off' })).toBe('params[0]: not a string');
  });
});

describe('bid_subsidiseBlock', () => {
  test('a u64, from Flashbots, on the system API', () => {
    expect(canonical('bid_subsidiseBlock', '18446744073709551615')).toBe('18446744073709551615');
    expect(refusal('bid_subsidiseBlock', '5', { isFlashbots: false })).toBe(
      'subsidy can only be called by Flashbots',
    );
    expect(refusal('bid_subsidiseBlock', '5', user)).toBe('subsidy can only be called on system API');
    expect(refusal('bid_subsidiseBlock', 'null')).toBe('params[0]: not an unsigned integer');
  });
});

describe('hashes and keys', () => {
  const bundle = { txs: [tx], version: 'v2', signingAddress: ADDRESS };

  test('an order that names its signer has one key, whoever sent it on', () => {
    const key = (signer: `0x${string}`) => order('eth_sendBundle', bundle, { signer }).key;
    expect(key(`0x${'01'.repeat(20)}`)).toBe(key(`0x${'02'.repeat(20)}`));
    expect(order('eth_sendBundle', { ...bundle, signingAddress: SIGNER }).key).not.toBe(key(SIGNER));
  });

  test.each([
    ['eth_sendRawTransaction', `"${tx}"`],
    ['eth_sendBundle', `{"txs":["${tx}"],"version":"v2"}`],
    ['bid_subsidiseBlock', '1'],
  ])('of %s without a signer the key covers who signed the request', (method, param) => {
    const key = (signer: `0x${string}`) => order(method, param, { signer }).key;
    expect(key(`0x${'01'.repeat(20)}`)).toMatch(/^[0-9a-f]{64}$/);
    expect(key(`0x${'01'.repeat(20)}`)).not.toBe(key(`0x${'02'.repeat(20)}`));
  });

  test('every field is in the key', () => {
    const variants = [
      bundle,
      { ...bundle, blockNumber: '0x1' },
      { ...bundle, minTimestamp: 1 },
      { ...bundle, maxTimestamp: 1 },
      { ...bundle, refundIdentity: ADDRESS },
      { ...bundle, delayedRefund: false },
      { ...bundle, refundTxHashes: ['0xAB'] },
      { ...bundle, refundTxHashes: ['0xab'] },
      { ...bundle, targetSlots: [1] },
    ];
    expect(new Set(variants.map((variant) => order('eth_sendBundle', variant).key)).size).toBe(
      variants.length,
    );
  });
});

test('free text has a bound, and what a user may send a peer takes', () => {
  const refusedText = 'too much free text in one request';
  const bundle = (version: string, more: object) => ({ txs: [tx], version, ...more });
  const most = '<'.repeat(MAX_FREE_TEXT - 20);
  for (const more of [{ targetSlots: most }, { refundTxHashes: [most] }]) {
    const sent = order('eth_sendBundle', bundle('v2', more), user);
    const kept = parseRequest(sent.canonical);
    if (kept instanceof RefusedRequest) throw new Error(kept.rejection.message);
    expect(decodeOrder(kept, contextOf())).toMatchObject({ canonical: sent.canonical });
  }
  const tooMuch = '<'.repeat(MAX_FREE_TEXT);
  expect(refusal('eth_sendBundle', bundle('v2', { targetSlots: tooMuch }), user)).toBe(
    `params[0]: ${refusedText}`,
  );
  expect(refusal('eth_sendBundle', bundle('v2', { refundTxHashes: [tooMuch] }), user)).toBe(
    `refundTxHashes[0]: ${refusedText}`,
  );
  expect(refusal('mev_sendBundle', { body: [{ tx }], privacy: [tooMuch] }, user)).toBe(
    `privacy: ${refusedText}`,
  );
  expect(refusal('mev_sendBundle', { body: [{ tx, revertMode: tooMuch }] }, user)).toBe(
    `body[0].revertMode: ${refusedText}`,
  );
});

test('no refusal shows what was sent', () => {
  const secret = 'deadbeefcafe';
  const bodies = [
    { txs: [secret], version: 'v2' },
    { txs: [`0x${secret}`], version: 'v2' },
    { txs: [tx], version: secret },
    { txs: [tx], version: 'v2', replacementUuid: secret },
    { txs: [tx], version: 'v2', minTimestamp: secret },
    { txs: [tx], version: 'v2', signingAddress: `0x${secret}` },
    { txs: [tx], version: 'v2', [secret]: 'a'.repeat(2_000_000) },
  ];
  for (const body of bodies) expect(refusal('eth_sendBundle', body)).not.toContain(secret);
});

describe('the id rbuilder gives a bundle', () => {
  const id = (param: unknown) =>
    bundleUuid(order('eth_sendBundle', param, { validation: 'off' }).canonical, recover);

  test('a refund without recipient goes to the first sender', () => {
    const refund = { txs: [tx], version: 'v2', refundPercent: 10 };
    expect(id(refund)).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(id(refund)).toBe(id({ ...refund, refundTxHashes: [`0x${hashOf(tx)}`] }));
    expect(id(refund)).not.toBe(id({ ...refund, refundRecipient: ADDRESS }));
  });

  test.each([
    [{ txs: [], version: 'v2', refundPercent: 10 }, 'bundle with no txs'],
    [{ txs: ['0x01'], version: 'v2', refundPercent: 10 }, 'txs[0]: RLP: too few elements'],
  ])('refused: %j', (param, message) => {
    expect(id(param)).toHaveProperty('message', message);
  });

  test('other orders have none', () => {
    expect(
      bundleUuid(order('eth_cancelBundle', { replacementUuid: UUID }).canonical, recover),
    ).toHaveProperty('message', 'only eth_sendBundle orders have a bundle UUID');
    expect(bundleUuid(Buffer.from('{'), recover)).toHaveProperty('kind', 'parse_error');
  });
});
