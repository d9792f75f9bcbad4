// What a streamsync transform is written with in JavaScript: rows by column name, documents by field.
//
//     import { defineTransform, kind } from './streamsync.js';
//
//     export const transform = defineTransform({
//       name: 'cities',
//       version: '1.0.0',
//       open(table) {                                              // once for each version of the table
//         const name = table.column('name', kind.text);
//         const city = table.document().copy('city_id', 'population').field('name');
//         return (row, changes) => {                               // for each change
//           changes.put(city, { name: row.get(name)?.toUpperCase() });  // null is NULL
//         };
//       },
//     });
//
// A transform is pure: the same batch gives the same outcome, on every machine. It has no clock, no randomness, no files and no
// network; `log` and `metrics` are all that leaves it besides its outcome.
//
// The contract is streamsync:transform@0.1.0. This file comes with the engine and is not meant to be edited.

import { emit } from 'streamsync:transform/log@0.1.0';
import { add } from 'streamsync:transform/metrics@0.1.0';

/** Log lines. They leave the transform when the batch has succeeded. Keep rows' values out of them. */
export const log = {
  debug: (message) => emit('debug', message),
  info: (message) => emit('info', message),
  warn: (message) => emit('warn', message),
  error: (message) => emit('error', message),
};

/** Counters. Names have no labels and are capped by the host, so they must be few and constant. */
export const metrics = { add: (counter, delta = 1) => add(counter, delta) };

// --- Errors. One that is thrown where it does not belong is a mistake like any other, and told with its name and its place.

/** Throw it for an event: it goes to the dead-letter topic, those beside it go on. The code is short and constant, because it labels a
 *  metric: "bad-amount". The message need not repeat values, because the dead letter holds the row. */
export class Reject extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
  get name() {
    return 'Reject';
  }
}

/** Throw it in `open`: the transform does not take this table. Say what is wrong and what to do about it. */
export class OpenError extends Error {
  get name() {
    return 'OpenError';
  }
}

/** Throw it in `readConfig`: the route's `config` is wrong. The route does not start. */
export class ConfigError extends Error {
  get name() {
    return 'ConfigError';
  }
}

// --- Values that JavaScript has no type for

class Value {
  constructor(tag, content) {
    this.tag = tag;
    this.content = content;
  }
  valueOf() {
    return this.content;
  }
  toString() {
    return String(this.content);
  }
  /** JSON has no form for it, and none is guessed: a decimal may be meant as a text or as a number. */
  toJSON() {
    const name = this === ABSENT ? 'ABSENT' : `a ${this.constructor.name}`;
    throw new TypeError(`${name} can't be inside of an object or array, which become JSON: put what JSON has in its place, as `
      + 'String(value), or value.parse() of a Json');
  }
}

/** Read: the column is not in this image of the row, which is not NULL. Set: the document does not have the field. */
export const ABSENT = new Value(1, undefined);

/** An exact decimal, in plain digits: "-12.340". */
export class Decimal extends Value {
  constructor(digits) {
    super(6, String(digits));
    if (!DIGITS.test(this.content) || this.content.length > MAX_DIGITS) {
      throw new TypeError('a Decimal is made of plain digits, as "-12.340": at most 512 characters, no exponent, and no NaN');
    }
  }
  /** The inverse of `minorUnits`: -5n of 2 digits is -0.05. */
  static fromMinorUnits(units, digits) {
    if (typeof units !== 'bigint' && !Number.isSafeInteger(units)) throw new TypeError('minor units are a BigInt, or a safe integer');
    if (!Number.isSafeInteger(digits) || digits < 0) throw new TypeError('the digits of minor units are a whole number, not below 0');
    const text = String(units < 0 ? -BigInt(units) : BigInt(units)).padStart(digits + 1, '0'); // one digit at least stands before the point
    const point = text.length - digits;
    return new Decimal((units < 0 ? '-' : '') + text.slice(0, point) + (digits > 0 ? '.' + text.slice(point) : ''));
  }
  /** What +, < and == would take: the digits as a text, so that "9.00" came after "10.00" and the sum of two was the one behind the other. */
  valueOf() {
    throw new TypeError('a Decimal is no number: count and compare in minorUnits(n), which are BigInts; String(decimal) has the digits');
  }
  /** The decimal times 10^digits, exactly, as a BigInt: "-12.34" has -1234n minor units of 2 digits. One that is finer, or does not
   *  fit 64 bits, rejects the event. */
  minorUnits(digits) {
    const parts = PLAIN.exec(this.content);
    if (parts === null) throw new Reject('decimal-malformed', 'the decimal is not written in plain digits');
    const fraction = parts[2] ?? '';
    let plain = parts[1] + fraction;
    if (fraction.length < digits) {
      plain += '0'.repeat(digits - fraction.length);
    } else if (fraction.length > digits) {
      if (!/^0*$/.test(fraction.slice(digits))) throw new Reject('decimal-inexact', 'the decimal is finer than a minor unit');
      plain = parts[1] + fraction.slice(0, digits);
    }
    const units = BigInt(plain);
    if (units > MAX_INT || units < MIN_INT) throw new Reject('decimal-too-large', 'the decimal does not fit 64 bits in minor units');
    return units;
  }
}

