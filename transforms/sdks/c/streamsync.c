// The other half of streamsync.h, which says how it is used. It comes with the engine and is not meant to be edited.
#include "streamsync.h"

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <wctype.h>

#define CONTRACT "streamsync:transform/transform@0.1.0#"
#define LOG_MODULE "streamsync:transform/log@0.1.0"
#define METRICS_MODULE "streamsync:transform/metrics@0.1.0"
#define EVENT_BYTES 24
#define STEP_BYTES 16
enum { TAG_AFTER = 32, TAG_BEFORE = 33 };
enum { PUT, DELETE, SKIP, REJECT };

// --- Memory

void *ss_new(size_t size) {
  void *memory = calloc(1, size ? size : 1);
  if (!memory) __builtin_trap();
  return memory;
}

typedef struct { uint8_t *ptr; size_t len, capacity; } buffer;

// Room for `count` more bytes, which are then part of the buffer.
static uint8_t *extend(buffer *b, size_t count) {
  if (b->capacity - b->len < count) {
    b->capacity = 2 * (b->len + count);
    b->ptr = realloc(b->ptr, b->capacity);
    if (!b->ptr) __builtin_trap();
  }
  b->len += count;
  return b->ptr + b->len - count;
}

static void append(buffer *b, const void *bytes, size_t count) {
  if (count) memcpy(extend(b, count), bytes, count);
}

static void append_text(buffer *b, ss_text text) { append(b, text.ptr, text.len); }
static void append_literal(buffer *b, const char *text) { append(b, text, strlen(text)); }
static ss_text as_text(buffer b) { return (ss_text){(const char *)b.ptr, b.len}; }
static bool is_empty_name(ss_text name) { return name.len == 0; }

// --- Configuration: the members of a JSON object

typedef struct { ss_text name, value; bool asked_for; } setting;

struct ss_config { setting *settings; size_t count; buffer fault; };

typedef struct { const char *at, *end; unsigned depth; bool bad; } json_reader;

static void skip_space(json_reader *r) {
  while (r->at < r->end && strchr(" \t\r\n", *r->at)) r->at++;
}

static bool take(json_reader *r, char expected) {
  skip_space(r);
  if (r->at == r->end || *r->at != expected) return false;
  r->at++;
  return true;
}

static uint32_t read_hex(json_reader *r) {
  uint32_t code = 0;
  for (int i = 0; i < 4; i++, r->at++) {
    char digit = r->at < r->end ? *r->at : '!';
    int value = digit >= '0' && digit <= '9' ? digit - '0' : (digit | 32) >= 'a' && (digit | 32) <= 'f' ? (digit | 32) - 'a' + 10 : -1;
    if (value < 0) { r->bad = true; return 0; }
    code = code << 4 | (uint32_t)value;
  }
  return code;
}

static void append_code(buffer *b, uint32_t code) {
  if (code < 0x80) { *extend(b, 1) = (uint8_t)code; return; }
  int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  *extend(b, 1) = (uint8_t)((0xF0 << (3 - more)) | code >> (6 * more));
  while (more--) *extend(b, 1) = 0x80 | (code >> (6 * more) & 0x3F);
}

static ss_text read_string(json_reader *r) {
  buffer text = {0};
  if (!take(r, '"')) { r->bad = true; return (ss_text){"", 0}; }
  while (!r->bad && r->at < r->end && *r->at != '"') {
    char c = *r->at++;
    if (c != '\\' || r->at == r->end) { append(&text, &c, 1); continue; }
    char escaped = *r->at++;
    const char *known = strchr("\"\"\\\\//b\bf\fn\nr\rt\t", escaped);
    if (escaped != 'u') { if (known) append(&text, known + 1, 1); else r->bad = true; continue; }
    uint32_t code = read_hex(r);
    if (code >= 0xD800 && code < 0xDC00 && r->end - r->at > 6 && r->at[0] == '\\' && r->at[1] == 'u') {
      r->at += 2;
      code = 0x10000 + ((code - 0xD800) << 10) + (read_hex(r) - 0xDC00);
    }
    append_code(&text, code);
  }
  if (!take(r, '"')) r->bad = true;
  return text.ptr ? as_text(text) : (ss_text){"", 0};
}

// Goes over any value, and returns its text.
static ss_text skip_value(json_reader *r) {
  skip_space(r);
  const char *begin = r->at;
  bool is_object = take(r, '{'), is_list = !is_object && take(r, '[');
  if (is_object || is_list) {
    char close = is_object ? '}' : ']';
    if (++r->depth > 32) r->bad = true;
    if (!take(r, close)) {
      do {
        if (is_object) { read_string(r); if (!take(r, ':')) r->bad = true; }
        skip_value(r);
      } while (!r->bad && take(r, ','));
      if (!take(r, close)) r->bad = true;
    }
    r->depth--;
  } else if (r->at < r->end && *r->at == '"') {
    read_string(r);
  } else {
    while (r->at < r->end && !strchr(" \t\r\n,]}", *r->at)) r->at++;
    if (r->at == begin) r->bad = true;
  }
  return (ss_text){begin, (size_t)(r->at - begin)};
}

void ss_config_wrong(ss_config *config, const char *message) {
  if (!config->fault.len) append_literal(&config->fault, message);
}

static void setting_wrong(ss_config *config, ss_text name, const char *what) {
  if (config->fault.len) return;
  append_literal(&config->fault, "\"");
  append_text(&config->fault, name);
  append_literal(&config->fault, "\" ");
  append_literal(&config->fault, what);
}

static void read_config(ss_config *config, ss_text json) {
  json_reader r = {json.ptr, json.ptr + json.len, 0, false};
  buffer settings = {0};
  skip_space(&r);
  if (r.at == r.end || ss_is((ss_text){r.at, (size_t)(r.end - r.at)}, "null")) return;
  if (!take(&r, '{')) { ss_config_wrong(config, "it is no object"); return; }
  if (!take(&r, '}')) {
    do {
      setting s = {.name = read_string(&r)};
      if (!take(&r, ':')) r.bad = true;
      s.value = skip_value(&r);
      append(&settings, &s, sizeof s);
    } while (!r.bad && take(&r, ','));
    if (!take(&r, '}')) r.bad = true;
  }
  if (r.bad) ss_config_wrong(config, "it is not well-formed JSON");
  config->settings = (setting *)(void *)settings.ptr;
  config->count = settings.len / sizeof(setting);
}

