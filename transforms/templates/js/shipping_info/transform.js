// A shipment: where it goes, its method in lower case and its status in upper case, both trimmed, the day on which it should arrive, and
// whether it is still under way.

import { defineTransform, kind, trim } from './streamsync.js';

// Statuses after which a shipment no longer moves.
const ARRIVED_OR_GIVEN_UP = new Set(['CANCELED', 'CANCELLED', 'DELIVERED', 'FAILED', 'LOST', 'RETURNED']);

export const transform = defineTransform({
  name: '{{name}}',
  version: '0.1.0',

  open(table) {
    const methodColumn = table.column('shipping_method', kind.text);
    const statusColumn = table.column('status', kind.text);
    const shipment = table.document()
      .copy('shipping_id', 'order_id')
      .copyAs('shipping_address', 'address', kind.text)
      .field('method', 'status', 'under_way')
      .copyAs('estimated_delivery', 'estimated_delivery', kind.date);

    return (row, changes) => {
      let method = row.get(methodColumn);
      let status = row.get(statusColumn);
      if (method !== null) method = trim(method).toLowerCase();
      if (status !== null) status = trim(status).toUpperCase();
      const underWay = status === null ? null : !ARRIVED_OR_GIVEN_UP.has(status);
      changes.put(shipment, { method, status, under_way: underWay });
    };
  },
});