/** A floating-point number, also where it is whole: a plain number that is a safe integer becomes an integer. */
export class Double extends Value {
  constructor(number) {
    super(5, Number(number));
  }
}

/** BIGINT UNSIGNED; from a BigInt or a number. */
export class Unsigned extends Value {
  constructor(integer) {
    super(4, BigInt(integer));
  }
}

/** YEAR. */
export class Year extends Value {
  constructor(year) {
    super(16, BigInt(year));
  }
}

/** JSON as text: what a JSON column holds, or a field whose members are not known in `open`. Objects and arrays become JSON too, where all
 *  that is inside of them is JavaScript's own: no value of this SDK, and no bytes. */
export class Json extends Value {
  constructor(text) {
    super(10, text);
    if (typeof text !== 'string') {
      throw new TypeError('a Json is made of JSON\'s text: JSON.stringify(value), or set the object or array itself, which becomes JSON');
    }
  }
  parse() {
    return JSON.parse(this.content);
  }
}

/** BIT(n): a Uint8Array, big-endian. */
export class Bits extends Value {
  constructor(bytes) {
    super(9, bytes);
  }
}

/** A geometry: a Uint8Array with EWKB. */
export class Geometry extends Value {
  constructor(bytes) {
    super(11, bytes);
  }
}

/** A day without a zone, as days since 1970-01-01. */
export class Day extends Value {
  constructor(days) {
    super(12, BigInt(days));
  }
  toDate() {
    return new Date(Number(this.content) * 86_400_000);
  }
}

/** MySQL's TIME in microseconds, which may be negative or longer than a day. */
export class Time extends Value {
  constructor(micros) {
    super(13, BigInt(micros));
  }
}

/** A day and a time without a zone, in microseconds since 1970-01-01 00:00. */
export class Datetime extends Value {
  constructor(micros) {
    super(14, BigInt(micros));
  }
  /** To the millisecond, as if it were UTC. */
  toDate() {
    return new Date(wholeMillis(this.content));
  }
}

/** A moment, in microseconds since the Unix epoch, UTC. A `Date` becomes one too. */
export class Timestamp extends Value {
  constructor(micros) {
    super(15, BigInt(micros));
  }
  /** To the millisecond. */
  toDate() {
    return new Date(wholeMillis(this.content));
  }
}

/** The last whole millisecond that is not after a moment in microseconds; before 1970 too, where BigInt's division rounds up. */
const wholeMillis = (micros) => Number((micros < 0n ? micros - 999n : micros) / 1000n);

const PLAIN = /^(-?\d+)(?:\.(\d*))?$/;
const DIGITS = /^-?\d+(?:\.\d+)?$/; // what the host takes
const MAX_DIGITS = 512;

/** A value of a row, which the host has checked. */
const checked = (type, tag, content) => Reflect.construct(Value, [tag, content], type);
const MAX_INT = 2n ** 63n - 1n;
const MIN_INT = -(2n ** 63n);
const MAX_UNSIGNED = 2n ** 64n - 1n;