static bool find_setting(ss_config *config, const char *name, ss_text *value) {
  for (size_t i = 0; i < config->count; i++) {
    if (!ss_is(config->settings[i].name, name)) continue;
    config->settings[i].asked_for = true;
    *value = config->settings[i].value;
    return !ss_is(*value, "null");
  }
  return false;
}

bool ss_config_text(ss_config *config, const char *name, ss_text *text) {
  ss_text value;
  if (!find_setting(config, name, &value)) return false;
  json_reader r = {value.ptr, value.ptr + value.len, 0, false};
  ss_text read = read_string(&r);
  if (r.bad) { setting_wrong(config, ss_text_of(name), "is no text"); return false; }
  *text = read;
  return true;
}

bool ss_config_integer(ss_config *config, const char *name, int64_t *integer) {
  ss_text value;
  if (!find_setting(config, name, &value)) return false;
  int64_t read = 0;
  bool negative = *value.ptr == '-', bad = value.len == negative;
  for (size_t i = negative; i < value.len; i++) {
    int digit = value.ptr[i] - '0';
    bad |= digit < 0 || digit > 9 || __builtin_mul_overflow(read, 10, &read) || __builtin_sub_overflow(read, digit, &read);
  }
  bad |= !negative && read == INT64_MIN;
  if (bad) { setting_wrong(config, ss_text_of(name), "is no integer"); return false; }
  *integer = negative ? read : -read;
  return true;
}

// As JSON has a number: strtod alone would take "inf", "0x1p3" and "1.".
static bool is_number(ss_text text) {
  size_t i = text.len && *text.ptr == '-', first = i;
  while (i < text.len && text.ptr[i] >= '0' && text.ptr[i] <= '9') i++;
  if (i == first || (text.ptr[first] == '0' && i > first + 1)) return false;
  if (i < text.len && text.ptr[i] == '.') {
    first = ++i;
    while (i < text.len && text.ptr[i] >= '0' && text.ptr[i] <= '9') i++;
    if (i == first) return false;
  }
  if (i < text.len && (text.ptr[i] | 32) == 'e') {
    i++;
    if (i < text.len && (text.ptr[i] == '+' || text.ptr[i] == '-')) i++;
    first = i;
    while (i < text.len && text.ptr[i] >= '0' && text.ptr[i] <= '9') i++;
    if (i == first) return false;
  }
  return i == text.len;
}

bool ss_config_double(ss_config *config, const char *name, double *number) {
  ss_text value;
  if (!find_setting(config, name, &value)) return false;
  double read = is_number(value) ? strtod(ss_c_string(value), NULL) : HUGE_VAL;
  if (read > DBL_MAX || read < -DBL_MAX) { setting_wrong(config, ss_text_of(name), "is no number"); return false; }
  *number = read;
  return true;
}

bool ss_config_json(ss_config *config, const char *name, ss_text *json) { return find_setting(config, name, json); }

bool ss_config_boolean(ss_config *config, const char *name, bool *boolean) {
  ss_text value;
  if (!find_setting(config, name, &value)) return false;
  if (!ss_is(value, "true") && !ss_is(value, "false")) { setting_wrong(config, ss_text_of(name), "is neither true nor false"); return false; }
  *boolean = ss_is(value, "true");
  return true;
}

bool ss_config_texts(ss_config *config, const char *name, const ss_text **texts, size_t *count) {
  ss_text value;
  if (!find_setting(config, name, &value)) return false;
  json_reader r = {value.ptr, value.ptr + value.len, 0, false};
  buffer list = {0};
  if (!take(&r, '[')) r.bad = true;
  if (!r.bad && !take(&r, ']')) {
    do {
      ss_text text = read_string(&r);
      append(&list, &text, sizeof text);
    } while (!r.bad && take(&r, ','));
    if (!take(&r, ']')) r.bad = true;
  }
  if (r.bad) { setting_wrong(config, ss_text_of(name), "is no list of texts"); return false; }
  *texts = (const ss_text *)(void *)list.ptr;
  *count = list.len / sizeof(ss_text);
  return true;
}

// --- Tables and documents

struct ss_document {
  ss_table *table;
  ss_document *next;
  uint32_t id, first_output, outputs;
  buffer targets, keys, fields; // ss_text each
  size_t key_cells;
  buffer tags, words;           // a put's cells before anything is set: references for copied columns, absent for the others
};

struct ss_table {
  uint32_t id;
  ss_text database, name;
  ss_column_schema *columns;
  size_t column_count;
  const uint32_t *key; // indexes of columns
  size_t key_count;
  buffer before, after; // uint32_t each: columns that cross
  bool sees_deletes;
  ss_document *first_document, *last_document;
  uint32_t documents;
  buffer fault;
  void *state;
  ss_table *next;
};

static ss_target *targets;
static size_t target_count;
static const void *configuration;
static ss_table *tables;

static const char *kind_name(ss_kind kind) {
  static const char *const names[] = {"null", "absent", "a boolean", "an integer", "an unsigned integer", "a floating-point number",
    "an exact decimal", "text", "bytes", "bits", "JSON", "a geometry", "a date", "a time", "a datetime", "a timestamp", "a year",
    "an integer", "a timestamp or datetime", "any value"};
  return names[kind];
}

static bool accepts(ss_kind kind, ss_kind tag) {
  switch (kind) {
  case SS_INTEGER: return tag == SS_INT || tag == SS_YEAR;
  case SS_MOMENT: return tag == SS_DATETIME || tag == SS_TIMESTAMP;
  case SS_ANY: return tag > SS_ABSENT && tag <= SS_YEAR;
  default: return tag == kind;
  }
}

// A message of several parts, `NULL` at their end. The first fault is the one that counts.
static void refuse(ss_table *table, const char *part, ...) {
  if (table->fault.len) return;
  va_list parts;
  va_start(parts, part);
  for (; part; part = va_arg(parts, const char *)) append_literal(&table->fault, part);
  va_end(parts);
}

void ss_refuse(ss_table *table, const char *message) { refuse(table, message, NULL); }

// A copy that ends with NUL, for messages.
const char *ss_c_string(ss_text text) {
  char *copy = ss_new(text.len + 1);
  memcpy(copy, text.ptr, text.len);
  return copy;
}

static void refuse_column(ss_table *table, const char *name) {
  if (table->fault.len) return;
  refuse(table, ss_c_string(table->database), ".", ss_c_string(table->name), " has no column \"", name, "\": its columns are ", NULL);
  for (size_t i = 0; i < table->column_count; i++) {
    if (i) append_literal(&table->fault, ", ");
    append_text(&table->fault, table->columns[i].name);
  }
}

