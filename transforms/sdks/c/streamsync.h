// What a streamsync transform is written with in C: rows by column name, documents by field.
//
//     #include "streamsync.h"
//
//     struct cities { ss_column name; ss_document *city; ss_field capitals; };
//
//     static void *open_cities(ss_table *table, const void *config) {     // once for each version of the table
//       struct cities *cities = ss_new(sizeof *cities);
//       cities->name = ss_column_of(table, "name", SS_TEXT);
//       cities->city = ss_document_of(table);
//       ss_copy(cities->city, "city_id");
//       ss_copy(cities->city, "population");
//       cities->capitals = ss_add_field(cities->city, "name");
//       return cities;
//     }
//
//     static void city_event(const void *state, ss_row *row) {            // for each change
//       const struct cities *cities = state;
//       ss_text name;
//       bool known = ss_get_text(row, cities->name, &name);               // false: NULL
//       ss_put(row, cities->city);
//       if (known) ss_set_text(row, cities->capitals, ss_upper(row, name));
//       else ss_set_null(row, cities->capitals);
//     }
//
//     const ss_transform streamsync_transform = {.name = "cities", .version = "1.0.0", .open = open_cities, .event = city_event};
//
// A transform is pure: the same batch gives the same outcome, on every machine. It has no clock, no randomness, no files and no network;
// ss_log and ss_count are all that leaves it besides its outcome.
//
// Mistakes are kept, not returned: the first column that `open` does not find, or the first value that `event` cannot read, is what becomes
// of the table, or of the event. What is read afterwards is zero, and what is written is taken back, so nothing needs checking at each call.
//
// Who owns what: a text or bytes that a getter returns belongs to the batch, and one that ss_upper, ss_lower or ss_alloc makes to the row;
// both are gone after `event`. What is set is copied. What `open` allocates with ss_new lives as long as the instance. Nothing is freed by hand.
//
// The contract is streamsync:transform@0.1.0. This file comes with the engine and is not meant to be edited.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct ss_config ss_config;
typedef struct ss_table ss_table;
typedef struct ss_document ss_document;
typedef struct ss_row ss_row;

// --- Values. Texts are UTF-8 and have no NUL at their end.

typedef struct { const char *ptr; size_t len; } ss_text;
typedef struct { const uint8_t *ptr; size_t len; } ss_bytes;
typedef struct { int64_t days; } ss_date;        // since 1970-01-01
typedef struct { int64_t micros; } ss_time;      // MySQL's TIME, which may be negative or longer than a day
typedef struct { int64_t micros; } ss_datetime;  // since 1970-01-01 00:00, without a zone
typedef struct { int64_t micros; } ss_timestamp; // since the Unix epoch, UTC

// Kinds of columns, and of values. The first seventeen are the contract's.
typedef enum {
  SS_NULL, SS_ABSENT, SS_BOOLEAN, SS_INT, SS_UNSIGNED, SS_DOUBLE, SS_DECIMAL, SS_TEXT, SS_BYTES, SS_BITS, SS_JSON, SS_GEOMETRY, SS_DATE, SS_TIME,
  SS_DATETIME, SS_TIMESTAMP, SS_YEAR,
  SS_INTEGER, // of a column: SS_INT or SS_YEAR
  SS_MOMENT,  // of a column: SS_DATETIME or SS_TIMESTAMP
  SS_ANY,     // of a column: whatever it holds
} ss_kind;

// Any value, with what its kind needs: `text` for decimal, text and JSON; `bytes` for bytes, bits and geometry; `integer` for int, date
// (days), time, datetime, timestamp (microseconds) and year.
typedef struct {
  ss_kind kind;
  union { bool boolean; int64_t integer; uint64_t unsigned_integer; double number; ss_text text; ss_bytes bytes; };
} ss_value;

static inline ss_text ss_text_of(const char *text) { return (ss_text){text, strlen(text)}; }
static inline bool ss_equal(ss_text a, ss_text b) { return a.len == b.len && memcmp(a.ptr, b.ptr, a.len) == 0; }
static inline bool ss_is(ss_text a, const char *b) { return ss_equal(a, ss_text_of(b)); }

// --- What you write

typedef struct {
  const char *name, *version;
  const char *config_schema;                          // JSON Schema of the route's `config`; NULL where the transform takes none
  void *(*configure)(ss_config *config);              // once for each instance; NULL where the transform takes no configuration
  void *(*open)(ss_table *table, const void *config); // gets what `configure` returned
  void (*event)(const void *state, ss_row *row);      // gets what `open` returned
} ss_transform;