/** Without white space at both ends: Unicode's, as every language's SDK has it (`trim` takes U+FEFF too, and leaves U+0085). */
export function trim(text) {
  let start = 0;
  let end = text.length;
  while (start < end && isSpace(text.charCodeAt(start))) start++;
  while (end > start && isSpace(text.charCodeAt(end - 1))) end--;
  return end - start === text.length ? text : text.slice(start, end);
}

function isSpace(code) {
  if (code < 0x80) return code === 0x20 || (code >= 0x09 && code <= 0x0d);
  return code === 0x85 || code === 0xa0 || code === 0x1680 || (code >= 0x2000 && code <= 0x200a)
    || code === 0x2028 || code === 0x2029 || code === 0x202f || code === 0x205f || code === 0x3000;
}

// --- Kinds of columns: what `open` asks of a column, where it is checked once

const READ = [ // by tag: what a row gives where the kind is `any`, so that setting it gives the same again
  () => null,
  () => ABSENT,
  (row, at) => row._words32[2 * at] !== 0,
  (row, at) => row._integer(at),
  (row, at) => new Unsigned(BigInt.asUintN(64, row._words64[at])),
  (row, at) => new Double(row._doubles[at]),
  (row, at) => checked(Decimal, 6, row._text(at)),
  (row, at) => row._text(at),
  (row, at) => row._bytes(at),
  (row, at) => new Bits(row._bytes(at)),
  (row, at) => checked(Json, 10, row._text(at)),
  (row, at) => new Geometry(row._bytes(at)),
  (row, at) => new Day(row._words64[at]),
  (row, at) => new Time(row._words64[at]),
  (row, at) => new Datetime(row._words64[at]),
  (row, at) => new Timestamp(row._words64[at]),
  (row, at) => new Year(row._words64[at]),
];

const makeKind = (name, tags, read) => ({ name, tags: READ.map((_, tag) => tags.includes(tag)), read: read ?? READ[tags[0]] });

export const kind = {
  text: makeKind('text', [7]), // string
  integer: makeKind('an integer', [3, 16], (row, at) => row._safeInteger(at)), // number; one beyond 2^53 rejects the event
  bigint: makeKind('an integer', [3, 16], (row, at) => row._words64[at]), // BigInt
  unsigned: makeKind('an unsigned integer', [4], (row, at) => BigInt.asUintN(64, row._words64[at])), // BigInt
  double: makeKind('a floating-point number', [5], (row, at) => row._doubles[at]), // number
  boolean: makeKind('a boolean', [2]), // boolean
  decimal: makeKind('an exact decimal', [6]), // Decimal
  bytes: makeKind('bytes', [8]), // Uint8Array
  bits: makeKind('bits', [9]), // Bits
  json: makeKind('JSON', [10]), // Json
  geometry: makeKind('a geometry', [11]), // Geometry
  date: makeKind('a date', [12]), // Day
  time: makeKind('a time', [13]), // Time
  datetime: makeKind('a datetime', [14]), // Datetime
  timestamp: makeKind('a timestamp', [15]), // Timestamp
  moment: makeKind('a timestamp or datetime', [14, 15], (row, at) => READ[row._tags[at]](row, at)), // Datetime or Timestamp
  any: makeKind('any value', READ.map((_, tag) => tag).slice(2), (row, at) => READ[row._tags[at]](row, at)),
};

// --- What `open` declares