static uint32_t find_column(ss_table *table, const char *name, ss_kind kind) {
  for (size_t i = 0; i < table->column_count; i++) {
    const ss_column_schema *column = &table->columns[i];
    if (!ss_is(column->name, name)) continue;
    if (!accepts(kind, column->kind)) {
      char tag[3] = {column->kind > 9 ? (char)('0' + column->kind / 10) : (char)('0' + column->kind), 0, 0};
      if (column->kind > 9) tag[1] = (char)('0' + column->kind % 10);
      refuse(table, ss_c_string(table->database), ".", ss_c_string(table->name), ".", name, " comes as ", ss_c_string(column->source_type), " (tag ", tag,
             "), but the transform needs ", kind_name(kind),
             ": correct the connector's handling mode, or the type that the route declares for the column", NULL);
    }
    return (uint32_t)i;
  }
  refuse_column(table, name);
  return 0;
}

// Where the column stands among those that cross; one that is asked for twice crosses once.
static ss_column cross(ss_table *table, const char *name, ss_kind kind, bool before) {
  buffer *crossing = before ? &table->before : &table->after;
  uint32_t column = find_column(table, name, kind), *columns = (uint32_t *)(void *)crossing->ptr;
  size_t at = 0, count = crossing->len / sizeof column;
  while (at < count && columns[at] != column) at++;
  if (at == count) append(crossing, &column, sizeof column);
  return (ss_column){kind, (uint32_t)at, before};
}

ss_column ss_column_of(ss_table *table, const char *name, ss_kind kind) { return cross(table, name, kind, false); }
ss_column ss_column_before(ss_table *table, const char *name, ss_kind kind) { return cross(table, name, kind, true); }
void ss_see_deletes(ss_table *table) { table->sees_deletes = true; }
size_t ss_column_count(const ss_table *table) { return table->column_count; }
ss_column_schema ss_column_at(const ss_table *table, size_t index) { return table->columns[index]; }
size_t ss_key_count(const ss_table *table) { return table->key_count; }
ss_column_schema ss_key_at(const ss_table *table, size_t index) { return table->columns[table->key[index]]; }
size_t ss_target_count(const ss_table *table) { (void)table; return target_count; }
ss_target ss_target_at(const ss_table *table, size_t index) { (void)table; return targets[index]; }
ss_text ss_database(const ss_table *table) { return table->database; }
ss_text ss_table_name(const ss_table *table) { return table->name; }

static ss_document *new_document(ss_table *table) {
  ss_document *document = ss_new(sizeof *document);
  document->table = table;
  document->id = table->documents++;
  if (table->last_document) table->last_document->next = document;
  else table->first_document = document;
  return table->last_document = document;
}

ss_document *ss_document_of(ss_table *table) {
  ss_document *document = new_document(table);
  for (size_t i = 0; i < target_count; i++) append(&document->targets, &targets[i].name, sizeof(ss_text));
  return document;
}

ss_document *ss_document_for(ss_table *table, const char *target, ...) {
  ss_document *document = new_document(table);
  for (size_t i = 0; i < target_count; i++) {
    va_list names;
    va_start(names, target);
    bool named = false;
    for (const char *name = target; name; name = va_arg(names, const char *)) named |= ss_is(targets[i].name, name);
    va_end(names);
    if (named) append(&document->targets, &targets[i].name, sizeof(ss_text));
  }
  return document;
}

// Whether `inner` lies below `outer`: "address.city" below "address". Everything lies below the whole document, "".
static bool nests_in(ss_text inner, ss_text outer) {
  return is_empty_name(outer) || (inner.len > outer.len && memcmp(inner.ptr, outer.ptr, outer.len) == 0 && inner.ptr[outer.len] == '.');
}

static void check_field(const ss_document *document, ss_text name) {
  const ss_text *fields = (const ss_text *)(void *)document->fields.ptr;
  for (size_t i = 0; i < document->fields.len / sizeof name; i++) {
    ss_text other = fields[i];
    if (ss_equal(other, name)) {
      refuse(document->table, "the document has the field \"", ss_c_string(name), "\" twice: name each field once", NULL);
    } else if (nests_in(name, other) || nests_in(other, name)) {
      refuse(document->table, "\"", ss_c_string(name), "\" and \"", ss_c_string(other), "\": a name is either a field or a parent of fields",
             NULL);
    }
  }
}

static void check_key(const ss_document *document, ss_text name) {
  const ss_text *keys = (const ss_text *)(void *)document->keys.ptr;
  if (document->fields.len) refuse(document->table, "the key's part \"", ss_c_string(name), "\" comes after a field: declare the key first", NULL);
  for (size_t i = 0; i < document->key_cells; i++) {
    if (ss_equal(keys[i], name)) refuse(document->table, "the key has the part \"", ss_c_string(name), "\" twice: name each part once", NULL);
  }
}

static ss_field add_cell(ss_document *document, buffer *names, const char *name, uint8_t tag, uint64_t word) {
  ss_text kept = ss_text_of(ss_c_string(ss_text_of(name)));
  append(names, &kept, sizeof kept);
  append(&document->tags, &tag, 1);
  append(&document->words, &word, 8);
  return (ss_field){document->id, (uint32_t)document->tags.len - 1};
}

static ss_field add_field(ss_document *document, const char *name, uint8_t tag, uint64_t word) {
  check_field(document, ss_text_of(name));
  return add_cell(document, &document->fields, name, tag, word);
}

static ss_field add_key(ss_document *document, const char *name, uint8_t tag, uint64_t word) {
  check_key(document, ss_text_of(name));
  document->key_cells++;
  return add_cell(document, &document->keys, name, tag, word);
}

void ss_copy(ss_document *document, const char *column) { ss_copy_as(document, column, SS_ANY, column); }
void ss_copy_as(ss_document *document, const char *column, ss_kind kind, const char *field) {
  add_field(document, field, TAG_AFTER, find_column(document->table, column, kind));
}
ss_field ss_add_field(ss_document *document, const char *name) { return add_field(document, name, SS_ABSENT, 0); }
ss_field ss_add_key(ss_document *document, const char *name) { return add_key(document, name, SS_ABSENT, 0); }
void ss_key_copy(ss_document *document, const char *column) {
  add_key(document, column, TAG_AFTER, find_column(document->table, column, SS_ANY));
}

// --- Rows

typedef struct block { struct block *next; size_t used, size; uint8_t bytes[]; } block;

