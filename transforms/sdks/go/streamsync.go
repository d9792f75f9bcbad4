// Package streamsync is what a streamsync transform is written with in Go: rows by column name, documents by field.
//
//	type cities struct {
//		name     streamsync.Column[string]
//		city     *streamsync.Document
//		capitals streamsync.Field
//	}
//
//	// Once for each version of the table.
//	func open(table *streamsync.Table, _ streamsync.NoConfig) (streamsync.EventFunc, error) {
//		c := &cities{name: table.Text("name"), city: table.Document()}
//		c.city.Copy("city_id", "population")
//		c.capitals = c.city.Field("name")
//		return c.event, nil
//	}
//
//	// For each change.
//	func (c *cities) event(row *streamsync.Row, changes *streamsync.Changes) error {
//		name, err := c.name.Get(row) // NULL is not Valid
//		if err != nil {
//			return err
//		}
//		capitals := streamsync.Null
//		if name.Valid {
//			capitals = streamsync.Text(streamsync.Upper(name.V))
//		}
//		changes.Put(c.city).Set(c.capitals, capitals)
//		return nil
//	}
//
//	func init() {
//		streamsync.Export(streamsync.Transform[streamsync.NoConfig]{Name: "cities", Version: "1.0.0", Open: open})
//	}
//
//	func main() {}
//
// A transform is pure: the same batch gives the same outcome, on every machine. It has no clock (time.Now is no time), no randomness, no
// files and no network; the Log functions and Count are all that leaves it besides its outcome.
//
// The contract is streamsync:transform@0.1.0. This package comes with the engine and is not meant to be edited.
package streamsync

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Transform is what Export makes a component of.
type Transform[Config any] struct {
	Name, Version string
	// ConfigSchema is the JSON Schema of Config; empty where there is none.
	ConfigSchema string
	// Open resolves columns and declares documents. A column that does not exist, or is of another kind, refuses the table without further
	// ado; so does an error. Its events are then dead-lettered.
	Open func(table *Table, config Config) (EventFunc, error)
}

// EventFunc puts, deletes, skips, or returns an error, which sends the event to the dead-letter topic: a *Reject has a code of its own.
type EventFunc func(row *Row, changes *Changes) error

// NoConfig is the configuration of a transform that takes none: anything in it is a mistake, and named.
type NoConfig struct{}

// Context is the route that the transform serves.
type Context struct {
	// Config is JSON: the route's `config`.
	Config  string
	Targets []Target
}

// Target is one of the route's.
type Target struct{ Name, Sink string }

// Reject is an error with a code, which is short and constant, because it labels a metric: "bad-amount". The message need not repeat
// values, because the dead letter holds the row.
type Reject struct{ Code, Message string }

func (r *Reject) Error() string { return r.Code + ": " + r.Message }

var (
	exported struct {
		name, version, configSchema string
		readConfig                  func(json string) error
		open                        func(*Table) (EventFunc, error)
	}
	route  Context
	tables = map[uint32]*Table{}
	le     = binary.LittleEndian
)

// Export makes a component of a transform. It is called from init.
func Export[Config any](transform Transform[Config]) {
	var config Config
	exported.name, exported.version, exported.configSchema = transform.Name, transform.Version, transform.ConfigSchema
	exported.open = func(table *Table) (EventFunc, error) { return transform.Open(table, config) }
	exported.readConfig = func(text string) error {
		if text = strings.TrimSpace(text); text == "" {
			text = "{}"
		}
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&config); err != nil {
			return err
		}
		if _, err := decoder.Token(); err != io.EOF {
			return errors.New("there is more than one JSON value")
		}
		return nil
	}
}

func start(context Context) (err error) {
	defer recoverAs(&err)
	route = context
	if err := exported.readConfig(context.Config); err != nil {
		return fmt.Errorf("the config of the transform %q: %w", exported.name, err)
	}
	return nil
}

// recoverAs makes an error of a panic, with the place of the transform that panicked: nothing else would be heard of it.
func recoverAs(err *error) {
	cause := recover()
	if cause == nil {
		return
	}
	callers := make([]uintptr, 32)
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers)])
	for {
		frame, more := frames.Next()
		if strings.HasPrefix(frame.Function, "main.") {
			*err = fmt.Errorf("panic: %v (%s, line %d)", cause, frame.Function, frame.Line)
			return
		}
		if !more {
			*err = fmt.Errorf("panic: %v", cause)
			return
		}
	}
}

// --- Values

// Nullable is a column's value, or NULL where it is not Valid.
type Nullable[T any] struct {
	V     T
	Valid bool
}

// Decimal is an exact decimal in plain digits: "-12.340". It is no string, because + would join the digits of two, and < would compare them as
// texts: count in MinorUnits. == holds where the digits are the same, so not of 1.5 and 1.50. The zero value has no digits, and is no decimal.
type Decimal struct{ digits string }

