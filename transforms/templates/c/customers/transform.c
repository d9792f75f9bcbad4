// A customer: the name trimmed, the email trimmed and in lower case, the address as it is, the day and time of creation as a date.
#include "streamsync.h"

typedef struct {
  ss_column name, email;
  ss_document *customer;
  ss_field trimmed_name, lower_email;
} customers;

static void *open_customers(ss_table *table, const void *config) {
  (void)config;
  customers *c = ss_new(sizeof *c);
  c->name = ss_column_of(table, "name", SS_TEXT);
  c->email = ss_column_of(table, "email", SS_TEXT);
  c->customer = ss_document_of(table);
  ss_copy(c->customer, "customer_id");
  c->trimmed_name = ss_add_field(c->customer, "name");
  c->lower_email = ss_add_field(c->customer, "email");
  ss_copy(c->customer, "address");
  ss_copy_as(c->customer, "created_at", SS_MOMENT, "created_at");
  return c;
}

static void customer_event(const void *state, ss_row *row) {
  const customers *c = state;
  ss_text name, email;
  bool has_name = ss_get_text(row, c->name, &name);
  bool has_email = ss_get_text(row, c->email, &email);

  ss_put(row, c->customer);
  if (has_name) ss_set_text(row, c->trimmed_name, ss_trim(name));
  else ss_set_null(row, c->trimmed_name);
  if (has_email) ss_set_text(row, c->lower_email, ss_lower(row, ss_trim(email)));
  else ss_set_null(row, c->lower_email);
}

const ss_transform streamsync_transform = {.name = "{{name}}", .version = "0.1.0", .open = open_customers, .event = customer_event};