struct ss_row {
  const uint8_t *header, *tags, *words, *heap; // the event's header, and the batch's cells
  size_t heap_len, first_before, first_after;
  uint32_t event, partition;
  ss_op op;
  bool spoke;
  buffer steps, out_tags, out_words, out_heap;
  size_t first_step, first_cell, first_byte; // where the event's own begin
  const ss_document *document;               // of the last put or delete, until it is finished
  uint32_t action, ttl;
  size_t document_cell, document_cells;
  bool rejected;
  block *scratch;
};

static ss_row the_row; // its buffers are kept from batch to batch

void *ss_alloc(ss_row *row, size_t size) {
  block *b = row->scratch;
  size = (size + 15) & ~(size_t)15;
  if (!b || b->size - b->used < size) {
    size_t room = size > 65536 ? size : 65536;
    b = ss_new(sizeof *b + room);
    *b = (block){row->scratch, 0, room};
    row->scratch = b;
  }
  b->used += size;
  return b->bytes + b->used - size;
}

static void free_scratch(ss_row *row) {
  block *b = row->scratch;
  if (!b) return;
  while (b->next) {
    block *next = b->next->next;
    free(b->next);
    b->next = next;
  }
  b->used = 0;
}

ss_op ss_row_op(const ss_row *row) { return row->op; }
uint32_t ss_partition(const ss_row *row) { return row->partition; }
bool ss_rejected(const ss_row *row) { return row->rejected; }

uint64_t ss_offset(const ss_row *row) {
  uint64_t offset;
  memcpy(&offset, row->header, 8);
  return offset;
}

int64_t ss_changed_at(const ss_row *row) {
  int64_t micros;
  memcpy(&micros, row->header + 8, 8);
  return micros;
}

static size_t cell_of(const ss_row *row, ss_column column) { return (column.before ? row->first_before : row->first_after) + column.at; }
ss_kind ss_presence(const ss_row *row, ss_column column) { return row->tags[cell_of(row, column)]; }

static void reject_kind(ss_row *row, const char *code, const char *before, ss_kind kind, const char *after) {
  const char *name = kind_name(kind);
  char *message = ss_alloc(row, strlen(before) + strlen(name) + strlen(after) + 1);
  strcat(strcat(strcpy(message, before), name), after);
  ss_reject(row, code, message);
}

// The cell's payload, where it is of the kind that is asked for.
static bool get(ss_row *row, ss_column column, ss_kind kind, ss_kind *tag, uint64_t *word) {
  size_t cell = cell_of(row, column);
  *tag = row->tags[cell];
  *word = 0;
  if (accepts(kind, *tag)) {
    memcpy(word, row->words + 8 * cell, 8);
    return true;
  }
  if (*tag == SS_ABSENT) reject_kind(row, "absent-column", "a column that should be ", kind, " is absent from the row image");
  else if (*tag != SS_NULL) reject_kind(row, "wrong-kind", "a column whose schema says ", kind, " has a value of another kind");
  return false;
}

static bool get_word(ss_row *row, ss_column column, ss_kind kind, uint64_t *word) {
  ss_kind tag;
  return get(row, column, kind, &tag, word);
}

static bool get_text(ss_row *row, ss_column column, ss_kind kind, ss_text *text) {
  uint64_t word;
  bool found = get_word(row, column, kind, &word);
  *text = (ss_text){(const char *)row->heap + (word >> 32), (uint32_t)word};
  return found;
}

static bool get_bytes(ss_row *row, ss_column column, ss_kind kind, ss_bytes *bytes) {
  ss_text text;
  bool found = get_text(row, column, kind, &text);
  *bytes = (ss_bytes){(const uint8_t *)text.ptr, text.len};
  return found;
}

static bool get_integer(ss_row *row, ss_column column, ss_kind kind, int64_t *integer) {
  return get_word(row, column, kind, (uint64_t *)integer);
}

bool ss_get_text(ss_row *row, ss_column column, ss_text *text) { return get_text(row, column, SS_TEXT, text); }
bool ss_get_decimal(ss_row *row, ss_column column, ss_text *digits) { return get_text(row, column, SS_DECIMAL, digits); }
bool ss_get_json(ss_row *row, ss_column column, ss_text *json) { return get_text(row, column, SS_JSON, json); }
bool ss_get_bytes(ss_row *row, ss_column column, ss_bytes *bytes) { return get_bytes(row, column, SS_BYTES, bytes); }
bool ss_get_bits(ss_row *row, ss_column column, ss_bytes *bytes) { return get_bytes(row, column, SS_BITS, bytes); }
bool ss_get_geometry(ss_row *row, ss_column column, ss_bytes *ewkb) { return get_bytes(row, column, SS_GEOMETRY, ewkb); }
bool ss_get_int(ss_row *row, ss_column column, int64_t *integer) { return get_integer(row, column, SS_INTEGER, integer); }
bool ss_get_unsigned(ss_row *row, ss_column column, uint64_t *integer) { return get_word(row, column, SS_UNSIGNED, integer); }
bool ss_get_date(ss_row *row, ss_column column, ss_date *date) { return get_integer(row, column, SS_DATE, &date->days); }
bool ss_get_time(ss_row *row, ss_column column, ss_time *time) { return get_integer(row, column, SS_TIME, &time->micros); }
bool ss_get_datetime(ss_row *row, ss_column column, ss_datetime *datetime) { return get_integer(row, column, SS_DATETIME, &datetime->micros); }
bool ss_get_timestamp(ss_row *row, ss_column column, ss_timestamp *timestamp) {
  return get_integer(row, column, SS_TIMESTAMP, &timestamp->micros);
}
bool ss_get_moment(ss_row *row, ss_column column, int64_t *micros) { return get_integer(row, column, SS_MOMENT, micros); }

bool ss_get_double(ss_row *row, ss_column column, double *number) {
  uint64_t word;
  bool found = get_word(row, column, SS_DOUBLE, &word);
  memcpy(number, &word, 8);
  return found;
}

bool ss_get_boolean(ss_row *row, ss_column column, bool *boolean) {
  uint64_t word;
  bool found = get_word(row, column, SS_BOOLEAN, &word);
  *boolean = word != 0;
  return found;
}

static bool is_span(ss_kind kind) { return kind >= SS_DECIMAL && kind <= SS_GEOMETRY; }

bool ss_get_value(ss_row *row, ss_column column, ss_value *value) {
  uint64_t word;
  *value = (ss_value){.kind = SS_NULL};
  if (!get(row, column, SS_ANY, &value->kind, &word)) return false;
  if (is_span(value->kind)) value->text = (ss_text){(const char *)row->heap + (word >> 32), (uint32_t)word};
  else if (value->kind == SS_BOOLEAN) value->boolean = word != 0;
  else value->unsigned_integer = word;
  return true;
}

