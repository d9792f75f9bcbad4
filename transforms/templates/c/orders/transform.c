// An order: its exact total and the same in minor units, its status in upper case, its times as dates, and whether it is still open.
//
// The route's `config` may name the statuses that are permitted; an order with another one is rejected.
#include "streamsync.h"

enum { MINOR_DIGITS = 2 }; // of a currency's minor unit: cents

// Statuses after which nothing happens to an order.
static const char *const CLOSED[] = {"CANCELED", "CANCELLED", "CLOSED", "COMPLETED", "DELIVERED", "FAILED", "REFUND", "REFUNDED", "REJECTED",
                                     "RETURNED", NULL};

static const char CONFIG_SCHEMA[] =
  "{\"$schema\": \"https://json-schema.org/draft/2020-12/schema\", \"type\": \"object\", \"properties\": {\"permitted_status\": {"
  "\"description\": \"The statuses that an order may have, in any case. Where it is missing, every status is permitted.\", "
  "\"type\": \"array\", \"items\": {\"type\": \"string\"}}}, \"additionalProperties\": false}";

typedef struct {
  bool restricted;          // else every status is permitted
  const ss_text *permitted; // as they are written
  size_t count;
} config;

typedef struct {
  const config *config;
  ss_column total, status;
  ss_document *order;
  ss_field total_minor, upper_status, open;
} orders;

static void *configure(ss_config *settings) {
  config *c = ss_new(sizeof *c);
  c->restricted = ss_config_texts(settings, "permitted_status", &c->permitted, &c->count);
  return c;
}

static void *open_orders(ss_table *table, const void *config) {
  orders *o = ss_new(sizeof *o);
  o->config = config;
  o->total = ss_column_of(table, "total_amount", SS_DECIMAL);
  o->status = ss_column_of(table, "status", SS_TEXT);
  o->order = ss_document_of(table);
  ss_copy(o->order, "order_id");
  ss_copy(o->order, "customer_id");
  ss_copy_as(o->order, "total_amount", SS_DECIMAL, "total");
  o->total_minor = ss_add_field(o->order, "total_minor");
  o->upper_status = ss_add_field(o->order, "status");
  o->open = ss_add_field(o->order, "open");
  ss_copy_as(o->order, "created_at", SS_MOMENT, "created_at");
  ss_copy_as(o->order, "updated_at", SS_MOMENT, "updated_at");
  return o;
}

static bool is_permitted(ss_row *row, const config *config, ss_text status) {
  if (!config->restricted) return true;
  for (size_t i = 0; i < config->count; i++) {
    if (ss_equal(ss_upper(row, ss_trim(config->permitted[i])), status)) return true;
  }
  return false;
}

static bool is_open(ss_text status) {
  for (const char *const *closed = CLOSED; *closed; closed++) {
    if (ss_is(status, *closed)) return false;
  }
  return true;
}

static void order_event(const void *state, ss_row *row) {
  const orders *o = state;
  ss_text total, status;
  int64_t minor = 0;
  bool has_total = ss_get_decimal(row, o->total, &total);
  if (has_total) minor = ss_minor_units(row, total, MINOR_DIGITS);
  bool has_status = ss_get_text(row, o->status, &status);
  if (has_status) {
    status = ss_upper(row, ss_trim(status));
    if (!is_permitted(row, o->config, status)) {
      ss_reject(row, "status-not-permitted", "the order's status is not among the route's permitted_status");
    }
  }

  ss_put(row, o->order);
  if (has_total) ss_set_int(row, o->total_minor, minor);
  else ss_set_null(row, o->total_minor);
  if (has_status) {
    ss_set_text(row, o->upper_status, status);
    ss_set_boolean(row, o->open, is_open(status));
  } else {
    ss_set_null(row, o->upper_status);
    ss_set_null(row, o->open);
  }
}

const ss_transform streamsync_transform = {
  .name = "{{name}}",
  .version = "0.1.0",
  .config_schema = CONFIG_SCHEMA,
  .configure = configure,
  .open = open_orders,
  .event = order_event,
};
