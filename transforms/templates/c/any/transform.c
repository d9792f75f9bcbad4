// Rows of {{table}} as they are: every column under its own name, typed.
//
// To compute a field, resolve what it is made of in `open` (ss_column_of), declare it there (ss_add_field), and set it in `event`
// (ss_get_text, ss_put, ss_set_text).
#include "streamsync.h"

static void *open_rows(ss_table *table, const void *config) {
  (void)config;
  ss_document *row = ss_document_of(table);
  for (size_t i = 0; i < ss_column_count(table); i++) ss_copy(row, ss_c_string(ss_column_at(table, i).name));
  return row;
}

static void row_event(const void *state, ss_row *row) { ss_put(row, state); }

const ss_transform streamsync_transform = {.name = "{{name}}", .version = "0.1.0", .open = open_rows, .event = row_event};
