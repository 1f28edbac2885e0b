/** The two things used of @hono/node-server, in one place. */
export { getRequestListener } from '@hono/node-server';
export { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