/** A declared document. The order of the fields is that of the calls. */
class Document {
  constructor(table, targets) {
    this._table = table;
    this._targets = targets;
    this._key = []; // [name, the copied column's index or null]
    this._fields = [];
  }
  /** Passes columns on, unchanged and under their own names. They do not cross to the transform. */
  copy(...columns) {
    for (const column of columns) this.copyAs(column, column);
    return this;
  }
  /** Passes a column of a certain kind on under another name; a dot nests: "address.city". */
  copyAs(column, field, columnKind = kind.any) {
    return this._addField(field, this._table._find(column, columnKind));
  }
  /** Fields that `put` sets; a dot nests. The single name "" takes a `Json` or an object with the whole document. */
  field(...names) {
    for (const name of names) this._addField(name, null);
    return this;
  }
  /** A part of an explicit key, which `put` and `delete` set. Without any, the key is the row's primary key, which is always safe; with
   *  them, the key must hold every primary-key column by `keyCopy`, and the route must permit it. */
  key(name) {
    return this._addKey(name, null);
  }
  /** A column as a part of an explicit key, under its own name. */
  keyCopy(column) {
    return this._addKey(column, this._table._find(column, kind.any));
  }
  _addField(name, column) {
    for (const [other] of this._fields) {
      if (other === name) throw new OpenError(`the document has the field ${quoted(name)} twice: name each field once`);
      if (nestsIn(name, other) || nestsIn(other, name)) {
        throw new OpenError(`${quoted(name)} and ${quoted(other)}: a name is either a field or a parent of fields`);
      }
    }
    this._fields.push([name, column]);
    return this;
  }
  _addKey(name, column) {
    if (this._fields.length > 0) throw new OpenError(`the key's part ${quoted(name)} comes after a field: declare the key first`);
    if (this._key.some(([other]) => other === name)) {
      throw new OpenError(`the key has the part ${quoted(name)} twice: name each part once`);
    }
    this._key.push([name, column]);
    return this;
  }
  _build(outputs) {
    const cells = [...this._key, ...this._fields];
    const [key, fields] = [this._key.map(([name]) => name), this._fields.map(([name]) => name)];
    this._outputs = this._targets.map((target) => outputs.push({ target, key, fields }) - 1);
    this._keyCells = key.length;
    this._settable = Object.create(null);
    cells.forEach(([name, column], at) => { if (column === null) this._settable[name] = at; });
    this._cellTags = Uint8Array.from(cells, ([, column]) => (column === null ? 1 : 32));
    this._cellTagsOfDeleted = this._cellTags.map((tag) => (tag === 32 ? 33 : tag)); // a deleted row's copies are those before
    this._cellWords = Uint32Array.from(cells.flatMap(([, column]) => [column ?? 0, 0]));
    const steps = (action) => Uint32Array.from(this._outputs.flatMap((output) => [0, action, output, 0])); // event and ttl to be set
    this._steps = [steps(0), steps(1)];
  }
}

const nestsIn = (inner, outer) => outer === '' || inner.startsWith(outer + '.');
const quoted = (name) => JSON.stringify(name);

/** One version of one table, as `open` sees it. */
class Table {
  constructor(schema, context) {
    this.schema = schema; // columns with their MySQL types, and the primary key
    this.context = context; // the route: its targets, and its configuration as text
    this._plan = { before: [], after: [], seesDeletes: false, outputs: [] };
    this._columns = [];
    this._documents = [];
  }
  /** A column of the row as it is after the change. */
  column(name, columnKind = kind.any) {
    return this._read('after', name, columnKind);
  }
  /** A column of the row as it was before the change. It is absent where there was no row. What a store holds can be recomputed from
   *  MySQL only while documents do not depend on it. */
  columnBefore(name, columnKind = kind.any) {
    return this._read('before', name, columnKind);
  }
  /** Deletes come as events too, and nothing is deleted that the transform does not delete. */
  seeDeletes() {
    this._plan.seesDeletes = true;
  }
  /** A document for every target that the route configures. */
  document() {
    return this.documentFor(...this.context.targets.map((target) => target.name));
  }
  /** A document for those of the named targets that the route configures; what is put for the others is written nowhere. */
  documentFor(...targets) {
    const configured = this.context.targets.map((target) => target.name).filter((name) => targets.includes(name));
    this._documents.push(new Document(this, configured));
    return this._documents.at(-1);
  }
  _find(name, { name: kindName, tags }) {
    const { database, table, columns } = this.schema;
    const index = columns.findIndex((column) => column.name === name);
    if (index < 0) {
      const names = columns.map((column) => column.name).join(', ');
      throw new OpenError(`${database}.${table} has no column ${quoted(name)}: its columns are ${names}`);
    }
    const { tag, sourceType } = columns[index];
    if (!tags[tag]) {
      throw new OpenError(`${database}.${table}.${name} comes as ${sourceType} (tag ${tag}), but the transform needs ${kindName}: correct `
        + 'the connector\'s handling mode, or the type that the route declares for the column');
    }
    return index;
  }
  _read(image, name, columnKind) {
    const index = this._find(name, columnKind);
    const crossing = this._plan[image];
    if (!crossing.includes(index)) crossing.push(index); // one that is asked for twice crosses once
    const column = { kind: columnKind, at: crossing.indexOf(index), image };
    this._columns.push(column);
    return column;
  }
  _close() {
    for (const column of this._columns) { // an event's cells are those of the image before, then those of the image after
      if (column.image === 'after') column.at += this._plan.before.length;
    }
    for (const document of this._documents) document._build(this._plan.outputs);
    return this._plan;
  }
}

