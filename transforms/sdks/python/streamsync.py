"""What a streamsync transform is written with in Python: rows by column name, documents by field.

    class Cities:
        NAME, VERSION = "cities", "1.0.0"

        def __init__(self, table: Table, config):           # once for each version of the table
            self.name = table.column("name", kind.TEXT)
            self.city = table.document().copy("city_id").copy("population").field("name")

        def event(self, row: Row, changes: Changes):        # for each change
            name = row.get(self.name)                       # None is NULL
            changes.put(self.city, {"name": name.upper() if name else name})

    Transform = export(Cities)

A transform is pure: the same batch gives the same outcome, on every machine. It has no clock, no randomness, no files and no network;
`log` and `metrics` are all that leaves it besides its outcome.

The contract is streamsync:transform@0.1.0. This file comes with the engine and is not meant to be edited.
"""

import json
from array import array
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal, getcontext
from struct import Struct
from typing import Any, Callable, Iterable, Mapping, NoReturn

from componentize_py_types import Err
from wit_world.exports.transform import Context, Description
from wit_world.imports import log as _log
from wit_world.imports import metrics as _metrics
from wit_world.imports.types import Batch, Cells, Column as ColumnSchema, Outcome, Output, Plan, TableSchema

__all__ = ["ABSENT", "Bits", "Changes", "Column", "ConfigError", "Decimal", "Document", "Geometry", "Json", "OpenError", "Reject", "Row",
           "Table", "Unsigned", "Year", "date", "datetime", "export", "kind", "log", "metrics", "minor_units", "timedelta", "timezone", "trim"]

# MySQL's decimals have 65 digits, at most 30 of them behind the point: a sum or a product of two stays exact. Their quotient, rounded to so
# many digits, has at most 300 characters with the zeros before them; the host takes 512.
getcontext().prec = 200


# --- Errors

class Reject(Exception):
    """Raise it in `event`: the event goes to the dead-letter topic, those beside it go on. The code is short and constant, because it
    labels a metric: "bad-amount". The message need not repeat values, because the dead letter holds the row."""

    def __init__(self, code: str, message: str):
        super().__init__(code, message)
        self.code, self.message = code, message


class OpenError(Exception):
    """Raise it in `__init__`: the transform does not take this table. Say what is wrong and what to do about it."""


class ConfigError(Exception):
    """Raise it in `read_config`: the route's `config` is wrong. The route does not start."""


# --- Values. Those that Python has no type for are subclasses, so that they are also what they look like.

class _Absent:
    def __repr__(self):
        return "ABSENT"

    def __bool__(self):
        return False


ABSENT = _Absent()  #: Read: the column is not in this image of the row, which is not NULL. Set: the document does not have the field.


class Unsigned(int):
    """BIGINT UNSIGNED."""


class Year(int):
    """YEAR."""


class Json(str):
    """JSON as text: what a JSON column holds, or a field whose members are not known in `__init__`. Dicts and lists become JSON too, where all
    that is inside of them is what package json takes: `json.loads` of a `Json`."""


class Bits(bytes):
    """BIT(n), big-endian."""


class Geometry(bytes):
    """A geometry, as EWKB."""


def minor_units(amount: Decimal, digits: int) -> int:
    """The decimal times 10^digits, exactly: -12.34 has -1234 minor units of 2 digits. One that is finer, or does not fit 64 bits,
    rejects the event."""
    numerator, denominator = amount.as_integer_ratio()
    if digits < 0:
        denominator, digits = denominator * 10 ** -digits, 0
    units, rest = divmod(numerator * 10 ** digits, denominator)
    if rest:
        raise Reject("decimal-inexact", "the decimal is finer than a minor unit")
    if not -1 << 63 <= units < 1 << 63:
        raise Reject("decimal-too-large", "the decimal does not fit 64 bits in minor units")
    return units


def trim(text: str) -> str:
    """Without white space at both ends: Unicode's, as every language's SDK has it (`str.strip` takes more away)."""
    return text.strip("\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000")


# --- Log and metrics. They leave the transform when the batch has succeeded.

class log:
    """Log lines. Keep rows' values out of them."""

    @staticmethod
    def debug(message: str): _log.emit(_log.Level.DEBUG, message)
    @staticmethod
    def info(message: str): _log.emit(_log.Level.INFO, message)
    @staticmethod
    def warn(message: str): _log.emit(_log.Level.WARN, message)
    @staticmethod
    def error(message: str): _log.emit(_log.Level.ERROR, message)