// DecimalOf is the decimal with these digits, which must be plain: "-12.340".
func DecimalOf(digits string) Decimal { return Decimal{digits} }

// DecimalOfMinorUnits is the inverse of MinorUnits: -5 of 2 digits is -0.05.
func DecimalOfMinorUnits(units int64, digits int) Decimal {
	if digits < 0 {
		panic("DecimalOfMinorUnits of a negative number of digits")
	}
	sign, text := "", strconv.FormatInt(units, 10)
	if units < 0 {
		sign, text = "-", text[1:]
	}
	if digits == 0 {
		return Decimal{sign + text}
	}
	if missing := digits + 1 - len(text); missing > 0 {
		text = strings.Repeat("0", missing) + text
	}
	point := len(text) - digits
	return Decimal{sign + text[:point] + "." + text[point:]}
}

// String is the digits.
func (d Decimal) String() string { return d.digits }

// MarshalJSON fails: JSON has no form for a decimal, and none is guessed.
func (d Decimal) MarshalJSON() ([]byte, error) {
	return nil, errors.New("a Decimal can't be inside of JSON: put d.String() in its place, or json.Number(d.String())")
}

// MinorUnits is the decimal times 10^digits, exactly: "-12.34" has -1234 minor units of 2 digits. One that is finer, or does not fit 64
// bits, is a Reject.
func (d Decimal) MinorUnits(digits int) (int64, error) {
	if digits < 0 {
		panic("MinorUnits of a negative number of digits")
	}
	text := d.digits
	negative := strings.HasPrefix(text, "-")
	if negative {
		text = text[1:]
	}
	const limit = math.MinInt64 / 10
	var units int64 // counted downwards, so that the smallest number fits too
	exact, fits := true, true
	point, last := -1, len(text) // the last digit that counts
	for i := range len(text) {
		digit := text[i] - '0'
		switch {
		case digit <= 9 && i <= last:
			fits = fits && (units > limit || units == limit && digit <= 8)
			units = 10*units - int64(digit)
		case digit <= 9:
			exact = exact && digit == 0
		case text[i] == '.' && i > 0 && point < 0:
			point, last = i, i+digits
		default:
			return 0, malformed()
		}
	}
	if text == "" {
		return 0, malformed()
	}
	missing := digits
	if point >= 0 {
		missing -= len(text) - 1 - point
	}
	for ; missing > 0; missing-- {
		fits = fits && units >= limit
		units *= 10
	}
	switch {
	case !exact:
		return 0, &Reject{"decimal-inexact", "the decimal is finer than a minor unit"}
	case !fits || !negative && units == math.MinInt64:
		return 0, &Reject{"decimal-too-large", "the decimal does not fit 64 bits in minor units"}
	case negative:
		return units, nil
	default:
		return -units, nil
	}
}

func malformed() error {
	return &Reject{"decimal-malformed", "the decimal is not written in plain digits"}
}

// JSON is JSON as text: what a JSON column holds, or a field whose members are not known in Open.
type JSON string

// Bits is a BIT(n), big-endian.
type Bits []byte

// Geometry is EWKB.
type Geometry []byte

// Date is a day, without a zone, since 1970-01-01.
type Date struct{ Days int64 }

// DateOf is the day of a time.
func DateOf(t time.Time) Date {
	year, month, day := t.Date()
	return Date{time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix() / 86_400}
}

// Time is the day's beginning, as if it were in UTC.
func (d Date) Time() time.Time { return time.Unix(d.Days*86_400, 0).UTC() }

// Clock is MySQL's TIME, which may be negative or longer than a day.
type Clock struct{ Micros int64 }

// ClockOf is a duration, to the microsecond.
func ClockOf(d time.Duration) Clock { return Clock{d.Microseconds()} }

// Duration is the same as a duration.
func (c Clock) Duration() time.Duration { return time.Duration(c.Micros) * time.Microsecond }

// Datetime is a day and a time without a zone, in microseconds since 1970-01-01 00:00.
type Datetime struct{ Micros int64 }

// Time is the same, as if it were in UTC.
func (d Datetime) Time() time.Time { return time.UnixMicro(d.Micros).UTC() }

// Date is the day on which it lies.
func (d Datetime) Date() Date { return DateOf(d.Time()) }

// Timestamp is a moment, in microseconds since the Unix epoch, UTC.
type Timestamp struct{ Micros int64 }

// TimestampOf is a moment, to the microsecond.
func TimestampOf(t time.Time) Timestamp { return Timestamp{t.UnixMicro()} }

// Time is the same moment.
func (t Timestamp) Time() time.Time { return time.UnixMicro(t.Micros).UTC() }

// Year is a YEAR.
type Year int64

// Value is any value: of a row, or of a field. Two are equal (==) when their kinds and contents are.
type Value struct {
	tag  uint8
	word uint64
	text string
}