// --- What an event's function reads

const OPS = ['create', 'update', 'delete', 'read'];
const EVENT_WORDS = 6; // of 32 bits
const MAX_TTL = 0xffff_ffff;

/** One change of one row. */
class Row {
  /** "create", "update", "read" (by a snapshot), or, after `seeDeletes`, "delete". */
  get op() {
    return OPS[this._op];
  }
  /** Kafka's offset, a BigInt. */
  get offset() {
    return BigInt.asUintN(64, this._header64(0));
  }
  /** When the row changed, in microseconds since the Unix epoch, a BigInt. */
  get changedAt() {
    return this._header64(2);
  }
  /** Kafka's partition. */
  get partition() {
    return this._partition;
  }
  /** The column's value, or null where it is NULL. A column that is absent rejects the event: see `presence`. */
  get(column) {
    const at = this._first + column.at;
    const tag = this._tags[at];
    if (column.kind.tags[tag]) return column.kind.read(this, at);
    if (tag === 0) return null;
    const { name } = column.kind;
    if (tag === 1) throw new Reject('absent-column', `a column that should be ${name} is absent from the row image`);
    throw new Reject('wrong-kind', `a column whose schema says ${name} has a value of another kind`);
  }
  /** The column's value; null where it is NULL, `ABSENT` where it is not in this image of the row: so the image before a create, and
   *  the image after a delete. */
  presence(column) {
    return this._tags[this._first + column.at] === 1 ? ABSENT : this.get(column);
  }
  /** 64 bits of the event's header. */
  _header64(word) {
    const at = EVENT_WORDS * this._event + word;
    return BigInt.asIntN(64, (BigInt(this._events[at + 1]) << 32n) | BigInt(this._events[at]));
  }
  _integer(at) {
    const integer = this._words64[at];
    const number = Number(integer);
    return Number.isSafeInteger(number) ? number : integer;
  }
  _safeInteger(at) {
    const integer = this._integer(at);
    if (typeof integer === 'number') return integer;
    throw new Reject('unsafe-integer', 'an integer is beyond 2^53: read the column as kind.bigint');
  }
  _text(at) {
    const start = this._words32[2 * at + 1];
    const text = this._latin1.slice(start, start + this._words32[2 * at]);
    return this._isAscii ? text : decode(text);
  }
  _bytes(at) {
    const start = this._words32[2 * at + 1];
    return this._heap.slice(start, start + this._words32[2 * at]);
  }
  _begin({ partition, events, cells: { tags, words, heap } }) {
    const aligned = words.byteOffset % 8 === 0 ? words : words.slice();
    const headers = events.byteOffset % 4 === 0 ? events : events.slice();
    this._partition = partition;
    this._events = new Uint32Array(headers.buffer, headers.byteOffset, events.length / 4);
    this._tags = tags;
    this._words32 = new Uint32Array(aligned.buffer, aligned.byteOffset, 2 * tags.length);
    this._words64 = new BigInt64Array(aligned.buffer, aligned.byteOffset, tags.length);
    this._doubles = new Float64Array(aligned.buffer, aligned.byteOffset, tags.length);
    this._heap = heap;
    this._latin1 = toLatin1(heap);
    this._isAscii = isAscii(this._latin1); // then a text is a slice, and need not be decoded
  }
  _go(event, cells) {
    this._event = event;
    this._first = event * cells;
    this._op = this._events[EVENT_WORDS * event + 4];
  }
}

// --- What an event's function says