class metrics:
    """Counters. Names have no labels and are capped by the host, so they must be few and constant."""

    @staticmethod
    def add(counter: str, delta: int = 1): _metrics.add(counter, delta)


# --- Kinds of columns: what `__init__` asks of a column, where it is checked once.

class Kind:
    __slots__ = ("name", "_tags")

    def __init__(self, name: str, *tags: int):
        self.name, self._tags = name, tags


class kind:
    TEXT = Kind("text", 7)  #: str
    INTEGER = Kind("an integer", 3, 16)  #: int
    UNSIGNED = Kind("an unsigned integer", 4)  #: Unsigned, an int
    DOUBLE = Kind("a floating-point number", 5)  #: float
    BOOLEAN = Kind("a boolean", 2)  #: bool
    DECIMAL = Kind("an exact decimal", 6)  #: Decimal
    BYTES = Kind("bytes", 8)  #: bytes
    BITS = Kind("bits", 9)  #: Bits, big-endian bytes
    JSON = Kind("JSON", 10)  #: Json, a str
    GEOMETRY = Kind("a geometry", 11)  #: Geometry, EWKB bytes
    DATE = Kind("a date", 12)  #: date
    TIME = Kind("a time", 13)  #: timedelta, which may be negative or longer than a day
    DATETIME = Kind("a datetime", 14)  #: datetime without a zone
    TIMESTAMP = Kind("a timestamp", 15)  #: datetime in UTC
    MOMENT = Kind("a timestamp or datetime", 14, 15)  #: datetime, with or without a zone
    ANY = Kind("any value", *range(2, 17))  #: whatever the column holds


# --- What `__init__` declares

class Column:
    """A column that `event` reads, resolved by `Table.column` or `Table.column_before`."""

    __slots__ = ("_kind", "_tag", "_at", "_after", "_tags", "_values")

    def __init__(self, kind: Kind, tag: int, at: int, after: bool):
        self._kind, self._tag, self._at, self._after = kind, tag, at, after

    def _read(self, cells: Cells, ascii: str | None, step: int):
        """A batch's values at once, which costs half of what they cost one by one."""
        own = 3 if self._kind is kind.INTEGER else self._tag  # a year is an integer too
        cells_of, make = _READ[own]
        values, tags = cells_of(cells, ascii, self._at, step), cells.tags[self._at::step]
        if tags.count(self._tag) < len(tags):
            values = [None if tag == 0 else ABSENT if tag != self._tag else make(cell) if make else cell for tag, cell in zip(tags, values)]
        elif make:
            values = list(map(make, values))
        self._tags, self._values = tags, values

    def _reject(self, event: int) -> NoReturn:
        """Why there is no value."""
        if self._tags[event] == 1:
            raise Reject("absent-column", f"a column that should be {self._kind.name} is absent from the row image")
        if self._tags[event] == self._tag:
            raise Reject("date-out-of-range", "a date is beyond the years 1 to 9999, which Python's have")
        raise Reject("wrong-kind", f"a column whose schema says {self._kind.name} has a value of another kind")