const (
	tagNull uint8 = iota
	tagAbsent
	tagBoolean
	tagInt
	tagUint
	tagDouble
	tagDecimal
	tagText
	tagBytes
	tagBits
	tagJSON
	tagGeometry
	tagDate
	tagTime
	tagDatetime
	tagTimestamp
	tagYear

	tagAfter  uint8 = 32
	tagBefore uint8 = 33
)

var (
	// Null is NULL.
	Null = Value{tag: tagNull}
	// Absent is a field that the document does not have, or a column that is not in an image of the row, which is not NULL.
	Absent = Value{tag: tagAbsent}
)

// Each of these makes the value of a field.
func Text(v string) Value        { return Value{tag: tagText, text: v} }
func Int(v int64) Value          { return Value{tag: tagInt, word: uint64(v)} }
func Uint(v uint64) Value        { return Value{tag: tagUint, word: v} }
func Double(v float64) Value     { return Value{tag: tagDouble, word: math.Float64bits(v)} }
func Bytes(v []byte) Value       { return Value{tag: tagBytes, text: string(v)} }
func (v Decimal) Value() Value   { return Value{tag: tagDecimal, text: v.digits} }
func (v JSON) Value() Value      { return Value{tag: tagJSON, text: string(v)} }
func (v Bits) Value() Value      { return Value{tag: tagBits, text: string(v)} }
func (v Geometry) Value() Value  { return Value{tag: tagGeometry, text: string(v)} }
func (v Date) Value() Value      { return Value{tag: tagDate, word: uint64(v.Days)} }
func (v Clock) Value() Value     { return Value{tag: tagTime, word: uint64(v.Micros)} }
func (v Datetime) Value() Value  { return Value{tag: tagDatetime, word: uint64(v.Micros)} }
func (v Timestamp) Value() Value { return Value{tag: tagTimestamp, word: uint64(v.Micros)} }
func (v Year) Value() Value      { return Value{tag: tagYear, word: uint64(v)} }
func isSpan(tag uint8) bool      { return tag >= tagDecimal && tag <= tagGeometry }

// Bool makes the value of a field.
func Bool(v bool) Value {
	if v {
		return Value{tag: tagBoolean, word: 1}
	}
	return Value{tag: tagBoolean}
}

// Or makes the value of a field of a value that may be NULL: name.Or(streamsync.Text).
func (n Nullable[T]) Or(value func(T) Value) Value {
	if !n.Valid {
		return Null
	}
	return value(n.V)
}

// --- Columns: what Open asks of them, where it is checked once

// Kind is a kind of columns.
type Kind struct {
	name string
	tags tagSet
}

// tagSet has a bit for each tag: it is asked for every value that is read.
type tagSet uint32

func setOf(tags ...uint8) (set tagSet) {
	for _, tag := range tags {
		set |= 1 << tag
	}
	return set
}

func (s tagSet) has(tag uint8) bool { return s>>tag&1 != 0 }

// The kinds of columns, for CopyAs. A Table has a method for each that resolves a column to be read.
var (
	KindText      = Kind{"text", setOf(tagText)}
	KindInteger   = Kind{"an integer", setOf(tagInt, tagYear)}
	KindUnsigned  = Kind{"an unsigned integer", setOf(tagUint)}
	KindDouble    = Kind{"a floating-point number", setOf(tagDouble)}
	KindBoolean   = Kind{"a boolean", setOf(tagBoolean)}
	KindDecimal   = Kind{"an exact decimal", setOf(tagDecimal)}
	KindBytes     = Kind{"bytes", setOf(tagBytes)}
	KindBits      = Kind{"bits", setOf(tagBits)}
	KindJSON      = Kind{"JSON", setOf(tagJSON)}
	KindGeometry  = Kind{"a geometry", setOf(tagGeometry)}
	KindDate      = Kind{"a date", setOf(tagDate)}
	KindTime      = Kind{"a time", setOf(tagTime)}
	KindDatetime  = Kind{"a datetime", setOf(tagDatetime)}
	KindTimestamp = Kind{"a timestamp", setOf(tagTimestamp)}
	KindMoment    = Kind{"a timestamp or datetime", setOf(tagDatetime, tagTimestamp)}
	KindAny       = Kind{"any value", 1<<(tagYear+1) - 1<<tagBoolean}
)

// Column is a column that an EventFunc reads.
type Column[T any] struct {
	kind   *Kind
	before bool
	at     int
	read   func(Value) T
}

// Presence tells NULL and absent apart.
type Presence uint8

const (
	// IsAbsent: the column is not in this image of the row: so the image before a create, and the image after a delete.
	IsAbsent Presence = iota
	// IsNull: NULL.
	IsNull
	// IsPresent: neither.
	IsPresent
)

// Get is the column's value. A column that is absent is an error, which rejects the event: see Presence.
func (c Column[T]) Get(row *Row) (Nullable[T], error) {
	value := row.cell(c.before, c.at)
	if c.kind.tags.has(value.tag) {
		return Nullable[T]{c.read(value), true}, nil
	}
	return Nullable[T]{}, c.kind.lack(value.tag)
}

