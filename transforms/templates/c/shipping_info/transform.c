// A shipment: where it goes, its method in lower case and its status in upper case, both trimmed, the day on which it should arrive, and
// whether it is still under way.
#include "streamsync.h"

// Statuses after which a shipment no longer moves.
static const char *const ARRIVED_OR_GIVEN_UP[] = {"CANCELED", "CANCELLED", "DELIVERED", "FAILED", "LOST", "RETURNED", NULL};

typedef struct {
  ss_column method, status;
  ss_document *shipment;
  ss_field lower_method, upper_status, under_way;
} shipments;

static void *open_shipments(ss_table *table, const void *config) {
  (void)config;
  shipments *s = ss_new(sizeof *s);
  s->method = ss_column_of(table, "shipping_method", SS_TEXT);
  s->status = ss_column_of(table, "status", SS_TEXT);
  s->shipment = ss_document_of(table);
  ss_copy(s->shipment, "shipping_id");
  ss_copy(s->shipment, "order_id");
  ss_copy_as(s->shipment, "shipping_address", SS_TEXT, "address");
  s->lower_method = ss_add_field(s->shipment, "method");
  s->upper_status = ss_add_field(s->shipment, "status");
  s->under_way = ss_add_field(s->shipment, "under_way");
  ss_copy_as(s->shipment, "estimated_delivery", SS_DATE, "estimated_delivery");
  return s;
}

static bool is_under_way(ss_text status) {
  for (const char *const *ended = ARRIVED_OR_GIVEN_UP; *ended; ended++) {
    if (ss_is(status, *ended)) return false;
  }
  return true;
}

static void shipment_event(const void *state, ss_row *row) {
  const shipments *s = state;
  ss_text method, status;
  bool has_method = ss_get_text(row, s->method, &method);
  bool has_status = ss_get_text(row, s->status, &status);

  ss_put(row, s->shipment);
  if (has_method) ss_set_text(row, s->lower_method, ss_lower(row, ss_trim(method)));
  else ss_set_null(row, s->lower_method);
  if (has_status) {
    status = ss_upper(row, ss_trim(status));
    ss_set_text(row, s->upper_status, status);
    ss_set_boolean(row, s->under_way, is_under_way(status));
  } else {
    ss_set_null(row, s->upper_status);
    ss_set_null(row, s->under_way);
  }
}

const ss_transform streamsync_transform = {.name = "{{name}}", .version = "0.1.0", .open = open_shipments, .event = shipment_event};