int64_t ss_minor_units(ss_row *row, ss_text decimal, unsigned digits) {
  bool negative = decimal.len && *decimal.ptr == '-', point = false, malformed = false, inexact = false, too_large = false;
  size_t whole = 0, fraction = 0;
  int64_t units = 0; // counted downwards, so that the smallest number fits too
  for (size_t i = negative; i < decimal.len; i++) {
    int digit = decimal.ptr[i] - '0';
    if (decimal.ptr[i] == '.' && !point) { point = true; continue; }
    if (digit < 0 || digit > 9) { malformed = true; break; }
    if (!point) whole++;
    else if (++fraction > digits) { inexact |= digit != 0; continue; }
    too_large |= __builtin_mul_overflow(units, 10, &units) || __builtin_sub_overflow(units, digit, &units);
  }
  for (; fraction < digits; fraction++) too_large |= __builtin_mul_overflow(units, 10, &units);
  too_large |= !negative && units == INT64_MIN;
  if (malformed || !whole) ss_reject(row, "decimal-malformed", "the decimal is not written in plain digits");
  else if (inexact) ss_reject(row, "decimal-inexact", "the decimal is finer than a minor unit");
  else if (too_large) ss_reject(row, "decimal-too-large", "the decimal does not fit 64 bits in minor units");
  return row->rejected ? 0 : negative ? units : -units;
}

ss_text ss_from_minor_units(ss_row *row, int64_t units, unsigned digits) {
  enum { MOST = 20 }; // digits of 64 bits
  size_t room = (size_t)digits + MOST + 3, at = room;
  char *text = ss_alloc(row, room);
  uint64_t rest = units < 0 ? 0 - (uint64_t)units : (uint64_t)units;
  // From the last digit to the first; one at least stands before the point.
  for (size_t written = 0; rest || written <= digits; written++) {
    if (digits && written == digits) text[--at] = '.';
    text[--at] = (char)('0' + rest % 10);
    rest /= 10;
  }
  if (units < 0) text[--at] = '-';
  return (ss_text){text + at, room - at};
}

// --- Changes

static void step(ss_row *row, uint32_t action, uint32_t output, uint32_t ttl) {
  uint32_t numbers[4] = {row->event, action, output, ttl};
  append(&row->steps, numbers, STEP_BYTES);
}

// Says the same to the document's other targets: the cells again, over the same texts.
static void finish(ss_row *row) {
  const ss_document *document = row->document;
  row->document = NULL;
  if (!document || !document->outputs) return;
  memcpy(row->steps.ptr + row->steps.len - 4, &row->ttl, 4);
  for (uint32_t i = 1; i < document->outputs; i++) {
    step(row, row->action, document->first_output + i, row->ttl);
    uint8_t *tags = extend(&row->out_tags, row->document_cells), *words = extend(&row->out_words, 8 * row->document_cells);
    memcpy(tags, row->out_tags.ptr + row->document_cell, row->document_cells);
    memcpy(words, row->out_words.ptr + 8 * row->document_cell, 8 * row->document_cells);
  }
}

static void begin(ss_row *row, uint32_t action, const ss_document *document, size_t cells) {
  if (row->rejected) return;
  finish(row);
  row->spoke = true;
  row->document = document;
  row->action = action;
  row->ttl = 0;
  row->document_cell = row->out_tags.len;
  row->document_cells = document->outputs ? cells : 0;
  if (!document->outputs) return;
  step(row, action, document->first_output, 0);
  append(&row->out_tags, document->tags.ptr, cells);
  append(&row->out_words, document->words.ptr, 8 * cells);
  if (row->op != SS_DELETE) return;
  for (size_t i = row->document_cell; i < row->out_tags.len; i++) { // a deleted row's copies are those of the image before
    if (row->out_tags.ptr[i] == TAG_AFTER) row->out_tags.ptr[i] = TAG_BEFORE;
  }
}

void ss_put(ss_row *row, const ss_document *document) { begin(row, PUT, document, document->tags.len); }
void ss_delete(ss_row *row, const ss_document *document) { begin(row, DELETE, document, document->key_cells); }
void ss_skip(ss_row *row) { row->spoke = true; }

static void push_text(ss_row *row, const char *text) {
  uint64_t word = (uint64_t)row->out_heap.len << 32 | strlen(text);
  *extend(&row->out_tags, 1) = SS_TEXT;
  append(&row->out_words, &word, 8);
  append_literal(&row->out_heap, text);
}

// Takes back what the event has written.
void ss_reject(ss_row *row, const char *code, const char *message) {
  if (row->rejected) return;
  row->rejected = true;
  row->document = NULL;
  row->steps.len = row->first_step;
  row->out_tags.len = row->first_cell;
  row->out_words.len = 8 * row->first_cell;
  row->out_heap.len = row->first_byte;
  step(row, REJECT, 0, 0);
  push_text(row, code);
  push_text(row, message);
}

void ss_ttl(ss_row *row, uint32_t seconds) {
  if (row->document && row->action == PUT) row->ttl = seconds;
  else ss_reject(row, "ttl-without-put", "the transform sets a time to live where no put is open: set it after the put that it is of");
}

static bool settable(ss_row *row, ss_field field) {
  if (row->rejected) return false;
  if (!row->document || row->document->id != field.document) {
    ss_reject(row, "foreign-field", "the transform sets a field of another document: declare it on the one it puts");
    return false;
  }
  if (row->action == DELETE && field.cell >= row->document->key_cells) {
    ss_reject(row, "delete-with-field", "the transform sets a field of a document that it deletes: set its key only");
    return false;
  }
  return row->document_cells != 0;
}

static void set(ss_row *row, ss_field field, ss_kind kind, uint64_t word) {
  if (!settable(row, field)) return;
  size_t cell = row->document_cell + field.cell;
  row->out_tags.ptr[cell] = (uint8_t)kind;
  memcpy(row->out_words.ptr + 8 * cell, &word, 8);
}

static void set_span(ss_row *row, ss_field field, ss_kind kind, const void *bytes, size_t len) {
  if (!settable(row, field)) return;
  set(row, field, kind, (uint64_t)row->out_heap.len << 32 | len);
  append(&row->out_heap, bytes, len);
}