extern const ss_transform streamsync_transform;

// --- In `configure`. A setting that is missing gives false and leaves the result alone; one of another type, or that is never asked for,
// stops the route.

bool ss_config_text(ss_config *config, const char *name, ss_text *text);
bool ss_config_integer(ss_config *config, const char *name, int64_t *integer);
bool ss_config_double(ss_config *config, const char *name, double *number); // with a fraction or without
bool ss_config_boolean(ss_config *config, const char *name, bool *boolean);
bool ss_config_texts(ss_config *config, const char *name, const ss_text **texts, size_t *count);
bool ss_config_json(ss_config *config, const char *name, ss_text *json); // whatever it is, as JSON: an object, a list in a list
void ss_config_wrong(ss_config *config, const char *message);

void *ss_new(size_t size); // zeroed, for as long as the instance lives
const char *ss_c_string(ss_text text); // a copy that ends with NUL, for as long as the instance lives

// --- In `open`. A column that does not exist, or is of another kind, refuses the table with a message.

typedef struct { ss_kind kind; uint32_t at; bool before; } ss_column;
typedef struct { uint32_t document, cell; } ss_field;
typedef struct { ss_text name; ss_kind kind; bool nullable; int64_t length, scale; ss_text source_type; } ss_column_schema; // -1: not known
typedef struct { ss_text name, sink; } ss_target;

ss_column ss_column_of(ss_table *table, const char *name, ss_kind kind); // of the row as it is after the change
// Of the row as it was before. It is absent where there was no row. What a store holds can be recomputed from MySQL only while documents do
// not depend on it.
ss_column ss_column_before(ss_table *table, const char *name, ss_kind kind);
void ss_see_deletes(ss_table *table);                          // deletes come as events too, and nothing is deleted that you do not delete
void ss_refuse(ss_table *table, const char *message);          // say what is wrong and what to do about it

ss_document *ss_document_of(ss_table *table);                  // for every target that the route configures
ss_document *ss_document_for(ss_table *table, const char *target, ...); // for those of the targets that it configures; NULL ends them
void ss_copy(ss_document *document, const char *column);       // passes a column on, unchanged; it does not cross to the transform
void ss_copy_as(ss_document *document, const char *column, ss_kind kind, const char *field); // a dot nests: "address.city"
ss_field ss_add_field(ss_document *document, const char *name); // for ss_set_*; the name "" takes SS_JSON with the whole document
// Parts of an explicit key, before any field. Without any, the key is the row's primary key, which is always safe; with them, it must hold
// every primary-key column by ss_key_copy, and the route must permit it.
ss_field ss_add_key(ss_document *document, const char *name);
void ss_key_copy(ss_document *document, const char *column);

size_t ss_column_count(const ss_table *table);
ss_column_schema ss_column_at(const ss_table *table, size_t index);
size_t ss_key_count(const ss_table *table);                    // columns of the primary key; 0: the table has none
ss_column_schema ss_key_at(const ss_table *table, size_t index); // in the key's order
size_t ss_target_count(const ss_table *table);                 // targets of the route
ss_target ss_target_at(const ss_table *table, size_t index);
ss_text ss_database(const ss_table *table);
ss_text ss_table_name(const ss_table *table);

// --- In `event`: what happened

typedef enum { SS_CREATE, SS_UPDATE, SS_DELETE, SS_READ } ss_op; // SS_READ: by a snapshot; SS_DELETE: only after ss_see_deletes

ss_op ss_row_op(const ss_row *row);
uint64_t ss_offset(const ss_row *row);    // Kafka's
uint32_t ss_partition(const ss_row *row); // Kafka's
int64_t ss_changed_at(const ss_row *row); // in microseconds since the Unix epoch

// SS_ABSENT: the column is not in this image of the row, which is not NULL: so the image before a create, and the image after a delete.
ss_kind ss_presence(const ss_row *row, ss_column column);