// lack is what a value's absence, or its being of another kind, means; nothing where it is NULL.
func (k *Kind) lack(tag uint8) error {
	switch tag {
	case tagNull:
		return nil
	case tagAbsent:
		return &Reject{"absent-column", "a column that should be " + k.name + " is absent from the row image"}
	default:
		return &Reject{"wrong-kind", "a column whose schema says " + k.name + " has a value of another kind"}
	}
}

// Presence tells whether the column is absent, NULL, or has a value.
func (c Column[T]) Presence(row *Row) Presence {
	switch row.cell(c.before, c.at).tag {
	case tagAbsent:
		return IsAbsent
	case tagNull:
		return IsNull
	default:
		return IsPresent
	}
}

// Image resolves columns of one image of the row. A column that does not exist, or is of another kind, refuses the table.
type Image struct {
	table  *Table
	before bool
}

func resolve[T any](i Image, name string, kind *Kind, read func(Value) T) Column[T] {
	crossing := &i.table.after
	if i.before {
		crossing = &i.table.before
	}
	index := i.table.find(name, kind)
	at := slices.Index(*crossing, index)
	if at < 0 { // one that is asked for twice crosses once
		at = len(*crossing)
		*crossing = append(*crossing, index)
	}
	return Column[T]{kind, i.before, at, read}
}

func readText(v Value) string  { return v.text }
func readInt(v Value) int64    { return int64(v.word) }
func readBytes(v Value) []byte { return []byte(v.text) }

// Text resolves a CHAR, VARCHAR or TEXT, an ENUM's label, or a SET's labels joined by commas.
func (i Image) Text(name string) Column[string] { return resolve(i, name, &KindText, readText) }

// Integer resolves a signed integer, or a YEAR.
func (i Image) Integer(name string) Column[int64] { return resolve(i, name, &KindInteger, readInt) }

// Unsigned resolves a BIGINT UNSIGNED.
func (i Image) Unsigned(name string) Column[uint64] {
	return resolve(i, name, &KindUnsigned, func(v Value) uint64 { return v.word })
}

// Double resolves a FLOAT or DOUBLE.
func (i Image) Double(name string) Column[float64] {
	return resolve(i, name, &KindDouble, func(v Value) float64 { return math.Float64frombits(v.word) })
}

// Boolean resolves a BOOLEAN, where the host knows it as such.
func (i Image) Boolean(name string) Column[bool] {
	return resolve(i, name, &KindBoolean, func(v Value) bool { return v.word != 0 })
}

// Decimal resolves a DECIMAL.
func (i Image) Decimal(name string) Column[Decimal] {
	return resolve(i, name, &KindDecimal, func(v Value) Decimal { return Decimal{v.text} })
}

// Bytes resolves a BINARY, VARBINARY or BLOB.
func (i Image) Bytes(name string) Column[[]byte] { return resolve(i, name, &KindBytes, readBytes) }

// Bits resolves a BIT(n).
func (i Image) Bits(name string) Column[Bits] {
	return resolve(i, name, &KindBits, func(v Value) Bits { return Bits(v.text) })
}

// JSON resolves a JSON column, as MySQL emitted it.
func (i Image) JSON(name string) Column[JSON] {
	return resolve(i, name, &KindJSON, func(v Value) JSON { return JSON(v.text) })
}

// Geometry resolves a geometry.
func (i Image) Geometry(name string) Column[Geometry] {
	return resolve(i, name, &KindGeometry, func(v Value) Geometry { return Geometry(v.text) })
}

// Date resolves a DATE.
func (i Image) Date(name string) Column[Date] {
	return resolve(i, name, &KindDate, func(v Value) Date { return Date{int64(v.word)} })
}

// Time resolves a TIME.
func (i Image) Time(name string) Column[Clock] {
	return resolve(i, name, &KindTime, func(v Value) Clock { return Clock{int64(v.word)} })
}

// Datetime resolves a DATETIME.
func (i Image) Datetime(name string) Column[Datetime] {
	return resolve(i, name, &KindDatetime, func(v Value) Datetime { return Datetime{int64(v.word)} })
}

// Timestamp resolves a TIMESTAMP.
func (i Image) Timestamp(name string) Column[Timestamp] {
	return resolve(i, name, &KindTimestamp, func(v Value) Timestamp { return Timestamp{int64(v.word)} })
}

// Moment resolves a TIMESTAMP or DATETIME, in microseconds since 1970-01-01 00:00, in UTC or without a zone.
func (i Image) Moment(name string) Column[int64] { return resolve(i, name, &KindMoment, readInt) }

// Any resolves any column.
func (i Image) Any(name string) Column[Value] {
	return resolve(i, name, &KindAny, func(v Value) Value { return v })
}