void ss_set_null(ss_row *row, ss_field field) { set(row, field, SS_NULL, 0); }
void ss_set_absent(ss_row *row, ss_field field) { set(row, field, SS_ABSENT, 0); }
void ss_set_text(ss_row *row, ss_field field, ss_text text) { set_span(row, field, SS_TEXT, text.ptr, text.len); }
void ss_set_int(ss_row *row, ss_field field, int64_t integer) { set(row, field, SS_INT, (uint64_t)integer); }
void ss_set_unsigned(ss_row *row, ss_field field, uint64_t integer) { set(row, field, SS_UNSIGNED, integer); }
void ss_set_boolean(ss_row *row, ss_field field, bool boolean) { set(row, field, SS_BOOLEAN, boolean); }
void ss_set_decimal(ss_row *row, ss_field field, ss_text digits) { set_span(row, field, SS_DECIMAL, digits.ptr, digits.len); }
void ss_set_bytes(ss_row *row, ss_field field, ss_bytes bytes) { set_span(row, field, SS_BYTES, bytes.ptr, bytes.len); }
void ss_set_bits(ss_row *row, ss_field field, ss_bytes bits) { set_span(row, field, SS_BITS, bits.ptr, bits.len); }
void ss_set_json(ss_row *row, ss_field field, ss_text json) { set_span(row, field, SS_JSON, json.ptr, json.len); }
void ss_set_geometry(ss_row *row, ss_field field, ss_bytes ewkb) { set_span(row, field, SS_GEOMETRY, ewkb.ptr, ewkb.len); }
void ss_set_date(ss_row *row, ss_field field, ss_date date) { set(row, field, SS_DATE, (uint64_t)date.days); }
void ss_set_time(ss_row *row, ss_field field, ss_time time) { set(row, field, SS_TIME, (uint64_t)time.micros); }
void ss_set_datetime(ss_row *row, ss_field field, ss_datetime datetime) { set(row, field, SS_DATETIME, (uint64_t)datetime.micros); }
void ss_set_timestamp(ss_row *row, ss_field field, ss_timestamp timestamp) { set(row, field, SS_TIMESTAMP, (uint64_t)timestamp.micros); }

void ss_set_year(ss_row *row, ss_field field, int64_t year) { set(row, field, SS_YEAR, (uint64_t)year); }

void ss_set_double(ss_row *row, ss_field field, double number) {
  uint64_t word;
  memcpy(&word, &number, 8);
  set(row, field, SS_DOUBLE, word);
}

void ss_set_value(ss_row *row, ss_field field, ss_value value) {
  if (is_span(value.kind)) set_span(row, field, value.kind, value.text.ptr, value.text.len);
  else if (value.kind == SS_BOOLEAN) ss_set_boolean(row, field, value.boolean);
  else set(row, field, value.kind, value.kind <= SS_ABSENT ? 0 : value.unsigned_integer);
}

// --- Texts, by Unicode

// Characters of which several become in upper case. U+1F80 to U+1FAF, which follow a rule, are left out.
static const struct { uint16_t from, to[3]; } SPECIAL[] = {
  {0x00DF, {'S', 'S'}}, {0x0149, {0x02BC, 'N'}}, {0x01F0, {'J', 0x030C}}, {0x0390, {0x0399, 0x0308, 0x0301}},
  {0x03B0, {0x03A5, 0x0308, 0x0301}}, {0x0587, {0x0535, 0x0552}}, {0x1E96, {'H', 0x0331}}, {0x1E97, {'T', 0x0308}},
  {0x1E98, {'W', 0x030A}}, {0x1E99, {'Y', 0x030A}}, {0x1E9A, {'A', 0x02BE}}, {0x1F50, {0x03A5, 0x0313}},
  {0x1F52, {0x03A5, 0x0313, 0x0300}}, {0x1F54, {0x03A5, 0x0313, 0x0301}}, {0x1F56, {0x03A5, 0x0313, 0x0342}}, {0x1FB2, {0x1FBA, 0x0399}},
  {0x1FB3, {0x0391, 0x0399}}, {0x1FB4, {0x0386, 0x0399}}, {0x1FB6, {0x0391, 0x0342}}, {0x1FB7, {0x0391, 0x0342, 0x0399}},
  {0x1FBC, {0x0391, 0x0399}}, {0x1FC2, {0x1FCA, 0x0399}}, {0x1FC3, {0x0397, 0x0399}}, {0x1FC4, {0x0389, 0x0399}},
  {0x1FC6, {0x0397, 0x0342}}, {0x1FC7, {0x0397, 0x0342, 0x0399}}, {0x1FCC, {0x0397, 0x0399}}, {0x1FD2, {0x0399, 0x0308, 0x0300}},
  {0x1FD3, {0x0399, 0x0308, 0x0301}}, {0x1FD6, {0x0399, 0x0342}}, {0x1FD7, {0x0399, 0x0308, 0x0342}}, {0x1FE2, {0x03A5, 0x0308, 0x0300}},
  {0x1FE3, {0x03A5, 0x0308, 0x0301}}, {0x1FE4, {0x03A1, 0x0313}}, {0x1FE6, {0x03A5, 0x0342}}, {0x1FE7, {0x03A5, 0x0308, 0x0342}},
  {0x1FF2, {0x1FFA, 0x0399}}, {0x1FF3, {0x03A9, 0x0399}}, {0x1FF4, {0x038F, 0x0399}}, {0x1FF6, {0x03A9, 0x0342}},
  {0x1FF7, {0x03A9, 0x0342, 0x0399}}, {0x1FFC, {0x03A9, 0x0399}}, {0xFB00, {'F', 'F'}}, {0xFB01, {'F', 'I'}},
  {0xFB02, {'F', 'L'}}, {0xFB03, {'F', 'F', 'I'}}, {0xFB04, {'F', 'F', 'L'}}, {0xFB05, {'S', 'T'}},
  {0xFB06, {'S', 'T'}}, {0xFB13, {0x0544, 0x0546}}, {0xFB14, {0x0544, 0x0535}}, {0xFB15, {0x0544, 0x053B}},
  {0xFB16, {0x054E, 0x0546}}, {0xFB17, {0x0544, 0x053D}},
};