// True: the value. False: it is NULL; or it is absent or of another kind, which rejects the event.
bool ss_get_text(ss_row *row, ss_column column, ss_text *text);
bool ss_get_int(ss_row *row, ss_column column, int64_t *integer); // SS_INTEGER
bool ss_get_unsigned(ss_row *row, ss_column column, uint64_t *integer);
bool ss_get_double(ss_row *row, ss_column column, double *number);
bool ss_get_boolean(ss_row *row, ss_column column, bool *boolean);
bool ss_get_decimal(ss_row *row, ss_column column, ss_text *digits); // plain digits: "-12.340"
bool ss_get_bytes(ss_row *row, ss_column column, ss_bytes *bytes);
bool ss_get_bits(ss_row *row, ss_column column, ss_bytes *bits);     // big-endian
bool ss_get_json(ss_row *row, ss_column column, ss_text *json);
bool ss_get_geometry(ss_row *row, ss_column column, ss_bytes *ewkb);
bool ss_get_date(ss_row *row, ss_column column, ss_date *date);
bool ss_get_time(ss_row *row, ss_column column, ss_time *time);
bool ss_get_datetime(ss_row *row, ss_column column, ss_datetime *datetime);
bool ss_get_timestamp(ss_row *row, ss_column column, ss_timestamp *timestamp);
bool ss_get_moment(ss_row *row, ss_column column, int64_t *micros);
bool ss_get_value(ss_row *row, ss_column column, ss_value *value);

// The decimal times 10^digits, exactly: "-12.34" has -1234 minor units of 2 digits. One that is finer, or does not fit, rejects the event.
int64_t ss_minor_units(ss_row *row, ss_text decimal, unsigned digits);
ss_text ss_from_minor_units(ss_row *row, int64_t units, unsigned digits); // the inverse: -5 of 2 digits is "-0.05"

ss_text ss_trim(ss_text text);              // without Unicode's white space at both ends
ss_text ss_upper(ss_row *row, ss_text text); // by Unicode
ss_text ss_lower(ss_row *row, ss_text text);
void *ss_alloc(ss_row *row, size_t size);   // until the end of `event`

// --- In `event`: what becomes of it. A target that gets no put holds no document for the row afterwards.

void ss_put(ss_row *row, const ss_document *document); // replaces the document; what is then not set, it does not have
void ss_delete(ss_row *row, const ss_document *document);
void ss_skip(ss_row *row); // the row has no document anywhere; without any put, delete or skip the event is rejected as "no-outcome"
// The event goes to the dead-letter topic. The code is short and constant, because it labels a metric: "bad-amount".
void ss_reject(ss_row *row, const char *code, const char *message);
bool ss_rejected(const ss_row *row); // whether it already is: of use where a loop would go on in vain

// Of the last put or delete.
void ss_ttl(ss_row *row, uint32_t seconds); // of a put: the document expires; 0 leaves that to the target
void ss_set_null(ss_row *row, ss_field field);
void ss_set_absent(ss_row *row, ss_field field);
void ss_set_text(ss_row *row, ss_field field, ss_text text);
void ss_set_int(ss_row *row, ss_field field, int64_t integer);
void ss_set_unsigned(ss_row *row, ss_field field, uint64_t integer);
void ss_set_double(ss_row *row, ss_field field, double number);
void ss_set_boolean(ss_row *row, ss_field field, bool boolean);
void ss_set_decimal(ss_row *row, ss_field field, ss_text digits);
void ss_set_bytes(ss_row *row, ss_field field, ss_bytes bytes);
void ss_set_bits(ss_row *row, ss_field field, ss_bytes bits);
void ss_set_json(ss_row *row, ss_field field, ss_text json); // any JSON; the host refuses what does not parse
void ss_set_geometry(ss_row *row, ss_field field, ss_bytes ewkb);
void ss_set_date(ss_row *row, ss_field field, ss_date date);
void ss_set_time(ss_row *row, ss_field field, ss_time time);
void ss_set_datetime(ss_row *row, ss_field field, ss_datetime datetime);
void ss_set_timestamp(ss_row *row, ss_field field, ss_timestamp timestamp);
void ss_set_year(ss_row *row, ss_field field, int64_t year);
void ss_set_value(ss_row *row, ss_field field, ss_value value);

// --- Log lines and counters leave the transform when the batch has succeeded. Keep rows' values out of them; names of counters have no
// labels and are capped by the host, so they must be few and constant.

typedef enum { SS_DEBUG, SS_INFO, SS_WARN, SS_ERROR } ss_level;

void ss_log(ss_level level, const char *message);
void ss_count(const char *counter, uint32_t delta);