class Document:
    """A declared document. The order of the fields is that of the calls."""

    def __init__(self, table: "Table", targets: Iterable[str]):
        self._table, self._targets = table, list(targets)
        self._key, self._fields = {}, {}  # name -> the copied column's index, or None

    def copy(self, *columns: str) -> "Document":
        """Passes columns on, unchanged and under their own names. They do not cross to the transform."""
        for column in columns:
            self.copy_as(column, column)
        return self

    def copy_as(self, column: str, field: str, kind: Kind = kind.ANY) -> "Document":
        """Passes a column of a certain kind on under another name; a dot nests: "address.city"."""
        return self._add_field(field, self._table._find(column, kind))

    def field(self, *names: str) -> "Document":
        """Fields that `put` sets; a dot nests. The single name "" takes `Json` or a dict with the whole document."""
        for name in names:
            self._add_field(name, None)
        return self

    def key(self, name: str) -> "Document":
        """A part of an explicit key, which `put` and `delete` set. Without any, the key is the row's primary key, which is always safe;
        with them, the key must hold every primary-key column by `key_copy`, and the route must permit it."""
        return self._add_key(name, None)

    def key_copy(self, column: str) -> "Document":
        """A column as a part of an explicit key, under its own name."""
        return self._add_key(column, self._table._find(column, kind.ANY))

    def _add_field(self, name: str, column: int | None) -> "Document":
        for other in self._fields:
            if other == name:
                raise OpenError(f"the document has the field {_quoted(name)} twice: name each field once")
            if _nests_in(name, other) or _nests_in(other, name):
                raise OpenError(f"{_quoted(name)} and {_quoted(other)}: a name is either a field or a parent of fields")
        self._fields[name] = column
        return self

    def _add_key(self, name: str, column: int | None) -> "Document":
        if self._fields:
            raise OpenError(f"the key's part {_quoted(name)} comes after a field: declare the key first")
        if name in self._key:
            raise OpenError(f"the key has the part {_quoted(name)} twice: name each part once")
        self._key[name] = column
        return self

    def _build(self, outputs: list[Output]):
        key = [*self._key.items()]
        numbers = range(len(outputs), len(outputs) + len(self._targets))
        outputs += [Output(target, list(self._key), list(self._fields)) for target in self._targets]
        self._lay_out(0, numbers, key + [*self._fields.items()])
        self._deletion = Document(self._table, ())  # what deletes it: a step that has the key's cells alone
        self._deletion._lay_out(1, numbers, key)

    def _lay_out(self, action: int, outputs: range, cells: list[tuple[str, int | None]]):
        self._steps = array("I", [number for output in outputs for number in (0, action, output, 0)])
        self._others = outputs[1:]
        self._settable = {name: at for at, (name, column) in enumerate(cells) if column is None}
        self._tags = bytes(1 if column is None else 32 for _, column in cells)
        self._tags_of_deleted = self._tags.replace(b"\x20", b"\x21")  # a deleted row's copies are those of the image before
        self._words = array("I", [half for _, column in cells for half in (column or 0, 0)])


def _nests_in(inner: str, outer: str) -> bool:
    return outer == "" or inner.startswith(outer + ".")


def _quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)


class Table:
    """One version of one table, as `__init__` sees it."""

    def __init__(self, schema: TableSchema, context: Context):
        self.schema = schema  #: columns with their MySQL types, and the primary key
        self.context = context  #: the route: its targets, and its configuration as text
        self._plan, self._columns, self._documents = Plan([], [], False, []), [], []

    def column(self, name: str, kind: Kind = kind.ANY) -> Column:
        """A column of the row as it is after the change."""
        return self._read(self._plan.after, True, name, kind)

    def column_before(self, name: str, kind: Kind = kind.ANY) -> Column:
        """A column of the row as it was before the change. It is absent where there was no row. What a store holds can be recomputed
        from MySQL only while documents do not depend on it."""
        return self._read(self._plan.before, False, name, kind)

    def see_deletes(self):
        """Deletes come as events too, and nothing is deleted that the transform does not delete."""
        self._plan.sees_deletes = True

    def document(self) -> Document:
        """A document for every target that the route configures."""
        return self.document_for(*(target.name for target in self.context.targets))

    def document_for(self, *targets: str) -> Document:
        """A document for those of the named targets that the route configures; what is put for the others is written nowhere."""
        self._documents.append(Document(self, [target.name for target in self.context.targets if target.name in targets]))
        return self._documents[-1]

    def _find(self, name: str, kind: Kind) -> int:
        schema = self.schema
        for index, column in enumerate(schema.columns):
            if column.name == name:
                if column.tag not in kind._tags:
                    raise OpenError(f"{schema.database}.{schema.table}.{name} comes as {column.source_type} (tag {column.tag}), but the "
                                    f"transform needs {kind.name}: correct the connector's handling mode, or the type that the route "
                                    "declares for the column")
                return index
        names = ", ".join(column.name for column in schema.columns)
        raise OpenError(f"{schema.database}.{schema.table} has no column {_quoted(name)}: its columns are {names}")

    def _read(self, crossing: list[int], after: bool, name: str, kind: Kind) -> Column:
        index = self._find(name, kind)
        if index not in crossing:  # one that is asked for twice crosses once
            crossing.append(index)
        self._columns.append(Column(kind, self.schema.columns[index].tag, crossing.index(index), after))
        return self._columns[-1]

    def _close(self) -> Plan:
        for column in self._columns:
            if column._after:  # an event's cells are those of the image before, then those of the image after
                column._at += len(self._plan.before)
        for document in self._documents:
            document._build(self._plan.outputs)
        return self._plan