/** What becomes of an event. A target that gets no put holds no document for the row afterwards. */
class Changes {
  constructor() {
    this._steps = new Uint32Array(0); // event, action, output, time to live
    this._tags = new Uint8Array(0);
    this._words32 = new Uint32Array(0);
    this._begin();
    this._room(64, 256);
  }
  /** Writes a document: it replaces the one that its target holds for the row. A field that is not set is not in the document; null is
   *  null, and so is undefined, which `?.` gives of null. With `ttlSeconds` the document expires; 0 leaves that to the target. */
  put(document, values, options) {
    const ttl = options === undefined ? 0 : ttlOf(options);
    this._write(0, document, document._cellTags.length, values);
    if (ttl > 0) this._setTtl(document, ttl);
  }
  /** Deletes a document; of use after `seeDeletes`, or with an explicit key. */
  delete(document, key) {
    for (const name in key) {
      if (document._settable[name] >= document._keyCells) {
        throw new Reject('delete-with-field', 'the transform sets a field of a document that it deletes: set its key only');
      }
    }
    this._write(1, document, document._keyCells, key);
  }
  /** The row has no document anywhere. Without any put, delete or skip the event is rejected as "no-outcome". */
  skip() {
    this._spoke = true;
  }

  // What follows is written for an interpreter: a call or a loop in the engine costs less there than a step in JavaScript.

