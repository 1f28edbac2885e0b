/**
 * MRTD: what the TDX module measures of the firmware when a trust domain is built (Intel TDX Module ABI: TDH.MNG.INIT,
 * TDH.MEM.PAGE.ADD, TDH.MR.EXTEND; layout from the TDVF descriptor in the firmware file). Not compared with hardware
 * here, and clouds use a firmware of their own.
 */
import { createHash } from 'node:crypto';

interface FirmwareSection {
  /** In the file. */
  readonly dataOffset: number;
  readonly dataSize: number;
  /** In guest memory. */
  readonly address: bigint;
  readonly size: number;
  readonly type: number;
  readonly extended: boolean;
}

const PAGE = 4096;
const CHUNK = 256;
/** TDX metadata offset, E47A6535-984A-4798-865E-4685A7BF8EC2, as bytes in the table at the end of the firmware. */
const METADATA_GUID = Buffer.from('35657ae44a989847865e4685a7bf8ec2', 'hex');
const EXTEND = 1;
/** Memory of TD HOB and temporary memory: added, never extended. */
const DESCRIPTOR_SIGNATURE = 'TDVF';

/** @throws Error when the firmware is not made for TDX */
function firmwareSections(firmware: Buffer): FirmwareSection[] {
  const guid = firmware.lastIndexOf(METADATA_GUID);
  if (guid < 0) throw new Error('the firmware has no TDX metadata');
  // Before the GUID: length of the entry (2 bytes), before that its data: distance of the descriptor from the end.
  const descriptor = firmware.length - firmware.readUInt32LE(guid - 6);
  if (firmware.toString('latin1', descriptor, descriptor + 4) !== DESCRIPTOR_SIGNATURE) {
    throw new Error('the TDX metadata of the firmware is damaged');
  }
  return Array.from({ length: firmware.readUInt32LE(descriptor + 12) }, (_, index) => {
    const at = descriptor + 16 + index * 32;
    return {
      dataOffset: firmware.readUInt32LE(at),
      dataSize: firmware.readUInt32LE(at + 4),
      address: firmware.readBigUInt64LE(at + 8),
      size: Number(firmware.readBigUInt64LE(at + 16)),
      type: firmware.readUInt32LE(at + 24),
      extended: (firmware.readUInt32LE(at + 28) & EXTEND) !== 0,
    };
  });
}

/**
 * @param order `page`: each page is added, then extended (QEMU/KVM); `twice`: all pages of a section are added first
 * @returns 96 hex digits
 */
export function mrtd(firmware: Buffer, order: 'page' | 'twice'): string {
  const hash = createHash('sha384');
  const add = (address: bigint): void => {
    const record = Buffer.alloc(128);
    record.write('MEM.PAGE.ADD', 'latin1');
    record.writeBigUInt64LE(address, 16);
    hash.update(record);
  };
  const extend = (section: FirmwareSection, page: number): void => {
    for (let offset = page; offset < page + PAGE; offset += CHUNK) {
      const record = Buffer.alloc(128);
      record.write('MR.EXTEND', 'latin1');
      record.writeBigUInt64LE(section.address + BigInt(offset), 16);
      hash.update(record);
      const chunk = Buffer.alloc(CHUNK);
      const end = Math.min(offset + CHUNK, section.dataSize, firmware.length - section.dataOffset);
      if (offset < end) firmware.copy(chunk, 0, section.dataOffset + offset, section.dataOffset + end);
      hash.update(chunk);
    }
  };
  for (const section of firmwareSections(firmware)) {
    for (let page = 0; page < section.size; page += PAGE) {
      add(section.address + BigInt(page));
      if (section.extended && order === 'page') extend(section, page);
    }
    if (section.extended && order === 'twice') {
      for (let page = 0; page < section.size; page += PAGE) extend(section, page);
    }
  }
  return hash.digest('hex');
}
