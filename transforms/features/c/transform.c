// All that an SDK can do, done once: see transforms/features/rust, which does the same.
#include "streamsync.h"

enum { KINDS = 15, INT = 1, DECIMAL = 4, TEXT = 5, JSON = 8 };

static const struct { const char *name; ss_kind kind; } KIND[KINDS] = {
  {"boolean", SS_BOOLEAN}, {"int", SS_INTEGER}, {"uint", SS_UNSIGNED}, {"double", SS_DOUBLE}, {"decimal", SS_DECIMAL},
  {"text", SS_TEXT}, {"bytes", SS_BYTES}, {"bits", SS_BITS}, {"json", SS_JSON}, {"geometry", SS_GEOMETRY},
  {"date", SS_DATE}, {"time", SS_TIME}, {"datetime", SS_DATETIME}, {"timestamp", SS_TIMESTAMP}, {"year", SS_INTEGER},
};

// What other languages make of objects and lists.
static const char NESTED[] = "{\"a\":[1,-2.5,\"é \\\"q\\\"\",true,null,{}],\"b\":{\"c\":[]}}";

typedef struct {
  ss_column what, text_before, typed[KINDS], any[KINDS];
  ss_document *all, *keyed, *whole;
  ss_field typed_field[KINDS], any_field[KINDS], op, offset, partition, changed_at, presence, part, value, everything;
  const struct config *config;
  ss_text key, targets; // the primary key's columns, and the route's targets, joined by commas
} features;

struct config {
  bool has_ratio, has_nested;
  double ratio;
  ss_text nested; // whatever it is
};

static void *configure(ss_config *settings) {
  struct config *c = ss_new(sizeof *c);
  c->has_ratio = ss_config_double(settings, "ratio", &c->ratio);
  c->has_nested = ss_config_json(settings, "nested", &c->nested);
  return c;
}

static void join(ss_text *list, ss_text name) {
  char *joined = ss_new(list->len + name.len + 1);
  size_t len = 0;
  if (list->len) {
    memcpy(joined, list->ptr, list->len);
    len = list->len;
    joined[len++] = ',';
  }
  memcpy(joined + len, name.ptr, name.len);
  *list = (ss_text){joined, len + name.len};
}

static const char *prefixed(char *buffer, const char *prefix, const char *name) { return strcat(strcpy(buffer, prefix), name); }

static void *open_features(ss_table *table, const void *config) {
  char name[32];
  features *f = ss_new(sizeof *f);
  f->config = config;
  for (size_t i = 0; i < ss_key_count(table); i++) join(&f->key, ss_key_at(table, i).name);
  for (size_t i = 0; i < ss_target_count(table); i++) join(&f->targets, ss_target_at(table, i).name);
  ss_see_deletes(table);
  f->what = ss_column_of(table, "what", SS_TEXT);
  f->text_before = ss_column_before(table, "f_text", SS_TEXT);
  for (int i = 0; i < KINDS; i++) f->typed[i] = ss_column_of(table, prefixed(name, "f_", KIND[i].name), KIND[i].kind);
  for (int i = 0; i < KINDS; i++) f->any[i] = ss_column_of(table, prefixed(name, "f_", KIND[i].name), SS_ANY);

  f->all = ss_document_of(table);
  ss_copy(f->all, "id");
  ss_copy_as(f->all, "f_text", SS_TEXT, "copied.text");
  for (int i = 0; i < KINDS; i++) f->typed_field[i] = ss_add_field(f->all, prefixed(name, "typed.", KIND[i].name));
  for (int i = 0; i < KINDS; i++) f->any_field[i] = ss_add_field(f->all, prefixed(name, "any.", KIND[i].name));
  f->op = ss_add_field(f->all, "meta.op");
  f->offset = ss_add_field(f->all, "meta.offset");
  f->partition = ss_add_field(f->all, "meta.partition");
  f->changed_at = ss_add_field(f->all, "meta.changed_at");
  f->presence = ss_add_field(f->all, "meta.presence");

  f->keyed = ss_document_for(table, "keyed", "nowhere", NULL);
  ss_key_copy(f->keyed, "id");
  f->part = ss_add_key(f->keyed, "part");
  ss_copy(f->keyed, "what");
  f->value = ss_add_field(f->keyed, "value");

  f->whole = ss_document_for(table, "whole", NULL);
  f->everything = ss_add_field(f->whole, "");
  return f;
}