// ColumnSchema is a column as MySQL has it.
type ColumnSchema struct {
	Name     string
	Nullable bool
	// Length is the declared length or display width, and Scale the digits behind the point; -1 where MySQL has none.
	Length, Scale int64
	// SourceType is "decimal(10,2) unsigned".
	SourceType string
	tag        uint8
}

// Table is one version of one table, as Open sees it. Its own columns are those of the row as it is after the change.
type Table struct {
	Image
	Database, Name string
	Columns        []ColumnSchema
	// PrimaryKey holds indexes into Columns.
	PrimaryKey []uint32
	// Context is the route.
	Context Context

	id            uint32
	before, after []uint32
	seesDeletes   bool
	documents     []*Document
	outputs       []output
	err           error
	event         EventFunc
}

type output struct {
	target   string
	document *Document
}

// Before resolves columns of the row as it was before the change. They are absent where there was no row. What a store holds can be
// recomputed from MySQL only while documents do not depend on them.
func (t *Table) Before() Image { return Image{t, true} }

// SeeDeletes makes deletes come as events too, and nothing is deleted that the transform does not delete.
func (t *Table) SeeDeletes() { t.seesDeletes = true }

// Document declares a document for every target that the route configures.
func (t *Table) Document() *Document {
	var targets []string
	for _, target := range t.Context.Targets {
		targets = append(targets, target.Name)
	}
	return t.DocumentFor(targets...)
}

// DocumentFor declares a document for those of the named targets that the route configures; what is put for the others is written nowhere.
func (t *Table) DocumentFor(targets ...string) *Document {
	document := &Document{table: t, id: len(t.documents)}
	for _, target := range t.Context.Targets {
		if slices.Contains(targets, target.Name) {
			document.targets = append(document.targets, target.Name)
		}
	}
	t.documents = append(t.documents, document)
	return document
}

// refuse keeps the first fault.
func (t *Table) refuse(format string, arguments ...any) {
	if t.err == nil {
		t.err = fmt.Errorf(format, arguments...)
	}
}

func (t *Table) find(name string, kind *Kind) uint32 {
	for index, column := range t.Columns {
		if column.Name != name {
			continue
		}
		if !kind.tags.has(column.tag) {
			t.refuse("%s.%s.%s comes as %s (tag %d), but the transform needs %s: correct the connector's handling mode, or the type that the "+
				"route declares for the column", t.Database, t.Name, name, column.SourceType, column.tag, kind.name)
		}
		return uint32(index)
	}
	var names []string
	for _, column := range t.Columns {
		names = append(names, column.Name)
	}
	t.refuse("%s.%s has no column %s: its columns are %s", t.Database, t.Name, strconv.Quote(name), strings.Join(names, ", "))
	return 0
}

func (t *Table) open() (err error) {
	defer recoverAs(&err)
	t.Image, t.Context = Image{t, false}, route
	if t.event, err = exported.open(t); t.err != nil {
		return t.err
	} else if err != nil {
		return err
	}
	for _, document := range t.documents {
		document.firstOutput = uint32(len(t.outputs))
		for _, target := range document.targets {
			t.outputs = append(t.outputs, output{target, document})
		}
	}
	tables[t.id] = t
	return nil
}

// --- Documents

// Document is a declared document. The order of the fields is that of the calls.
type Document struct {
	table       *Table
	id          int
	targets     []string
	key, fields []string
	firstOutput uint32
	// A put's cells before anything is set: references for copied columns, absent for the others.
	tags  []byte
	words []uint64
}

// Field is a field that an EventFunc sets, or a part of an explicit key.
type Field struct{ document, cell int }

// Copy passes columns on, unchanged and under their own names. They do not cross to the transform.
func (d *Document) Copy(columns ...string) {
	for _, column := range columns {
		d.CopyAs(column, column, KindAny)
	}
}

// CopyAs passes a column of a certain kind on under another name; a dot nests: "address.city".
func (d *Document) CopyAs(column, field string, kind Kind) {
	d.addField(field, tagAfter, d.table.find(column, &kind))
}

// Field declares a field for Set; a dot nests. The single name "" takes JSON with the whole document.
func (d *Document) Field(name string) Field { return d.addField(name, tagAbsent, 0) }

// Key declares a part of an explicit key, for Set. Without any, the key is the row's primary key, which is always safe; with them, the key
// must hold every primary-key column by KeyCopy, and the route must permit it.
func (d *Document) Key(name string) Field { return d.addKey(name, tagAbsent, 0) }

// KeyCopy declares a column as a part of an explicit key, under its own name.
func (d *Document) KeyCopy(column string) {
	d.addKey(column, tagAfter, d.table.find(column, &KindAny))
}

func (d *Document) addField(name string, tag uint8, word uint32) Field {
	for _, other := range d.fields {
		if other == name {
			d.table.refuse("the document has the field %q twice: name each field once", name)
		} else if nestsIn(name, other) || nestsIn(other, name) {
			d.table.refuse("%q and %q: a name is either a field or a parent of fields", name, other)
		}
	}
	d.fields = append(d.fields, name)
	return d.addCell(tag, word)
}

