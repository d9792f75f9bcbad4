// A customer: the name trimmed, the email trimmed and in lower case, the address as it is, the day and time of creation as a date.

import { defineTransform, kind, trim } from './streamsync.js';

export const transform = defineTransform({
  name: '{{name}}',
  version: '0.1.0',

  open(table) {
    const nameColumn = table.column('name', kind.text);
    const emailColumn = table.column('email', kind.text);
    const customer = table.document()
      .copy('customer_id')
      .field('name', 'email')
      .copy('address')
      .copyAs('created_at', 'created_at', kind.moment);

    return (row, changes) => {
      const name = row.get(nameColumn);
      const email = row.get(emailColumn);
      changes.put(customer, {
        name: name === null ? null : trim(name),
        email: email === null ? null : trim(email).toLowerCase(),
      });
    };
  },
});