  _begin() {
    this._stepWords = 0;
    this._cells = 0;
    this._texts = []; // texts and bytes: they become the heap at the end
    this._heapLength = 0; // as long as each character is a byte; else `_pack` corrects the cells
  }
  _go(event, deleted) {
    this._event = event;
    this._deleted = deleted;
    this._spoke = false;
    this._firstStepWord = this._stepWords;
    this._firstCell = this._cells;
    this._firstText = this._texts.length;
    this._firstByte = this._heapLength;
  }
  /** The event's function has returned. */
  _end() {
    if (this._stepWords !== this._firstStepWord) return;
    if (!this._spoke) throw new Reject('no-outcome', 'the transform neither wrote nor skipped the event');
    this._step(2);
  }
  /** Takes back what the event has written. */
  _reject({ code, message }) {
    this._stepWords = this._firstStepWord;
    this._cells = this._firstCell;
    this._texts.length = this._firstText;
    this._heapLength = this._firstByte;
    this._step(3);
    for (const text of [code, message]) this._setText(this._cells++, 7, String(text));
  }
  /** A skip or a reject. */
  _step(action) {
    this._room(4, 2);
    this._steps.set([this._event, action, 0, 0], this._stepWords);
    this._stepWords += 4;
  }
  /** Room for more. */
  _room(stepWords, cells) {
    if (this._stepWords + stepWords > this._steps.length) {
      const steps = new Uint32Array(2 * (this._stepWords + stepWords));
      steps.set(this._steps);
      this._steps = steps;
    }
    if (this._cells + cells > this._tags.length) {
      const size = 2 * (this._cells + cells);
      const [tags, words] = [new Uint8Array(size), new Uint32Array(2 * size)];
      tags.set(this._tags);
      words.set(this._words32);
      this._tags = tags;
      this._words32 = words;
      this._words64 = new BigInt64Array(words.buffer);
      this._doubles = new Float64Array(words.buffer);
    }
  }
  _write(action, document, count, values) {
    this._spoke = true;
    const outputs = document._outputs.length;
    if (outputs === 0) return;
    const steps = document._steps[action];
    this._room(steps.length, outputs * count);
    const first = this._cells;
    const tags = this._tags;
    const words = this._words32;
    const declared = this._deleted ? document._cellTagsOfDeleted : document._cellTags;
    tags.set(count === declared.length ? declared : declared.subarray(0, count), first);
    words.set(count === declared.length ? document._cellWords : document._cellWords.subarray(0, 2 * count), 2 * first);
    if (values !== undefined) {
      const settable = document._settable;
      const names = Object.keys(values);
      for (let i = 0; i < names.length; i++) {
        const name = names[i];
        const at = settable[name];
        if (at === undefined) throw new Reject('foreign-field', `the document has no field ${quoted(name)} to set: declare it with field`);
        this._set(first + at, values[name]);
      }
    }
    let end = first + count;
    for (let i = 1; i < outputs; i++) { // the same to the document's other targets: the cells again, over the same texts
      tags.copyWithin(end, first, first + count);
      words.copyWithin(2 * end, 2 * first, 2 * (first + count));
      end += count;
    }
    this._cells = end;
    const step = this._stepWords;
    this._steps.set(steps, step);
    for (let i = 0; i < outputs; i++) this._steps[step + 4 * i] = this._event;
    this._stepWords = step + steps.length;
  }
  /** Of the last write. */
  _setTtl(document, seconds) {
    for (let i = 0; i < document._outputs.length; i++) this._steps[this._stepWords - 4 * i - 1] = seconds;
  }
  /** Sets a cell that is as its document declares it: its word is 0. */
  _set(at, value) {
    const type = typeof value;
    if (type === 'string') {
      this._setText(at, 7, value);
    } else if (type === 'bigint') {
      this._setInteger(at, value > MAX_INT ? 4 : 3, value);
    } else if (type === 'boolean') {
      this._tags[at] = 2;
      if (value) this._words32[2 * at] = 1;
    } else if (value === null || value === undefined) {
      this._tags[at] = 0;
    } else if (type !== 'number') {
      this._setObject(at, value);
    } else if (Number.isSafeInteger(value)) {
      this._tags[at] = 3;
      this._words32[2 * at] = value;
      this._words32[2 * at + 1] = Math.floor(value / 0x1_0000_0000);
    } else {
      this._tags[at] = 5;
      this._doubles[at] = value;
    }
  }
  _setObject(at, value) {
    if (value instanceof Uint8Array) {
      this._setText(at, 8, value);
    } else if (value instanceof Date) {
      if (Number.isNaN(value.getTime())) throw new TypeError('a field can\'t be an invalid Date');
      this._setInteger(at, 15, BigInt(value.getTime()) * 1000n);
    } else if (!(value instanceof Value)) {
      const text = typeof value === 'object' ? JSON.stringify(value, withoutBytes) : undefined;
      if (text === undefined) throw new TypeError(`a field can't be a ${typeof value}: see the values at the top of streamsync.js`);
      this._setText(at, 10, text);
    } else if (value.tag === 5) {
      this._tags[at] = 5;
      this._doubles[at] = value.content;
    } else if (typeof value.content === 'bigint') {
      this._setInteger(at, value.tag, value.content);
    } else if (value === ABSENT) {
      this._tags[at] = 1;
    } else {
      this._setText(at, value.tag, value.content);
    }
  }
  _setInteger(at, tag, integer) {
    if (tag === 4 ? integer < 0n || integer > MAX_UNSIGNED : integer < MIN_INT || integer > MAX_INT) {
      throw new Reject('integer-too-large', 'an integer does not fit 64 bits: set a Decimal');
    }
    this._tags[at] = tag;
    this._words64[at] = integer;
  }
  /** Text or bytes. */
  _setText(at, tag, content) {
    const { length } = content;
    this._tags[at] = tag;
    this._words32[2 * at] = length;
    this._words32[2 * at + 1] = this._heapLength;
    this._heapLength += length;
    this._texts.push(content);
  }
  _outcome() {
    const heap = this._pack();
    return {
      steps: new Uint8Array(this._steps.buffer, 0, 4 * this._stepWords),
      cells: { tags: this._tags.subarray(0, this._cells), words: new Uint8Array(this._words32.buffer, 0, 8 * this._cells), heap },
    };
  }
  /** The heap: all texts at once where each character is a byte, else one after the other, and then the cells are corrected. */
  _pack() {
    const texts = this._texts;
    if (!texts.some((text) => typeof text !== 'string')) {
      const joined = texts.join('');
      if (isAscii(joined)) return fromLatin1(joined);
    }
    const parts = texts.map((text) => (typeof text === 'string' ? encode(text) : text));
    const starts = new Map(); // of the bytes, by where a text was thought to start
    const lengths = new Map();
    let [thought, end] = [0, 0];
    texts.forEach((text, i) => {
      starts.set(thought, end);
      if (text.length > 0) lengths.set(thought, parts[i].length);
      thought += text.length;
      end += parts[i].length;
    });
    for (let cell = 0; cell < this._cells; cell++) {
      if (this._tags[cell] < 6 || this._tags[cell] > 11) continue;
      const start = this._words32[2 * cell + 1];
      this._words32[2 * cell + 1] = starts.get(start);
      if (this._words32[2 * cell] > 0) this._words32[2 * cell] = lengths.get(start);
    }
    const heap = new Uint8Array(end);
    end = 0;
    for (const bytes of parts) {
      heap.set(bytes, end);
      end += bytes.length;
    }
    return heap;
  }
}

