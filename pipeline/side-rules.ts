/**
 * What each side refuses and what it fills in: one table for the user API, one for the system API (protocol
 * section 4), one for sender mode. Rules that hold everywhere because they belong to a field's type are with
 * the types.
 *
 * Fields are canonical JSON text here; an empty text is an absent field.
 */
import type { EthSendBundleDraft } from './eth-send-bundle.ts';
import type { RefusalRow, RuleTable } from './fields.ts';
import { emptyMetadata, type MevSendBundleDraft } from './mev-send-bundle.ts';
import type { DecodeContext } from './order-context.ts';
import type { EthCancelBundleDraft } from './other-methods.ts';

/** The rules of one side, by method; eth_sendRawTransaction has none. */
export interface SideRules {
  readonly eth_sendBundle: RuleTable<EthSendBundleDraft, DecodeContext>;
  readonly mev_sendBundle: RuleTable<MevSendBundleDraft, DecodeContext>;
  readonly eth_cancelBundle: RuleTable<EthCancelBundleDraft, DecodeContext>;
  readonly bid_subsidiseBlock: RuleTable<null, DecodeContext>;
}

type BundleRefusal = RefusalRow<EthSendBundleDraft, DecodeContext>;

const isNotSet = (version: string): boolean => version === '' || version === '""';
const isKnown = (version: string): boolean => isNotSet(version) || version === '"v1"' || version === '"v2"';

/** Rules of eth_sendBundle that hold on every side. */
const BUNDLE_EVERYWHERE: readonly BundleRefusal[] = [
  { refuse: 'invalid version', when: ({ fields }) => !isKnown(fields.version) },
  {
    refuse: 'bundle with no txs',
    when: (draft, context) =>
      context.validation === 'strict' && draft.transactions === 0 && draft.fields.replacementUuid === '',
  },
  {
    refuse: 'refundPercent: not between 0 and 99',
    when: ({ fields }) => fields.refundPercent.length > 2,
  },
  { refuse: 'no more than one refund tx hash is allowed', when: (draft) => draft.refundTxHashes > 1 },
];

/** What a bundle of version v1 must not have on the system API. */
function notWithVersion1(isVersion1: (draft: EthSendBundleDraft) => boolean): readonly BundleRefusal[] {
  return [
    {
      refuse: 'dropping tx hashes field should not be set',
      when: (draft) => isVersion1(draft) && draft.fields.droppingTxHashes !== '',
    },
    {
      refuse: 'refund percent field should not be set',
      when: (draft) => isVersion1(draft) && draft.fields.refundPercent !== '',
    },
    {
      refuse: 'refund recipient field should not be set',
      when: (draft) => isVersion1(draft) && draft.fields.refundRecipient !== '',
    },
    {
      refuse: 'refund tx hashes field should not be set',
      when: (draft) => isVersion1(draft) && draft.fields.refundTxHashes !== '',
    },
  ];
}

/** Metadata as it must come from a node that has set it. */
const METADATA_SET: RuleTable<MevSendBundleDraft, DecodeContext> = {
  refusals: [
    { refuse: 'metadata: missing', when: ({ metadata }) => metadata === null },
    {
      refuse: 'metadata.signer: missing',
      when: ({ metadata }) => metadata !== null && metadata.signer === '',
    },
  ],
  fills: [],
};

const quoted = (context: DecodeContext): string => `"${context.signer}"`;
const unquoted = (uuid: string): string => uuid.slice(1, -1);
const always = (): boolean => true;

export const USER_RULES: SideRules = {
  eth_sendBundle: {
    refusals: [
      {
        refuse: 'signing address field should not be set',
        when: ({ fields }) => fields.signingAddress !== '',
      },
      ...BUNDLE_EVERYWHERE,
    ],
    fills: [
      {
        field: 'version',
        when: ({ fields }) => isNotSet(fields.version),
        fill: ({ fields }) => {
          fields.version = '"v2"';
        },
      },
      {
        field: 'replacementNonce',
        when: ({ fields }) => fields.replacementUuid !== '' && fields.replacementNonce === '',
        fill: ({ fields }, { receivedAtUs }) => {
          fields.replacementNonce = String(receivedAtUs);
        },
      },
      {
        field: 'signingAddress',
        when: always,
        fill: ({ fields }, context) => {
          fields.signingAddress = quoted(context);
        },
      },
    ],
  },
  mev_sendBundle: {
    refusals: [
      {
        refuse: 'mev share bundle should not contain metadata when sent to local endpoint',
        when: ({ metadata }) => metadata !== null,
      },
    ],
    fills: [
      {
        field: 'metadata',
        when: always,
        fill: (draft, context) => {
          const metadata = emptyMetadata();
          metadata.signer = quoted(context);
          const uuid = draft.fields.replacementUuid;
          if (uuid !== '') {
            const nonce = context.nonces.next(unquoted(uuid), context.signer, context.receivedAtUs);
            metadata.replacementNonce = String(nonce);
            if (draft.emptyBody) metadata.cancelled = 'true';
          }
          draft.metadata = metadata;
        },
      },
    ],
  },
  eth_cancelBundle: {
    refusals: [
      {
        refuse: 'signing address field should not be set',
        when: ({ fields }) => fields.signingAddress !== 'null',
      },
    ],
    fills: [
      {
        field: 'signingAddress',
        when: always,
        fill: ({ fields }, context) => {
          fields.signingAddress = quoted(context);
        },
      },
    ],
  },
  bid_subsidiseBlock: {
    refusals: [{ refuse: 'subsidy can only be called on system API', when: always }],
    fills: [],
  },
};

export const SYSTEM_RULES: SideRules = {
  eth_sendBundle: {
    refusals: [
      ...BUNDLE_EVERYWHERE,
      { refuse: 'version field should be set', when: ({ fields }) => isNotSet(fields.version) },
      ...notWithVersion1(({ fields }) => fields.version === '"v1"'),
    ],
    fills: [],
  },
  mev_sendBundle: METADATA_SET,
  eth_cancelBundle: { refusals: [], fills: [] },
  bid_subsidiseBlock: {
    refusals: [
      { refuse: 'subsidy can only be called by Flashbots', when: (_draft, context) => !context.isFlashbots },
    ],
    fills: [],
  },
};

/**
 * Orders of Flashbots' own infrastructure on their way to every builder's system API: what that would refuse
 * is refused here, a bundle without a version is one of v1.
 */
export const SENDER_RULES: SideRules = {
  eth_sendBundle: {
    refusals: [
      ...BUNDLE_EVERYWHERE,
      ...notWithVersion1(({ fields }) => isNotSet(fields.version) || fields.version === '"v1"'),
    ],
    fills: [
      {
        field: 'version',
        when: ({ fields }) => isNotSet(fields.version),
        fill: ({ fields }) => {
          fields.version = '"v1"';
        },
      },
      // Senders write 0 and mean no bound; v1's sender leaves it out too.
      {
        field: 'minTimestamp',
        when: ({ fields }) => fields.minTimestamp === '0',
        fill: ({ fields }) => {
          fields.minTimestamp = '';
        },
      },
      {
        field: 'maxTimestamp',
        when: ({ fields }) => fields.maxTimestamp === '0',
        fill: ({ fields }) => {
          fields.maxTimestamp = '';
        },
      },
    ],
  },
  mev_sendBundle: METADATA_SET,
  eth_cancelBundle: { refusals: [], fills: [] },
  bid_subsidiseBlock: { refusals: [], fills: [] },
};