# --- What `event` reads

_EPOCH, _EPOCH_UTC, _DAY_0 = datetime(1970, 1, 1), datetime(1970, 1, 1, tzinfo=timezone.utc), date(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)
_OPS = ("create", "update", "delete", "read")
_HEADER = Struct("<QqI4x")


class Row:
    """One change of one row."""

    partition: int  #: Kafka's partition

    @property
    def offset(self) -> int:  #: Kafka's offset
        return self._header()[0]

    @property
    def changed_at(self) -> int:  #: when the row changed, in microseconds since the Unix epoch
        return self._header()[1]

    @property
    def op(self) -> str:  #: "create", "update", "read" (by a snapshot), or, after `see_deletes`, "delete"
        return _OPS[self._header()[2]]

    def _header(self) -> tuple[int, int, int]:
        return _HEADER.unpack_from(self._events, _HEADER.size * self._event)

    def get(self, column: Column) -> Any:
        """The column's value, or None where it is NULL. A column that is absent rejects the event: see `presence`."""
        value = column._values[self._event]
        if value is ABSENT:
            column._reject(self._event)
        return value

    def presence(self, column: Column) -> Any:
        """The column's value; None where it is NULL, `ABSENT` where it is not in this image of the row: so the image before a create,
        and the image after a delete."""
        return ABSENT if column._tags[self._event] == 1 else self.get(column)


# A column's cells in a batch, every `step` of its cells. Words are cast to what they hold, and spans to 32-bit halves, because an int beyond
# 30 bits costs Python several times as much as a smaller one. `ascii` is the heap as text where it is ASCII: positions are the same in it.

def _words(form: str) -> Callable:
    return lambda cells, ascii, at, step: memoryview(cells.words).cast(form)[at::step].tolist()


def _spans(cells: Cells, heap: Any, at: int, step: int) -> list:
    halves = memoryview(cells.words).cast("I")
    return [heap[start:start + length] for length, start in zip(halves[2 * at::2 * step], halves[2 * at + 1::2 * step])]


def _bytes(cells: Cells, ascii: str | None, at: int, step: int) -> list[bytes]:
    return _spans(cells, cells.heap, at, step)


def _texts(cells: Cells, ascii: str | None, at: int, step: int) -> list[str]:
    return [content.decode() for content in _spans(cells, cells.heap, at, step)] if ascii is None else _spans(cells, ascii, at, step)


def _dates(epoch: Any, unit: Callable) -> Callable:
    def make(number: int) -> Any:
        try:
            return epoch + unit(number)
        except OverflowError:  # beyond Python's years: no value, and `get` says why
            return ABSENT
    return make


def _micros(number: int) -> timedelta:
    return timedelta(microseconds=number)


_READ: list = [None, None,  # by tag: its cells, and what is made of each
    (_words("q"), bool),
    (_words("q"), None),
    (_words("Q"), Unsigned),
    (_words("d"), None),
    (_texts, Decimal),
    (_texts, None),
    (_bytes, None),
    (_bytes, Bits),
    (_texts, Json),
    (_bytes, Geometry),
    (_words("q"), _dates(_DAY_0, timedelta)),
    (_words("q"), _micros),
    (_words("q"), _dates(_EPOCH, _micros)),
    (_words("q"), _dates(_EPOCH_UTC, _micros)),
    (_words("q"), Year)]


# --- What `event` says