// Capitals that the C library's tables lack, and how far their small letters are from them.
static const struct { uint32_t first, last; int32_t distance; } PAIRS[] = {
  {0x1C89, 0x1C89, 1}, {0x24B6, 0x24CF, 26}, {0x2C2F, 0x2C2F, 48}, {0xA7C0, 0xA7C0, 1}, {0xA7C7, 0xA7C7, 1}, {0xA7C9, 0xA7C9, 1},
  {0xA7CB, 0xA7CB, 0x264 - 0xA7CB}, {0xA7CC, 0xA7CC, 1}, {0xA7CE, 0xA7CE, 1}, {0xA7D0, 0xA7D0, 1}, {0xA7D2, 0xA7D2, 1}, {0xA7D4, 0xA7D4, 1},
  {0xA7D6, 0xA7D6, 1}, {0xA7D8, 0xA7D8, 1}, {0xA7DA, 0xA7DA, 1}, {0xA7DC, 0xA7DC, 0x19B - 0xA7DC}, {0xA7F5, 0xA7F5, 1},
  {0x10570, 0x1057A, 39}, {0x1057C, 0x1058A, 39}, {0x1058C, 0x10592, 39}, {0x10594, 0x10595, 39}, {0x10D50, 0x10D65, 32},
  {0x16EA0, 0x16EB8, 27},
};

static uint32_t capital(uint32_t c) {
  for (size_t i = 0; i < sizeof PAIRS / sizeof *PAIRS; i++) {
    uint32_t of = c - (uint32_t)PAIRS[i].distance;
    if (of >= PAIRS[i].first && of <= PAIRS[i].last) return of;
  }
  return (uint32_t)towupper(c);
}

static uint32_t small_letter(uint32_t c) {
  for (size_t i = 0; i < sizeof PAIRS / sizeof *PAIRS; i++) {
    if (c >= PAIRS[i].first && c <= PAIRS[i].last) return c + (uint32_t)PAIRS[i].distance;
  }
  return (uint32_t)towlower(c);
}

// A character of valid UTF-8.
static uint32_t decode(const char **at) {
  const uint8_t *p = (const uint8_t *)*at;
  int more = *p < 0x80 ? 0 : *p < 0xE0 ? 1 : *p < 0xF0 ? 2 : 3;
  uint32_t code = more ? *p & (0x3F >> more) : *p;
  for (int i = 1; i <= more; i++) code = code << 6 | (p[i] & 0x3F);
  *at += more + 1;
  return code;
}

static bool is_space(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

ss_text ss_trim(ss_text text) {
  const char *begin = text.ptr, *end = text.ptr + text.len;
  while (begin < end) {
    const char *next = begin;
    if (!is_space(decode(&next))) break;
    begin = next;
  }
  while (end > begin) {
    const char *last = end - 1, *at;
    while (last > begin && (*last & 0xC0) == 0x80) last--;
    at = last;
    if (!is_space(decode(&at))) break;
    end = last;
  }
  return (ss_text){begin, (size_t)(end - begin)};
}

static size_t encode(char *to, uint32_t code) {
  buffer b = {(uint8_t *)to, 0, 4};
  append_code(&b, code);
  return b.len;
}

static size_t upper_of(char *to, uint32_t code) {
  if (code >= 0x1F80 && code <= 0x1FAF) {
    static const uint16_t capitals[] = {0x1F08, 0x1F28, 0x1F68};
    size_t len = encode(to, capitals[(code - 0x1F80) >> 4] + (code & 7));
    return len + encode(to + len, 0x0399);
  }
  for (size_t i = 0; i < sizeof SPECIAL / sizeof *SPECIAL; i++) {
    if (SPECIAL[i].from != code) continue;
    size_t len = 0;
    for (int k = 0; k < 3 && SPECIAL[i].to[k]; k++) len += encode(to + len, SPECIAL[i].to[k]);
    return len;
  }
  return encode(to, capital(code));
}

static bool is_cased(uint32_t c) { return capital(c) != c || small_letter(c) != c; }

// Characters that a word goes on over: points, apostrophes, and marks that combine.
static bool is_ignorable(uint32_t c) {
  return c == '\'' || c == '.' || c == ':' || c == '^' || c == '`' || c == 0xA8 || c == 0xAD || c == 0xAF || c == 0xB4 || c == 0xB7 ||
         c == 0xB8 || (c >= 0x2B0 && c <= 0x36F) || (c >= 0x483 && c <= 0x489) || (c >= 0x200B && c <= 0x200F) || c == 0x2018 ||
         c == 0x2019 || c == 0x2024 || c == 0x2027;
}

// Whether a capital sigma at `at` ends its word.
static bool ends_word(ss_text text, const char *at) {
  bool before = false;
  for (const char *p = text.ptr; p < at;) {
    uint32_t c = decode(&p);
    if (!is_ignorable(c)) before = is_cased(c);
  }
  for (const char *p = at + 2; p < text.ptr + text.len;) {
    uint32_t c = decode(&p);
    if (!is_ignorable(c)) return before && !is_cased(c);
  }
  return before;
}

static ss_text map_ascii(ss_row *row, ss_text text, char first, char last) {
  size_t i = 0;
  while (i < text.len && (text.ptr[i] < first || text.ptr[i] > last)) i++;
  if (i == text.len) return text;
  char *mapped = ss_alloc(row, text.len);
  for (i = 0; i < text.len; i++) mapped[i] = text.ptr[i] >= first && text.ptr[i] <= last ? text.ptr[i] ^ 0x20 : text.ptr[i];
  return (ss_text){mapped, text.len};
}

static bool is_ascii(ss_text text) {
  char all = 0;
  for (size_t i = 0; i < text.len; i++) all |= text.ptr[i];
  return all >= 0;
}

ss_text ss_upper(ss_row *row, ss_text text) {
  if (is_ascii(text)) return map_ascii(row, text, 'a', 'z');
  char *mapped = ss_alloc(row, 3 * text.len); // at most three times as long: U+0390 and its like
  size_t len = 0;
  for (const char *p = text.ptr; p < text.ptr + text.len;) len += upper_of(mapped + len, decode(&p));
  return (ss_text){mapped, len};
}

ss_text ss_lower(ss_row *row, ss_text text) {
  if (is_ascii(text)) return map_ascii(row, text, 'A', 'Z');
  char *mapped = ss_alloc(row, 3 * text.len);
  size_t len = 0;
  for (const char *p = text.ptr; p < text.ptr + text.len;) {
    const char *at = p;
    uint32_t c = decode(&p);
    if (c == 0x3A3) len += encode(mapped + len, ends_word(text, at) ? 0x3C2 : 0x3C3);
    else if (c == 0x130) len += encode(mapped + len, 'i'), len += encode(mapped + len, 0x307);
    else len += encode(mapped + len, small_letter(c));
  }
  return (ss_text){mapped, len};
}

// --- Log and metrics

__attribute__((import_module(LOG_MODULE), import_name("emit"))) void import_emit(int32_t level, const char *message, size_t len);
__attribute__((import_module(METRICS_MODULE), import_name("add"))) void import_add(const char *counter, size_t len, uint32_t delta);

void ss_log(ss_level level, const char *message) { import_emit((int32_t)level, message, strlen(message)); }
void ss_count(const char *counter, uint32_t delta) { import_add(counter, strlen(counter), delta); }

// --- The component: the contract's functions in the canonical ABI

#define EXPORT(name) __attribute__((export_name(name)))

typedef struct { const void *ptr; size_t len; } list;
typedef struct { uint8_t failed; union { list error; struct { list steps, tags, words, heap; } outcome;
                 struct { list before, after; uint8_t sees_deletes; list outputs; } plan; }; } result;
typedef struct { ss_text target; list key, fields; } output;
typedef struct { uint8_t is_some; uint32_t value; } optional;
typedef struct { ss_text name; uint8_t tag, nullable; optional length, scale; ss_text source_type; } abi_column;

static result answer; // read by the host before it calls again

static result *fail(ss_text message) {
  answer = (result){.failed = 1, .error = {message.ptr, message.len}};
  return &answer;
}

EXPORT("cabi_realloc") void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size) {
  (void)old_size;
  if (!size) return (void *)align;
  void *memory = realloc(old, size); // aligned to 16
  if (!memory) __builtin_trap();
  return memory;
}