func (d *Document) addKey(name string, tag uint8, word uint32) Field {
	if len(d.fields) > 0 {
		d.table.refuse("the key's part %q comes after a field: declare the key first", name)
	}
	if slices.Contains(d.key, name) {
		d.table.refuse("the key has the part %q twice: name each part once", name)
	}
	d.key = append(d.key, name)
	return d.addCell(tag, word)
}

func (d *Document) addCell(tag uint8, word uint32) Field {
	d.tags, d.words = append(d.tags, tag), append(d.words, uint64(word))
	return Field{d.id, len(d.tags) - 1}
}

// nestsIn tells whether inner lies below outer. Everything lies below the whole document, "".
func nestsIn(inner, outer string) bool { return outer == "" || strings.HasPrefix(inner, outer+".") }

// --- What an EventFunc reads

// Op is what happened to a row.
type Op uint32

const (
	// Create: inserted.
	Create Op = iota
	// Update: updated; its primary key is the same as before.
	Update
	// Delete: deleted. Comes only after SeeDeletes.
	Delete
	// Read: read by a snapshot.
	Read
)

const eventBytes = 24

// Row is one change of one row.
type Row struct {
	partition           uint32
	events, tags, words []byte
	heap                string
	event               int
	firstBefore         int
	firstAfter          int
}

// Op is what happened.
func (r *Row) Op() Op { return Op(le.Uint32(r.events[eventBytes*r.event+16:])) }

// Offset is Kafka's.
func (r *Row) Offset() uint64 { return le.Uint64(r.events[eventBytes*r.event:]) }

// Partition is Kafka's.
func (r *Row) Partition() uint32 { return r.partition }

// ChangedAt is when the row changed.
func (r *Row) ChangedAt() Timestamp {
	return Timestamp{int64(le.Uint64(r.events[eventBytes*r.event+8:]))}
}

func (r *Row) cell(before bool, at int) Value {
	if before {
		at += r.firstBefore
	} else {
		at += r.firstAfter
	}
	tag, word := r.tags[at], le.Uint64(r.words[8*at:])
	if isSpan(tag) {
		start := word >> 32
		return Value{tag: tag, text: r.heap[start : start+uint64(uint32(word))]}
	}
	return Value{tag: tag, word: word}
}

// --- What an EventFunc says

const (
	actionPut uint32 = iota
	actionDelete
	actionSkip
	actionReject
)

// step is what the contract says of one: 16 bytes, little-endian, as wasm is.
type step struct{ event, action, output, ttl uint32 }

// Changes is what becomes of an event. A target that gets no put holds no document for the row afterwards.
type Changes struct {
	steps []step
	tags  []byte
	words []uint64
	heap  []byte

	event   uint32
	deleted bool
	spoke   bool
	fault   error
	write   write  // the last one, until it is finished
	number  uint32 // of that one: those before it are finished
}

// Write is a document on its way out, or the key of one that is deleted, until the next Put or Delete and no longer than its event: what is
// set on it afterwards rejects the event.
type Write struct {
	changes *Changes
	number  uint32
}

type write struct {
	document         *Document
	action, ttl      uint32
	firstCell, cells int
}

// Put writes a document: it replaces the one that its target holds for the row. A field that is never set is not in the document. Set the
// fields before the next Put or Delete.
func (c *Changes) Put(document *Document) Write {
	return c.begin(actionPut, document, len(document.tags))
}

// Delete deletes a document; of use after SeeDeletes, or with an explicit key, whose parts are set on what this returns, before the next Put
// or Delete.
func (c *Changes) Delete(document *Document) Write {
	return c.begin(actionDelete, document, len(document.key))
}

// Skip says that the row has no document anywhere. Without any put, delete or skip the event is rejected as "no-outcome".
func (c *Changes) Skip() { c.spoke = true }

func (c *Changes) begin(action uint32, document *Document, cells int) Write {
	c.finish()
	c.spoke = true
	c.write = write{document, action, 0, len(c.tags), cells}
	if len(document.targets) == 0 {
		return Write{c, c.number}
	}
	c.step(action, document.firstOutput, 0)
	c.tags = append(c.tags, document.tags[:cells]...)
	c.words = append(c.words, document.words[:cells]...)
	if c.deleted { // a deleted row's copies are those of the image before
		for i, tag := range c.tags[c.write.firstCell:] {
			if tag == tagAfter {
				c.tags[c.write.firstCell+i] = tagBefore
			}
		}
	}
	return Write{c, c.number}
}

// finish says the same to the document's other targets: the cells again, over the same texts.
func (c *Changes) finish() {
	w := &c.write
	document := w.document
	if document == nil {
		return
	}
	w.document = nil
	c.number++
	if len(document.targets) == 0 {
		return
	}
	c.steps[len(c.steps)-1].ttl = w.ttl
	end := w.firstCell + w.cells
	for i := 1; i < len(document.targets); i++ {
		c.step(w.action, document.firstOutput+uint32(i), w.ttl)
		c.tags = append(c.tags, c.tags[w.firstCell:end]...)
		c.words = append(c.words, c.words[w.firstCell:end]...)
	}
}

