// Rows of {{table}} as they are: every column under its own name, typed.
//
// To compute a field, resolve what it is made of in `open` (`const name = table.column('name', kind.text)`), declare it there
// (`.field('name')`) and set it for each event (`{ name: row.get(name) }`).

import { defineTransform } from './streamsync.js';

export const transform = defineTransform({
  name: '{{name}}',
  version: '0.1.0',

  open(table) {
    const document = table.document().copy(...table.schema.columns.map((column) => column.name));
    return (row, changes) => changes.put(document);
  },
});