// Each getter and setter once.
static void set_typed(ss_row *row, ss_column column, ss_kind kind, ss_field field) {
  union { bool boolean; int64_t integer; uint64_t number; double real; ss_text text; ss_bytes bytes; ss_date date; ss_time time;
          ss_datetime datetime; ss_timestamp timestamp; } v;
  switch (kind) {
  case SS_BOOLEAN: if (ss_get_boolean(row, column, &v.boolean)) { ss_set_boolean(row, field, v.boolean); return; } break;
  case SS_INTEGER: if (ss_get_int(row, column, &v.integer)) { ss_set_int(row, field, v.integer); return; } break;
  case SS_UNSIGNED: if (ss_get_unsigned(row, column, &v.number)) { ss_set_unsigned(row, field, v.number); return; } break;
  case SS_DOUBLE: if (ss_get_double(row, column, &v.real)) { ss_set_double(row, field, v.real); return; } break;
  case SS_DECIMAL: if (ss_get_decimal(row, column, &v.text)) { ss_set_decimal(row, field, v.text); return; } break;
  case SS_TEXT: if (ss_get_text(row, column, &v.text)) { ss_set_text(row, field, v.text); return; } break;
  case SS_BYTES: if (ss_get_bytes(row, column, &v.bytes)) { ss_set_bytes(row, field, v.bytes); return; } break;
  case SS_BITS: if (ss_get_bits(row, column, &v.bytes)) { ss_set_bits(row, field, v.bytes); return; } break;
  case SS_JSON: if (ss_get_json(row, column, &v.text)) { ss_set_json(row, field, v.text); return; } break;
  case SS_GEOMETRY: if (ss_get_geometry(row, column, &v.bytes)) { ss_set_geometry(row, field, v.bytes); return; } break;
  case SS_DATE: if (ss_get_date(row, column, &v.date)) { ss_set_date(row, field, v.date); return; } break;
  case SS_TIME: if (ss_get_time(row, column, &v.time)) { ss_set_time(row, field, v.time); return; } break;
  case SS_DATETIME: if (ss_get_datetime(row, column, &v.datetime)) { ss_set_datetime(row, field, v.datetime); return; } break;
  case SS_TIMESTAMP: if (ss_get_timestamp(row, column, &v.timestamp)) { ss_set_timestamp(row, field, v.timestamp); return; } break;
  default: break;
  }
  ss_set_null(row, field);
}

static void put_all(const features *f, ss_row *row) {
  static const char *const OPS[] = {"create", "update", "delete", "read"};
  ss_put(row, f->all);
  for (int i = 0; i < KINDS; i++) set_typed(row, f->typed[i], KIND[i].kind, f->typed_field[i]);
  for (int i = 0; i < KINDS; i++) {
    ss_value value;
    ss_get_value(row, f->any[i], &value);
    ss_set_value(row, f->any_field[i], value);
  }
  ss_set_text(row, f->op, ss_text_of(OPS[ss_row_op(row)]));
  ss_set_unsigned(row, f->offset, ss_offset(row));
  ss_set_int(row, f->partition, ss_partition(row));
  ss_set_int(row, f->changed_at, ss_changed_at(row));
  ss_kind presence = ss_presence(row, f->text_before);
  ss_set_text(row, f->presence, ss_text_of(presence == SS_ABSENT ? "absent" : presence == SS_NULL ? "null" : "present"));
}

static void put_from_minor(const features *f, ss_row *row) {
  const struct { ss_field field; unsigned digits; } TO[] = {{f->op, 0}, {f->presence, 2}, {f->partition, 20}};
  int64_t units;
  bool has_units = ss_get_int(row, f->typed[INT], &units);
  ss_put(row, f->all);
  for (size_t i = 0; i < sizeof TO / sizeof *TO; i++) {
    if (has_units) ss_set_decimal(row, TO[i].field, ss_from_minor_units(row, units, TO[i].digits));
    else ss_set_null(row, TO[i].field);
  }
}

static void put_keyed(const features *f, ss_row *row, const char *part) {
  ss_put(row, f->keyed);
  ss_set_text(row, f->part, ss_text_of(part));
}

