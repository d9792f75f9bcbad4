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

// --- Errors

/** Throw it for an event: it goes to the dead-letter topic, those beside it go on. The code is short and constant, because it labels a
 *  metric: "bad-amount". The message need not repeat values, because the dead letter holds the row. */
export class Reject {
  constructor(code, message) {
    this.code = code;
    this.message = message;
  }
}

/** Throw it in `open`: the transform does not take this table. Say what is wrong and what to do about it. */
export class OpenError {
  constructor(message) {
    this.message = message;
  }
}

/** Throw it in `readConfig`: the route's `config` is wrong. The route does not start. */
export class ConfigError {
  constructor(message) {
    this.message = message;
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
}

/** Read: the column is not in this image of the row, which is not NULL. Set: the document does not have the field. */
export const ABSENT = new Value(1, undefined);

/** An exact decimal, in plain digits: "-12.340". */
export class Decimal extends Value {
  constructor(digits) {
    super(6, String(digits));
  }
  /** The decimal times 10^digits, exactly, as a BigInt: "-12.34" has -1234n minor units of 2 digits. One that is finer, or does not
   *  fit 64 bits, rejects the event. */
  minorUnits(digits) {
    const text = this.content;
    const point = text.indexOf('.');
    const whole = point < 0 ? text : text.slice(0, point);
    const fraction = point < 0 ? '' : text.slice(point + 1);
    const plain = whole + fraction.slice(0, digits);
    const finer = fraction.slice(digits);
    if (whole === '' || whole === '-' || !/^-?\d+$/.test(plain) || !/^\d*$/.test(finer)) {
      throw new Reject('decimal-malformed', 'the decimal is not written in plain digits');
    }
    if (!/^0*$/.test(finer)) throw new Reject('decimal-inexact', 'the decimal is finer than a minor unit');
    const units = BigInt(fraction.length < digits ? plain + '0'.repeat(digits - fraction.length) : plain);
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

/** JSON as text: what a JSON column holds, or a field whose members are not known in `open`. Objects and arrays become JSON too. */
export class Json extends Value {
  constructor(text) {
    super(10, text);
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
    return new Date(Number(this.content / 1000n));
  }
}

/** A moment, in microseconds since the Unix epoch, UTC. A `Date` becomes one too. */
export class Timestamp extends Value {
  constructor(micros) {
    super(15, BigInt(micros));
  }
  /** To the millisecond. */
  toDate() {
    return new Date(Number(this.content / 1000n));
  }
}

const MAX_INT = 2n ** 63n - 1n;
const MIN_INT = -(2n ** 63n);

/** Without white space at both ends: Unicode's, as every language's SDK has it (`trim` takes U+FEFF too, and leaves U+0085). */
export function trim(text) {
  let [start, end] = [0, text.length];
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
  (row, at) => new Decimal(row._text(at)),
  (row, at) => row._text(at),
  (row, at) => row._bytes(at),
  (row, at) => new Bits(row._bytes(at)),
  (row, at) => new Json(row._text(at)),
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
const EVENT_BYTES = 24;

/** One change of one row. */
class Row {
  /** "create", "update", "read" (by a snapshot), or, after `seeDeletes`, "delete". */
  get op() {
    return OPS[this._op];
  }
  /** Kafka's offset, a BigInt. */
  get offset() {
    return this._events.getBigUint64(EVENT_BYTES * this._event, true);
  }
  /** When the row changed, in microseconds since the Unix epoch, a BigInt. */
  get changedAt() {
    return this._events.getBigInt64(EVENT_BYTES * this._event + 8, true);
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
    const [length, start] = [this._words32[2 * at], this._words32[2 * at + 1]];
    return this._ascii === null ? decode(this._heap.subarray(start, start + length)) : this._ascii.slice(start, start + length);
  }
  _bytes(at) {
    const [length, start] = [this._words32[2 * at], this._words32[2 * at + 1]];
    return this._heap.slice(start, start + length);
  }
  _begin({ partition, events, cells: { tags, words, heap } }) {
    const aligned = words.byteOffset % 8 === 0 ? words : words.slice();
    const all = decode(heap);
    this._partition = partition;
    this._events = new DataView(events.buffer, events.byteOffset, events.length);
    this._tags = tags;
    this._words32 = new Uint32Array(aligned.buffer, aligned.byteOffset, 2 * tags.length);
    this._words64 = new BigInt64Array(aligned.buffer, aligned.byteOffset, tags.length);
    this._doubles = new Float64Array(aligned.buffer, aligned.byteOffset, tags.length);
    this._heap = heap;
    this._ascii = all.length === heap.length ? all : null; // then a text is a slice, and need not be decoded
  }
  _go(event, cells) {
    this._event = event;
    this._first = event * cells;
    this._op = this._events.getUint32(EVENT_BYTES * event + 16, true);
  }
}

// --- What an event's function says

/** What becomes of an event. A target that gets no put holds no document for the row afterwards. */
class Changes {
  constructor() {
    this._steps = new Uint32Array(256);
    this._room(256);
    this._begin();
  }
  /** Writes a document: it replaces the one that its target holds for the row. A field that is not set is not in the document; null is
   *  null, and so is undefined, which `?.` gives of null. With `ttlSeconds` the document expires; 0 leaves that to the target. */
  put(document, values = {}, { ttlSeconds = 0 } = {}) {
    this._write(0, document, document._cellTags.length, values, ttlSeconds);
  }
  /** Deletes a document; of use after `seeDeletes`, or with an explicit key. */
  delete(document, key = {}) {
    for (const name in key) {
      if (document._settable[name] >= document._keyCells) {
        throw new Reject('delete-with-field', 'the transform sets a field of a document that it deletes: set its key only');
      }
    }
    this._write(1, document, document._keyCells, key, 0);
  }
  /** The row has no document anywhere. Without any put, delete or skip the event is rejected as "no-outcome". */
  skip() {
    this._spoke = true;
  }

  _begin() {
    this._stepWords = this._cells = 0;
    this._texts = []; // cell, text or bytes; they become the heap at the end
    this._repeats = []; // from, to, count of cells whose words are the same
  }
  _go(event, deleted) {
    this._event = event;
    this._deleted = deleted;
    this._spoke = false;
  }
  _mark() {
    return [this._stepWords, this._cells, this._texts.length, this._repeats.length];
  }
  /** Takes back what the event has written. */
  _reject([stepWords, cells, texts, repeats], { code, message }) {
    this._stepWords = stepWords;
    this._cells = cells;
    this._texts.length = texts;
    this._repeats.length = repeats;
    this._step(3, 0, 0);
    this._room(2);
    for (const text of [code, message]) this._set(this._cells++, String(text));
  }
  _step(action, output, ttlSeconds) {
    const end = this._stepWords + 4;
    if (end > this._steps.length) {
      const steps = new Uint32Array(2 * end);
      steps.set(this._steps);
      this._steps = steps;
    }
    const steps = this._steps;
    steps[end - 4] = this._event;
    steps[end - 3] = action;
    steps[end - 2] = output;
    steps[end - 1] = ttlSeconds;
    this._stepWords = end;
  }
  /** Room for more cells. */
  _room(count) {
    const cells = (this._cells ?? 0) + count;
    if (this._tags !== undefined && cells <= this._tags.length) return;
    const size = 2 * cells;
    const tags = new Uint8Array(size);
    const words = new Uint32Array(2 * size);
    if (this._tags !== undefined) {
      tags.set(this._tags);
      words.set(this._words32);
    }
    this._tags = tags;
    this._words32 = words;
    this._words64 = new BigInt64Array(words.buffer);
    this._doubles = new Float64Array(words.buffer);
  }
  _write(action, document, count, values, ttlSeconds) {
    this._spoke = true;
    const outputs = document._outputs;
    if (outputs.length === 0) return;
    const first = this._cells;
    let tags = this._deleted ? document._cellTagsOfDeleted : document._cellTags;
    let words = document._cellWords;
    if (count < tags.length) {
      tags = tags.subarray(0, count);
      words = words.subarray(0, 2 * count);
    }
    this._step(action, outputs[0], ttlSeconds);
    this._room(outputs.length * count);
    this._tags.set(tags, first);
    this._words32.set(words, 2 * first);
    this._cells += count;
    for (const name in values) {
      const at = document._settable[name];
      if (at === undefined) throw new Reject('foreign-field', `the document has no field ${quoted(name)} to set: declare it with field`);
      this._set(first + at, values[name]);
    }
    for (let i = 1; i < outputs.length; i++) { // the same to the document's other targets: the cells again, over the same texts
      this._step(action, outputs[i], ttlSeconds);
      this._tags.copyWithin(this._cells, first, first + count);
      this._repeats.push(first, this._cells, count);
      this._cells += count;
    }
  }
  _set(at, value) {
    switch (typeof value) {
      case 'string':
        this._tags[at] = 7;
        this._texts.push(at, value);
        break;
      case 'boolean':
        this._word(at, 2, value ? 1 : 0);
        break;
      case 'number':
        if (Number.isSafeInteger(value)) {
          this._tags[at] = 3;
          this._words32[2 * at] = value;
          this._words32[2 * at + 1] = Math.floor(value / 0x1_0000_0000);
        } else {
          this._tags[at] = 5;
          this._doubles[at] = value;
        }
        break;
      case 'bigint':
        this._integer(at, value > MAX_INT ? 4 : 3, value);
        break;
      case 'undefined':
        this._word(at, 0, 0);
        break;
      default:
        this._setObject(at, value);
    }
  }
  _setObject(at, value) {
    if (value === null) {
      this._word(at, 0, 0);
    } else if (value === ABSENT) {
      this._word(at, 1, 0);
    } else if (value instanceof Uint8Array) {
      this._tags[at] = 8;
      this._texts.push(at, value);
    } else if (value instanceof Date) {
      if (Number.isNaN(value.getTime())) throw new TypeError('a field can\'t be an invalid Date');
      this._integer(at, 15, BigInt(value.getTime()) * 1000n);
    } else if (!(value instanceof Value)) {
      const text = typeof value === 'object' ? JSON.stringify(value) : undefined;
      if (text === undefined) throw new TypeError(`a field can't be a ${typeof value}: see the values at the top of streamsync.js`);
      this._tags[at] = 10;
      this._texts.push(at, text);
    } else if (value.tag === 5) {
      this._tags[at] = 5;
      this._doubles[at] = value.content;
    } else if (typeof value.content === 'bigint') {
      this._integer(at, value.tag, value.content);
    } else {
      this._tags[at] = value.tag;
      this._texts.push(at, value.content);
    }
  }
  _word(at, tag, low) {
    this._tags[at] = tag;
    this._words32[2 * at] = low;
    this._words32[2 * at + 1] = 0;
  }
  _integer(at, tag, integer) {
    const fits = tag === 4 ? integer >= 0n && integer >> 64n === 0n : integer >= MIN_INT && integer <= MAX_INT;
    if (!fits) throw new Reject('integer-too-large', 'an integer does not fit 64 bits: set a Decimal');
    this._tags[at] = tag;
    this._words64[at] = integer;
  }
  _outcome() {
    const heap = this._pack();
    const words = this._words32;
    for (let i = 0; i < this._repeats.length; i += 3) {
      const [from, to, count] = this._repeats.slice(i, i + 3);
      words.copyWithin(2 * to, 2 * from, 2 * (from + count));
    }
    return {
      steps: new Uint8Array(this._steps.buffer, 0, 4 * this._stepWords),
      cells: { tags: this._tags.subarray(0, this._cells), words: new Uint8Array(words.buffer, 0, 8 * this._cells), heap },
    };
  }
  /** The heap: all texts at once where each character is a byte, else one after the other. */
  _pack() {
    const texts = this._texts;
    const words = this._words32;
    let joined = '';
    let plain = true;
    for (let i = 0; i < texts.length; i += 2) {
      if (typeof texts[i + 1] !== 'string') {
        plain = false;
        break;
      }
      words[2 * texts[i]] = texts[i + 1].length;
      words[2 * texts[i] + 1] = joined.length;
      joined += texts[i + 1];
    }
    if (plain) {
      const heap = encode(joined);
      if (heap.length === joined.length) return heap;
    }
    let end = 0;
    const parts = [];
    for (let i = 0; i < texts.length; i += 2) {
      const bytes = typeof texts[i + 1] === 'string' ? encode(texts[i + 1]) : texts[i + 1];
      words[2 * texts[i]] = bytes.length;
      words[2 * texts[i] + 1] = end;
      parts.push(bytes);
      end += bytes.length;
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

// QuickJS has neither TextDecoder nor TextEncoder.
const decoder = globalThis.TextDecoder && new TextDecoder();
const encoder = globalThis.TextEncoder && new TextEncoder();

function decode(bytes) {
  if (decoder) return decoder.decode(bytes);
  let text = '';
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode.apply(null, bytes.subarray(i, i + 8192));
  return /^[\0-\x7f]*$/.test(text) ? text : decodeURIComponent(escape(text));
}

function encode(text) {
  if (encoder) return encoder.encode(text);
  const latin = /^[\0-\x7f]*$/.test(text) ? text : unescape(encodeURIComponent(text.toWellFormed()));
  const bytes = new Uint8Array(latin.length);
  for (let i = 0; i < latin.length; i++) bytes[i] = latin.charCodeAt(i);
  return bytes;
}

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
  const count = batch.events.length / EVENT_BYTES;
  for (let e = 0; e < count; e++) {
    row._go(e, cells);
    changes._go(e, row._op === 2);
    const mark = changes._mark();
    try {
      event(row, changes);
      if (changes._stepWords === mark[0]) {
        if (!changes._spoke) throw new Reject('no-outcome', 'the transform neither wrote nor skipped the event');
        changes._step(2, 0, 0);
      }
    } catch (error) {
      if (!(error instanceof Reject)) throw error;
      changes._reject(mark, error);
    }
  }
  return changes._outcome();
}

/** A mistake of the transform's own: its text, and the line of the transform that made it. */
function explain(error) {
  if (!(error instanceof Error)) return String(error);
  const place = /\((?![^)]*streamsync\.js)([^()\s]+:\d+(?::\d+)?)\)/.exec(error.stack ?? '');
  return `${error.name}: ${error.message}${place ? ` (${place[1]})` : ''}`;
}