// TTL makes the document expire after so many seconds; 0 leaves that to the target.
func (w Write) TTL(seconds uint32) Write {
	if w.isOpen() {
		w.changes.write.ttl = seconds
	}
	return w
}

// Set sets a field, or a part of the key.
func (w Write) Set(field Field, value Value) Write {
	c, document := w.changes, w.changes.write.document
	switch {
	case !w.isOpen():
	case field.document != document.id:
		c.fault = &Reject{"foreign-field", "the transform sets a field of another document: declare it on the one it puts"}
	case c.write.action == actionDelete && field.cell >= len(document.key):
		c.fault = &Reject{"delete-with-field", "the transform sets a field of a document that it deletes: set its key only"}
	case len(document.targets) > 0:
		c.set(c.write.firstCell+field.cell, value)
	}
	return w
}

// isOpen tells whether the write can be added to; where it can't, that is the event's fault.
func (w Write) isOpen() bool { return w.number == w.changes.number || w.isLate() }

func (w Write) isLate() bool {
	w.changes.fault = &Reject{"late-field", "the transform sets a field of a document after the next Put or Delete: set it before that"}
	return false
}

func (c *Changes) set(cell int, value Value) {
	if isSpan(value.tag) {
		value.word = uint64(len(c.heap))<<32 | uint64(len(value.text))
		c.heap = append(c.heap, value.text...)
	}
	c.tags[cell] = value.tag
	c.words[cell] = value.word
}

func (c *Changes) step(action, output, ttl uint32) {
	c.steps = append(c.steps, step{c.event, action, output, ttl})
}

// --- A batch

var last Changes // its memory is used again

func apply(schema uint32, row *Row) (changes *Changes, err error) {
	defer recoverAs(&err)
	table := tables[schema]
	if table == nil {
		return nil, fmt.Errorf("schema %d was not opened", schema)
	}
	c := &last
	*c = Changes{steps: c.steps[:0], tags: c.tags[:0], words: c.words[:0], heap: c.heap[:0], number: c.number + 1}
	cells := len(table.before) + len(table.after)
	for row.event = 0; row.event < len(row.events)/eventBytes; row.event++ {
		row.firstBefore = row.event * cells
		row.firstAfter = row.firstBefore + len(table.before)
		c.run(table.event, row)
	}
	return c, nil
}

func (c *Changes) run(event EventFunc, row *Row) {
	steps, cells, heap := len(c.steps), len(c.tags), len(c.heap)
	c.event, c.deleted, c.spoke, c.fault = uint32(row.event), row.Op() == Delete, false, nil
	err := event(row, c)
	c.finish()
	if err == nil {
		err = c.fault
	}
	switch silent := len(c.steps) == steps; {
	case err == nil && silent && c.spoke:
		c.step(actionSkip, 0, 0)
	case err == nil && silent:
		err = &Reject{"no-outcome", "the transform neither wrote nor skipped the event"}
	}
	if err == nil {
		return
	}
	reject := &Reject{Code: "error", Message: err.Error()}
	errors.As(err, &reject)
	// Takes back what the event has written.
	c.steps, c.tags, c.words, c.heap = c.steps[:steps], append(c.tags[:cells], 0, 0), append(c.words[:cells], 0, 0), c.heap[:heap]
	c.step(actionReject, 0, 0)
	c.set(cells, Text(reject.Code))
	c.set(cells+1, Text(reject.Message))
}

// --- Texts, by Unicode. Package strings maps one character to one, which "ß" does not do.

// Trim is the text without white space at both ends.
func Trim(text string) string {
	if n := len(text); n > 0 && isGraphic(text[0]) && isGraphic(text[n-1]) {
		return text
	}
	return strings.TrimSpace(text)
}

// isGraphic tells whether a byte is a character of ASCII that leaves a mark.
func isGraphic(b byte) bool { return b > ' ' && b < 0x7F }

// Upper is the text in upper case.
func Upper(text string) string {
	if ascii, ok := turnCase(text, 'a'); ok {
		return ascii
	}
	var upper strings.Builder
	for _, r := range text {
		if several, ok := specialUpper[r]; ok {
			upper.WriteString(several)
		} else if r >= 0x1F80 && r <= 0x1FAF {
			upper.WriteRune([...]rune{0x1F08, 0x1F28, 0x1F68}[(r-0x1F80)>>4] + r&7)
			upper.WriteRune(0x0399)
		} else {
			upper.WriteRune(unicode.ToUpper(r))
		}
	}
	return upper.String()
}

