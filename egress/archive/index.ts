/** The archive as the rest of the node sees it. Reading it back: walk.ts and the commands (main.ts). */
export type { Done } from './batch.ts';
export { type Checkpoints, startCheckpoints } from './checkpoints.ts';
export type { GateEvents, GateReason, SpoolError } from './gate.ts';
export { openSpool, type SpoolModules } from './open.ts';
export { type ArchivableOrder, type Archive, spoolArchive } from './outlet.ts';
export { recentOrders } from './recent.ts';
export type { RecoveryEvents } from './recover.ts';
export type { KafkaOptions } from './shipping/kafka-client.ts';
export type { ShipperEvents, ShipperOptions } from './shipping/shipper.ts';
export { type Shipping, type ShippingState, startShipping } from './shipping/thread.ts';
export { SPOOL_DEFAULTS, type Spool, type SpoolEvents, type SpoolOptions, type SpoolState } from './spool.ts';