class Changes:
    """What becomes of an event. A target that gets no put holds no document for the row afterwards."""

    def __init__(self):
        # Steps, and cells with their words in halves: arrays, which copies and prepared beginnings extend at once.
        self._steps, self._tags, self._words, self._heap = array("I"), bytearray(), array("I"), bytearray()

    def put(self, document: Document, values: Mapping[str, Any] = {}, ttl_seconds: int = 0):
        """Writes a document: it replaces the one that its target holds for the row. A field that is not set is not in the document;
        None is null. With `ttl_seconds` the document expires; 0 leaves that to the target."""
        self._spoke, event = True, self._event
        if not document._steps:
            return
        steps, tags, words, heap, settable = self._steps, self._tags, self._words, self._heap, document._settable
        step, first = len(steps), len(tags)
        steps += document._steps
        steps[step] = event
        tags += document._tags_of_deleted if self._deleted else document._tags
        words += document._words
        for name, value in values.items():
            if name not in settable:
                raise Reject("foreign-field", f"the document has no field {_quoted(name)} to set: declare it with field")
            at, kind = first + settable[name], type(value)
            if kind is str:  # most values are of these kinds: a call, as for the others, would cost as much again
                content = value.encode()
                tags[at], words[at + at], words[at + at + 1] = 7, len(content), len(heap)
                heap += content
            elif kind is bool:
                tags[at], words[at + at] = 2, value
            elif kind is int and 0 <= value <= 0x3FFFFFFF:
                tags[at], words[at + at] = 3, value
            else:
                _SET.get(kind, _set_other)(self, at, value)
        if document._others:  # the same to the document's other targets: the cells again, over the same texts
            same_tags, same_words = tags[first:], words[first + first:]
            for _ in document._others:
                step += 4
                steps[step] = event
                tags += same_tags
                words += same_words
        if ttl_seconds:
            for at in range(len(steps) - len(document._steps) + 3, len(steps), 4):
                steps[at] = ttl_seconds

    def delete(self, document: Document, key: Mapping[str, Any] = {}):
        """Deletes a document; of use after `see_deletes`, or with an explicit key."""
        for name in key:
            if name in document._settable and name not in document._deletion._settable:
                raise Reject("delete-with-field", "the transform sets a field of a document that it deletes: set its key only")
        self.put(document._deletion, key)

    def skip(self):
        """The row has no document anywhere. Without any put, delete or skip the event is rejected as "no-outcome"."""
        self._spoke = True

    def _span(self, at: int, tag: int, content: bytes):
        self._tags[at], self._words[2 * at], self._words[2 * at + 1] = tag, len(content), len(self._heap)
        self._heap += content

    def _word(self, at: int, tag: int, word: int):
        self._tags[at], self._words[2 * at], self._words[2 * at + 1] = tag, word & 0xFFFFFFFF, word >> 32 & 0xFFFFFFFF

    def _reject(self, event: int, reject: Reject):
        self._steps.extend((event, 3, 0, 0))
        self._tags += b"\7\7"
        self._words.extend((0, 0, 0, 0))
        self._span(-2, 7, reject.code.encode(errors="replace"))
        self._span(-1, 7, reject.message.encode(errors="replace"))


def _set_integer(changes: Changes, at: int, value: int):
    if not -1 << 63 <= value < 1 << 64:
        raise Reject("integer-too-large", "an integer does not fit 64 bits: set a Decimal")
    changes._word(at, 4 if value >> 63 > 0 else 3, value)


def _set_unsigned(changes: Changes, at: int, value: Unsigned):
    if not 0 <= value < 1 << 64:
        raise Reject("integer-too-large", "an unsigned integer does not fit 64 bits: set a Decimal")
    changes._word(at, 4, value)


def _set_decimal(changes: Changes, at: int, value: Decimal):
    if not value.is_finite():
        raise Reject("decimal-malformed", "the decimal is not written in plain digits")
    changes._span(at, 6, f"{value:f}".encode())