static void feature_event(const void *state, ss_row *row) {
  const features *f = state;
  ss_text what, text, decimal;
  if (ss_row_op(row) == SS_DELETE) {
    ss_delete(row, f->all);
    put_keyed(f, row, "gone");
    set_typed(row, f->text_before, SS_TEXT, f->value);
    return;
  }
  if (!ss_get_text(row, f->what, &what)) return;
  if (ss_is(what, "all")) {
    put_all(f, row);
  } else if (ss_is(what, "ttl")) {
    put_keyed(f, row, "a");
    ss_ttl(row, 60);
    set_typed(row, f->typed[TEXT], SS_TEXT, f->value);
  } else if (ss_is(what, "two")) {
    put_keyed(f, row, "a");
    put_keyed(f, row, "b");
    ss_set_boolean(row, f->value, true);
    ss_put(row, f->all);
    ss_set_text(row, f->op, ss_text_of("two"));
  } else if (ss_is(what, "delete")) {
    ss_delete(row, f->keyed);
    ss_set_text(row, f->part, ss_text_of("a"));
  } else if (ss_is(what, "whole")) {
    ss_put(row, f->whole);
    set_typed(row, f->typed[JSON], SS_JSON, f->everything);
  } else if (ss_is(what, "nested")) {
    ss_put(row, f->whole);
    ss_set_json(row, f->everything, ss_text_of(NESTED));
  } else if (ss_is(what, "absent")) {
    ss_put(row, f->all);
    ss_set_absent(row, f->typed_field[INT]);
    ss_set_null(row, f->typed_field[TEXT]);
  } else if (ss_is(what, "minor")) {
    bool has_decimal = ss_get_decimal(row, f->typed[DECIMAL], &decimal);
    int64_t units = has_decimal ? ss_minor_units(row, decimal, 2) : 0;
    ss_put(row, f->all);
    if (has_decimal) ss_set_int(row, f->typed_field[INT], units);
    else ss_set_null(row, f->typed_field[INT]);
  } else if (ss_is(what, "from minor")) {
    put_from_minor(f, row);
  } else if (ss_is(what, "year")) {
    ss_put(row, f->all);
    ss_set_year(row, f->op, 2155);
  } else if (ss_is(what, "table")) {
    ss_put(row, f->all);
    ss_set_text(row, f->op, f->key);
    ss_set_text(row, f->presence, f->targets);
  } else if (ss_is(what, "config")) {
    ss_put(row, f->all);
    if (f->config->has_ratio) ss_set_double(row, f->op, f->config->ratio);
    else ss_set_null(row, f->op);
    if (f->config->has_nested) ss_set_json(row, f->presence, f->config->nested);
    else ss_set_null(row, f->presence);
  } else if (ss_is(what, "mistakes")) {
    ss_put(row, f->all);
    ss_set_text(row, f->op, ss_text_of(""));
  } else if (ss_is(what, "ttl alone")) {
    ss_ttl(row, 60);
  } else if (ss_is(what, "case")) {
    ss_get_text(row, f->typed[TEXT], &text);
    ss_put(row, f->all);
    ss_set_text(row, f->op, ss_trim(text));
    ss_set_text(row, f->presence, ss_upper(row, text));
    ss_set_text(row, f->partition, ss_lower(row, text));
  } else if (ss_is(what, "log")) {
    ss_log(SS_DEBUG, "debug");
    ss_log(SS_INFO, "info");
    ss_log(SS_WARN, "warn");
    ss_log(SS_ERROR, "error");
    ss_count("seen", 2);
    ss_count("seen", 3);
    ss_skip(row);
  } else if (ss_is(what, "skip")) {
    ss_skip(row);
  } else if (ss_is(what, "reject")) {
    ss_put(row, f->all);
    ss_set_text(row, f->op, ss_text_of("taken back"));
    ss_reject(row, "on-purpose", "é, on purpose");
  } else if (ss_is(what, "field of a delete")) {
    ss_delete(row, f->keyed);
    ss_set_text(row, f->part, ss_text_of("a"));
    ss_set_int(row, f->value, 1);
  }
}

const ss_transform streamsync_transform = {.name = "features", .version = "0.1.0", .configure = configure, .open = open_features, .event = feature_event};