EXPORT(CONTRACT "describe") void *export_describe(void) {
  static struct { ss_text name, version; uint8_t has_schema; ss_text schema; } description;
  const ss_transform *t = &streamsync_transform;
  description.name = ss_text_of(t->name);
  description.version = ss_text_of(t->version);
  description.has_schema = t->config_schema != NULL;
  if (t->config_schema) description.schema = ss_text_of(t->config_schema);
  return &description;
}

EXPORT(CONTRACT "init") result *export_init(const char *json, size_t json_len, ss_target *given, size_t count) {
  ss_config config = {0};
  targets = given;
  target_count = count;
  read_config(&config, (ss_text){json, json_len});
  if (!config.fault.len && streamsync_transform.configure) configuration = streamsync_transform.configure(&config);
  for (size_t i = 0; i < config.count; i++) {
    if (!config.settings[i].asked_for) setting_wrong(&config, config.settings[i].name, "is no setting of the transform");
  }
  if (!config.fault.len) {
    answer = (result){0};
    return &answer;
  }
  buffer message = {0};
  append_literal(&message, "the config of the transform \"");
  append_literal(&message, streamsync_transform.name);
  append_literal(&message, "\": ");
  append_text(&message, as_text(config.fault));
  return fail(as_text(message));
}

static void build_outputs(ss_table *table, buffer *outputs) {
  for (ss_document *d = table->first_document; d; d = d->next) {
    const ss_text *names = (const ss_text *)(void *)d->targets.ptr;
    d->first_output = (uint32_t)(outputs->len / sizeof(output));
    d->outputs = (uint32_t)(d->targets.len / sizeof(ss_text));
    for (uint32_t i = 0; i < d->outputs; i++) {
      output o = {names[i], {d->keys.ptr, d->keys.len / sizeof(ss_text)}, {d->fields.ptr, d->fields.len / sizeof(ss_text)}};
      append(outputs, &o, sizeof o);
    }
  }
}

EXPORT(CONTRACT "open")
result *export_open(uint32_t id, const char *database, size_t database_len, const char *name, size_t name_len, const abi_column *columns,
                    size_t column_count, const uint32_t *primary_key, size_t primary_key_len) {
  ss_table *table = ss_new(sizeof *table);
  *table = (ss_table){.id = id, .database = {database, database_len}, .name = {name, name_len}, .column_count = column_count,
                      .key = primary_key, .key_count = primary_key_len};
  table->columns = ss_new(column_count * sizeof *table->columns);
  for (size_t i = 0; i < column_count; i++) {
    const abi_column *c = &columns[i];
    int64_t length = c->length.is_some ? (int64_t)c->length.value : -1, scale = c->scale.is_some ? (int32_t)c->scale.value : -1;
    table->columns[i] = (ss_column_schema){c->name, c->tag, c->nullable, length, scale, c->source_type};
  }
  table->state = streamsync_transform.open(table, configuration);
  if (table->fault.len) return fail(as_text(table->fault));
  static buffer outputs;
  outputs.len = 0;
  build_outputs(table, &outputs);
  table->next = tables;
  tables = table;
  answer = (result){.plan = {{table->before.ptr, table->before.len / 4}, {table->after.ptr, table->after.len / 4}, table->sees_deletes,
                             {outputs.ptr, outputs.len / sizeof(output)}}};
  return &answer;
}

static void apply_event(const ss_table *table, ss_row *row) {
  uint32_t op;
  memcpy(&op, row->header + 16, 4);
  row->op = op;
  row->spoke = row->rejected = false;
  row->first_step = row->steps.len;
  row->first_cell = row->out_tags.len;
  row->first_byte = row->out_heap.len;
  streamsync_transform.event(table->state, row);
  finish(row);
  free_scratch(row);
  if (row->steps.len > row->first_step) return;
  if (row->spoke) step(row, SKIP, 0, 0);
  else ss_reject(row, "no-outcome", "the transform neither wrote nor skipped the event");
}

EXPORT(CONTRACT "apply")
result *export_apply(uint32_t schema, uint32_t partition, uint8_t *events, size_t events_len, uint8_t *tags, size_t tags_len, uint8_t *words,
                     size_t words_len, uint8_t *heap, size_t heap_len) {
  const ss_table *table = tables;
  while (table && table->id != schema) table = table->next;
  if (!table) return fail(ss_text_of("the schema was not opened"));
  ss_row *row = &the_row;
  row->tags = tags, row->words = words, row->heap = heap, row->heap_len = heap_len, row->partition = partition;
  row->steps.len = row->out_tags.len = row->out_words.len = row->out_heap.len = 0;
  size_t before = table->before.len / 4, cells = before + table->after.len / 4;
  for (row->event = 0; row->event < events_len / EVENT_BYTES; row->event++) {
    row->header = events + EVENT_BYTES * row->event;
    row->first_before = row->event * cells;
    row->first_after = row->first_before + before;
    apply_event(table, row);
  }
  if (events_len) free(events);
  if (tags_len) free(tags);
  if (words_len) free(words);
  if (heap_len) free(heap);
  answer = (result){.outcome = {{row->steps.ptr, row->steps.len}, {row->out_tags.ptr, row->out_tags.len},
                                {row->out_words.ptr, row->out_words.len}, {row->out_heap.ptr, row->out_heap.len}}};
  return &answer;
}