def _set_datetime(changes: Changes, at: int, value: datetime):
    tag, epoch = (14, _EPOCH) if value.tzinfo is None else (15, _EPOCH_UTC)
    changes._word(at, tag, (value - epoch) // _MICROSECOND)


_SET: dict[type, Callable] = {
    type(None): lambda changes, at, value: changes._word(at, 0, 0),
    _Absent: lambda changes, at, value: changes._word(at, 1, 0),
    int: _set_integer,
    Unsigned: _set_unsigned,
    float: lambda changes, at, value: changes._word(at, 5, int.from_bytes(array("d", (value,)).tobytes(), "little")),
    Decimal: _set_decimal,
    str: lambda changes, at, value: changes._span(at, 7, value.encode()),
    bytes: lambda changes, at, value: changes._span(at, 8, value),
    Bits: lambda changes, at, value: changes._span(at, 9, value),
    Json: lambda changes, at, value: changes._span(at, 10, value.encode()),
    Geometry: lambda changes, at, value: changes._span(at, 11, value),
    date: lambda changes, at, value: changes._word(at, 12, (value - _DAY_0).days),
    timedelta: lambda changes, at, value: changes._word(at, 13, value // _MICROSECOND),
    datetime: _set_datetime,
    Year: lambda changes, at, value: changes._word(at, 16, value),
}


def _set_other(changes: Changes, at: int, value: Any):
    """Lists and dicts are JSON; subclasses are what they derive from."""
    if isinstance(value, (dict, list, tuple)):
        _refuse_nested(value)
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return changes._span(at, 10, text.encode())
    for base in type(value).__mro__:
        if base in _SET:
            return _SET[base](changes, at, value)
    raise TypeError(f"a field can't be a {type(value).__name__}: see the values at the top of streamsync.py")


def _refuse_nested(value: Any):
    """A `Json` is a `str`: package json would make a text in quotes of it, where it refuses the SDK's other values by itself."""
    if isinstance(value, Json):
        raise TypeError("a Json can't be inside of a dict or list, which become JSON: put json.loads of it in its place")
    if isinstance(value, (dict, list, tuple)):
        for member in value.values() if isinstance(value, dict) else value:
            _refuse_nested(member)


# --- The component

def export(transform: type):
    """Makes a component of a class: `Transform = export(Cities)` at the end of the module.

    The class has `NAME` and `VERSION`, and where it takes a configuration `CONFIG_SCHEMA`, a JSON Schema, and a static method
    `read_config(settings: dict)` whose result `__init__` gets; it raises `ConfigError`."""
    tables: dict[int, tuple[Table, Callable]] = {}
    state: dict[str, Any] = {}  # not in the component's object, which is made anew for each call

    class Transform:
        def describe(self) -> Description:
            return Description(transform.NAME, transform.VERSION, getattr(transform, "CONFIG_SCHEMA", None))

        def init(self, ctx: Context):
            try:
                settings = json.loads(ctx.config or "{}") or {}
                if not isinstance(settings, dict):
                    raise ConfigError("it is no object")
                state["config"] = getattr(transform, "read_config", _no_config)(settings)
            except (ConfigError, ValueError) as error:
                raise Err(f"the config of the transform {_quoted(transform.NAME)}: {error}") from None
            except Exception as error:
                raise Err(_explain(error)) from None
            state["context"] = ctx

        def open(self, schema: TableSchema) -> Plan:
            try:
                table = Table(schema, state["context"])
                opened = transform(table, state["config"])
                plan = table._close()
            except (OpenError, Reject) as error:
                raise Err(str(error.args[-1])) from None
            except Exception as error:
                raise Err(_explain(error)) from None
            tables[schema.id] = table, opened.event
            return plan

        def apply(self, batch: Batch) -> Outcome:
            if batch.schema not in tables:
                raise Err(f"schema {batch.schema} was not opened")
            try:
                return _apply(batch, *tables[batch.schema])
            except Exception as error:
                raise Err(_explain(error)) from None

    return Transform


def _no_config(settings: dict):
    for name in settings:
        raise ConfigError(f"there is no setting {_quoted(name)}, because the transform takes none")


def _apply(batch: Batch, table: Table, event_of: Callable) -> Outcome:
    row, changes, cells = Row(), Changes(), batch.cells
    ascii = cells.heap.decode("ascii") if cells.heap.isascii() else None
    for column in table._columns:
        column._read(cells, ascii, len(table._plan.before) + len(table._plan.after))
    row.partition, row._events = batch.partition, batch.events
    steps, tags, words, heap = changes._steps, changes._tags, changes._words, changes._heap
    for event, op in enumerate(memoryview(batch.events).cast("I")[4::6].tolist()):
        first_step, first_cell, first_byte = len(steps), len(tags), len(heap)
        row._event = changes._event = event
        changes._deleted, changes._spoke = op == 2, False
        try:
            event_of(row, changes)
            if len(steps) == first_step:
                if not changes._spoke:
                    raise Reject("no-outcome", "the transform neither wrote nor skipped the event")
                steps.extend((event, 2, 0, 0))
        except Reject as reject:  # takes back what the event has written
            del steps[first_step:], tags[first_cell:], words[2 * first_cell:], heap[first_byte:]
            changes._reject(event, reject)
    return Outcome(steps.tobytes(), Cells(bytes(tags), words.tobytes(), bytes(heap)))


def _explain(error: Exception) -> str:
    """A mistake of the transform's own: its text, and the line of the transform that made it."""
    place, at = "", error.__traceback__
    while at is not None:  # module traceback would look for the source files, and there are no files
        code = at.tb_frame.f_code
        if not code.co_filename.endswith("streamsync.py"):
            place = f" ({code.co_filename.rpartition('/')[2]}, line {at.tb_lineno}, in {code.co_name})"
        at = at.tb_next
    return f"{type(error).__name__}: {error}{place}"