// Lower is the text in lower case.
func Lower(text string) string {
	if ascii, ok := turnCase(text, 'A'); ok {
		return ascii
	}
	var lower strings.Builder
	for at, r := range text {
		switch {
		case r == 'Σ' && endsWord(text, at):
			lower.WriteRune('ς')
		case r == 'İ':
			lower.WriteString("i\u0307")
		default:
			lower.WriteRune(unicode.ToLower(r))
		}
	}
	return lower.String()
}

// turnCase gives the letters from `first` to the 25th after it the other case. It does not for a text that is not all ASCII.
func turnCase(text string, first byte) (turned string, ok bool) {
	some := false
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return "", false
		}
		some = some || text[i]-first < 26
	}
	if !some {
		return text, true
	}
	bytes := room(len(text))
	for i := range bytes {
		b := text[i]
		if b-first < 26 {
			b ^= 'a' - 'A'
		}
		bytes[i] = b
	}
	return textOf(bytes), true
}

// Short texts share an allocation: one for each would be a tenth of an event's time.
var unused []byte

const shared = 1 << 10

func room(size int) []byte {
	if size > len(unused) {
		if size > shared/8 {
			return make([]byte, size)
		}
		unused = make([]byte, shared)
	}
	bytes := unused[:size:size]
	unused = unused[size:]
	return bytes
}

// endsWord tells whether a capital sigma at `at` ends its word.
func endsWord(text string, at int) bool {
	before, after := text[:at], text[at+len("Σ"):]
	for len(before) > 0 {
		r, size := utf8.DecodeLastRuneInString(before)
		before = before[:len(before)-size]
		if isCaseIgnorable(r) {
			continue
		}
		if !isCased(r) {
			return false
		}
		for _, r := range after {
			if !isCaseIgnorable(r) {
				return !isCased(r)
			}
		}
		return true
	}
	return false
}

func isCased(r rune) bool {
	return unicode.In(r, unicode.Upper, unicode.Lower, unicode.Title, unicode.Other_Lowercase, unicode.Other_Uppercase)
}

func isCaseIgnorable(r rune) bool {
	return strings.ContainsRune("'.:\u00b7\u0387\u055f\u05f4\u2018\u2019\u2024\u2027\ufe13\ufe52\ufe55\uff07\uff0e\uff1a", r) ||
		unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf, unicode.Lm, unicode.Sk)
}

// Characters of which several become in upper case. U+1F80 to U+1FAF, which follow a rule, are left out.
var specialUpper = map[rune]string{
	0x00DF: "SS",
	0x0149: "\u02bcN",
	0x01F0: "J\u030c",
	0x0390: "\u0399\u0308\u0301",
	0x03B0: "\u03a5\u0308\u0301",
	0x0587: "\u0535\u0552",
	0x1E96: "H\u0331",
	0x1E97: "T\u0308",
	0x1E98: "W\u030a",
	0x1E99: "Y\u030a",
	0x1E9A: "A\u02be",
	0x1F50: "\u03a5\u0313",
	0x1F52: "\u03a5\u0313\u0300",
	0x1F54: "\u03a5\u0313\u0301",
	0x1F56: "\u03a5\u0313\u0342",
	0x1FB2: "\u1fba\u0399",
	0x1FB3: "\u0391\u0399",
	0x1FB4: "\u0386\u0399",
	0x1FB6: "\u0391\u0342",
	0x1FB7: "\u0391\u0342\u0399",
	0x1FBC: "\u0391\u0399",
	0x1FC2: "\u1fca\u0399",
	0x1FC3: "\u0397\u0399",
	0x1FC4: "\u0389\u0399",
	0x1FC6: "\u0397\u0342",
	0x1FC7: "\u0397\u0342\u0399",
	0x1FCC: "\u0397\u0399",
	0x1FD2: "\u0399\u0308\u0300",
	0x1FD3: "\u0399\u0308\u0301",
	0x1FD6: "\u0399\u0342",
	0x1FD7: "\u0399\u0308\u0342",
	0x1FE2: "\u03a5\u0308\u0300",
	0x1FE3: "\u03a5\u0308\u0301",
	0x1FE4: "\u03a1\u0313",
	0x1FE6: "\u03a5\u0342",
	0x1FE7: "\u03a5\u0308\u0342",
	0x1FF2: "\u1ffa\u0399",
	0x1FF3: "\u03a9\u0399",
	0x1FF4: "\u038f\u0399",
	0x1FF6: "\u03a9\u0342",
	0x1FF7: "\u03a9\u0342\u0399",
	0x1FFC: "\u03a9\u0399",
	0xFB00: "FF",
	0xFB01: "FI",
	0xFB02: "FL",
	0xFB03: "FFI",
	0xFB04: "FFL",
	0xFB05: "ST",
	0xFB06: "ST",
	0xFB13: "\u0544\u0546",
	0xFB14: "\u0544\u0535",
	0xFB15: "\u0544\u053b",
	0xFB16: "\u054e\u0546",
	0xFB17: "\u0544\u053d",
}