function ttlOf(options) {
  const seconds = options?.ttlSeconds ?? 0;
  if (Number.isInteger(seconds) && seconds >= 0 && seconds <= MAX_TTL) return seconds;
  throw new TypeError('ttlSeconds is a whole number of seconds, from 0 to 4294967295');
}

/** Of bytes, JSON.stringify would make an object with a member for each. */
function withoutBytes(key, value) {
  if (!ArrayBuffer.isView(value) && !(value instanceof ArrayBuffer)) return value;
  throw new TypeError('bytes can\'t be inside of an object or array, which become JSON: put them as text, with toBase64 or toHex; a '
    + 'field of its own takes a Uint8Array');
}

// UTF-8 by way of strings that have a byte in each character, because QuickJS has neither TextDecoder nor TextEncoder; and these by way of
// base64, because that costs no step of the interpreter a character.

const isAscii = (text) => /^[\0-\x7f]*$/.test(text);
const decode = (latin1) => (isAscii(latin1) ? latin1 : decodeURIComponent(escape(latin1)));
const encode = (text) => fromLatin1(isAscii(text) ? text : unescape(encodeURIComponent(text.toWellFormed())));
const toLatin1 = (bytes) => atob(bytes.toBase64());
const fromLatin1 = (text) => Uint8Array.fromBase64(btoa(text));

// --- The component

/** Makes a component: `export const transform = defineTransform({ … })`.
 *
 *  `open(table, config)` returns the function that is called for each event. Where the transform takes a configuration,
 *  `configSchema` is its JSON Schema as text, and `readConfig(settings)` returns what `open` gets, or throws a `ConfigError`. */
export function defineTransform({ name, version, configSchema, readConfig = noConfig, open }) {
  const tables = new Map();
  const row = new Row();
  const changes = new Changes();
  let context;
  let config;
  return {
    describe: () => ({ name, version, configSchema }),
    init(given) {
      context = given;
      try {
        const settings = JSON.parse(given.config.trim() || '{}') ?? {};
        if (typeof settings !== 'object' || Array.isArray(settings)) throw new ConfigError('it is no object');
        config = readConfig(settings);
      } catch (error) {
        throw `the config of the transform ${quoted(name)}: ${error instanceof ConfigError ? error.message : explain(error)}`;
      }
    },
    open(schema) {
      try {
        const table = new Table(schema, context);
        const event = open(table, config);
        const plan = table._close();
        tables.set(schema.id, { event, cells: plan.before.length + plan.after.length });
        return plan;
      } catch (error) {
        throw error instanceof OpenError || error instanceof Reject ? error.message : explain(error);
      }
    },
    apply(batch) {
      const table = tables.get(batch.schema);
      if (table === undefined) throw `schema ${batch.schema} was not opened`;
      try {
        return applyTo(batch, table, row, changes);
      } catch (error) {
        throw explain(error);
      }
    },
  };
}

function noConfig(settings) {
  const [name] = Object.keys(settings);
  if (name !== undefined) throw new ConfigError(`there is no setting ${quoted(name)}, because the transform takes none`);
}

function applyTo(batch, { event, cells }, row, changes) {
  row._begin(batch);
  changes._begin();
  const count = batch.events.length / 4 / EVENT_WORDS;
  for (let e = 0; e < count; e++) {
    row._go(e, cells);
    changes._go(e, row._op === 2);
    try {
      event(row, changes);
      changes._end();
    } catch (error) {
      if (!(error instanceof Reject)) throw error;
      changes._reject(error);
    }
  }
  return changes._outcome();
}

/** A mistake of the transform's own: its text, and the line of the transform that made it. */
function explain(error) {
  if (!(error instanceof Error)) return String(error);
  const place = /\((?![^)]*streamsync\.js)\/?([^()\s]+:\d+(?::\d+)?)\)/.exec(error.stack ?? '');
  return `${error.name}: ${error.message}${place ? ` (${place[1]})` : ''}`;
}
