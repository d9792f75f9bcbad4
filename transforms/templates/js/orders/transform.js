// An order: its exact total and the same in minor units, its status in upper case, its times as dates, and whether it is still open.
//
// The route's `config` may name the statuses that are permitted; an order with another one is rejected.

import { ConfigError, Reject, defineTransform, kind, trim } from './streamsync.js';

const MINOR_DIGITS = 2; // of a currency's minor unit: cents

// Statuses after which nothing happens to an order.
const CLOSED = new Set([
  'CANCELED', 'CANCELLED', 'CLOSED', 'COMPLETED', 'DELIVERED', 'FAILED', 'REFUND', 'REFUNDED', 'REJECTED', 'RETURNED',
]);

export const transform = defineTransform({
  name: '{{name}}',
  version: '0.1.0',
  configSchema: JSON.stringify({
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    type: 'object',
    properties: {
      permitted_status: {
        description: 'The statuses that an order may have, in any case. Where it is missing, every status is permitted.',
        type: 'array',
        items: { type: 'string' },
      },
    },
    additionalProperties: false,
  }),

  /** The permitted statuses, trimmed and in upper case, or null where all are. */
  readConfig({ permitted_status: permitted = null, ...others }) {
    for (const name in others) throw new ConfigError(`there is no setting "${name}"`);
    if (permitted === null) return null;
    if (!Array.isArray(permitted) || !permitted.every((status) => typeof status === 'string')) {
      throw new ConfigError('"permitted_status" is no list of texts');
    }
    return new Set(permitted.map((status) => trim(status).toUpperCase()));
  },

  open(table, permitted) {
    const totalAmount = table.column('total_amount', kind.decimal);
    const statusColumn = table.column('status', kind.text);
    const order = table.document()
      .copy('order_id', 'customer_id')
      .copyAs('total_amount', 'total', kind.decimal)
      .field('total_minor', 'status', 'open')
      .copyAs('created_at', 'created_at', kind.moment)
      .copyAs('updated_at', 'updated_at', kind.moment);

    return (row, changes) => {
      const total = row.get(totalAmount);
      const minor = total === null ? null : total.minorUnits(MINOR_DIGITS);
      let status = row.get(statusColumn);
      if (status !== null) {
        status = trim(status).toUpperCase();
        if (permitted !== null && !permitted.has(status)) {
          throw new Reject('status-not-permitted', 'the order\'s status is not among the route\'s permitted_status');
        }
      }
      const open = status === null ? null : !CLOSED.has(status);
      changes.put(order, { total_minor: minor, status, open });
    };
  },
});
