// All that an SDK can do, done once: see transforms/features/rust, which does the same.
package main

import (
	encoding "encoding/json"
	"strings"

	"transform.features/streamsync"
)

// config is the route's.
type config struct {
	Ratio *float64 `json:"ratio"`
	// Nested is whatever it is.
	Nested encoding.RawMessage `json:"nested"`
}

var kinds = []string{
	"boolean", "int", "uint", "double", "decimal", "text", "bytes", "bits", "json", "geometry", "date", "time", "datetime", "timestamp", "year",
}

// nested is what other languages make of objects and lists.
const nested = `{"a":[1,-2.5,"é \"q\"",true,null,{}],"b":{"c":[]}}`

// reader reads a column, and makes a field's value of it.
type reader func(row *streamsync.Row) (streamsync.Value, error)

func read[T any](column streamsync.Column[T], value func(T) streamsync.Value) reader {
	return func(row *streamsync.Row) (streamsync.Value, error) {
		v, err := column.Get(row)
		return v.Or(value), err
	}
}

type features struct {
	what, text, textBefore                     streamsync.Column[string]
	decimal                                    streamsync.Column[streamsync.Decimal]
	json                                       streamsync.Column[streamsync.JSON]
	typed, any                                 []reader
	all, keyed, whole                          *streamsync.Document
	typedFields, anyFields                     []streamsync.Field
	op, offset, partition, changedAt, presence streamsync.Field
	part, value, everything                    streamsync.Field
	int                                        streamsync.Column[int64]
	config                                     config
	// key is the primary key's columns, and targets the route's, joined by commas.
	key, targets string
}

func open(table *streamsync.Table, config config) (streamsync.EventFunc, error) {
	table.SeeDeletes()
	f := &features{what: table.Text("what"), textBefore: table.Before().Text("f_text"), all: table.Document(), config: config}
	var key, targets []string
	for _, index := range table.PrimaryKey {
		key = append(key, table.Columns[index].Name)
	}
	for _, target := range table.Context.Targets {
		targets = append(targets, target.Name)
	}
	f.key, f.targets = strings.Join(key, ","), strings.Join(targets, ",")
	f.typed = []reader{
		read(table.Boolean("f_boolean"), streamsync.Bool),
		read(table.Integer("f_int"), streamsync.Int),
		read(table.Unsigned("f_uint"), streamsync.Uint),
		read(table.Double("f_double"), streamsync.Double),
		read(table.Decimal("f_decimal"), streamsync.Decimal.Value),
		read(table.Text("f_text"), streamsync.Text),
		read(table.Bytes("f_bytes"), streamsync.Bytes),
		read(table.Bits("f_bits"), streamsync.Bits.Value),
		read(table.JSON("f_json"), streamsync.JSON.Value),
		read(table.Geometry("f_geometry"), streamsync.Geometry.Value),
		read(table.Date("f_date"), streamsync.Date.Value),
		read(table.Time("f_time"), streamsync.Clock.Value),
		read(table.Datetime("f_datetime"), streamsync.Datetime.Value),
		read(table.Timestamp("f_timestamp"), streamsync.Timestamp.Value),
		read(table.Integer("f_year"), streamsync.Int),
	}
	f.text, f.decimal, f.json = table.Text("f_text"), table.Decimal("f_decimal"), table.JSON("f_json")
	f.int = table.Integer("f_int")
	for _, kind := range kinds {
		f.any = append(f.any, read(table.Any("f_"+kind), func(v streamsync.Value) streamsync.Value { return v }))
	}

	f.all.Copy("id")
	f.all.CopyAs("f_text", "copied.text", streamsync.KindText)
	for _, kind := range kinds {
		f.typedFields = append(f.typedFields, f.all.Field("typed."+kind))
	}
	for _, kind := range kinds {
		f.anyFields = append(f.anyFields, f.all.Field("any."+kind))
	}
	f.op, f.offset, f.partition = f.all.Field("meta.op"), f.all.Field("meta.offset"), f.all.Field("meta.partition")
	f.changedAt, f.presence = f.all.Field("meta.changed_at"), f.all.Field("meta.presence")

	f.keyed = table.DocumentFor("keyed", "nowhere")
	f.keyed.KeyCopy("id")
	f.part = f.keyed.Key("part")
	f.keyed.Copy("what")
	f.value = f.keyed.Field("value")

	f.whole = table.DocumentFor("whole")
	f.everything = f.whole.Field("")
	return f.event, nil
}

func (f *features) event(row *streamsync.Row, changes *streamsync.Changes) error {
	if row.Op() == streamsync.Delete {
		text, err := f.textBefore.Get(row)
		changes.Delete(f.all)
		changes.Put(f.keyed).Set(f.part, streamsync.Text("gone")).Set(f.value, text.Or(streamsync.Text))
		return err
	}
	what, err := f.what.Get(row)
	if err != nil {
		return err
	}
	a := streamsync.Text("a")
	switch what.V {
	case "all":
		return f.putAll(row, changes)
	case "ttl":
		text, err := f.text.Get(row)
		changes.Put(f.keyed).TTL(60).Set(f.part, a).Set(f.value, text.Or(streamsync.Text))
		return err
	case "two":
		changes.Put(f.keyed).Set(f.part, a)
		changes.Put(f.keyed).Set(f.part, streamsync.Text("b")).Set(f.value, streamsync.Bool(true))
		changes.Put(f.all).Set(f.op, streamsync.Text("two"))
	case "delete":
		changes.Delete(f.keyed).Set(f.part, a)
	case "whole":
		json, err := f.json.Get(row)
		changes.Put(f.whole).Set(f.everything, json.Or(streamsync.JSON.Value))
		return err
	case "nested":
		changes.Put(f.whole).Set(f.everything, streamsync.JSON(nested).Value())
	case "absent":
		changes.Put(f.all).Set(f.typedFields[1], streamsync.Absent).Set(f.typedFields[5], streamsync.Null)
	case "minor":
		return f.putMinor(row, changes)
	case "from minor":
		return f.putFromMinor(row, changes)
	case "year":
		changes.Put(f.all).Set(f.op, streamsync.Year(2155).Value())
	case "table":
		changes.Put(f.all).Set(f.op, streamsync.Text(f.key)).Set(f.presence, streamsync.Text(f.targets))
	case "config":
		ratio, nested := streamsync.Null, streamsync.Null
		if f.config.Ratio != nil {
			ratio = streamsync.Double(*f.config.Ratio)
		}
		if f.config.Nested != nil {
			nested = streamsync.JSON(f.config.Nested).Value()
		}
		changes.Put(f.all).Set(f.op, ratio).Set(f.presence, nested)
	case "mistakes":
		// The digits are not exported, so that package encoding/json would leave them out.
		passed := ""
		if _, err := encoding.Marshal(map[string]streamsync.Decimal{"a": streamsync.DecimalOf("1.50")}); err == nil {
			passed = "a decimal inside of JSON"
		}
		changes.Put(f.all).Set(f.op, streamsync.Text(passed))
	case "ttl alone":
		return &streamsync.Reject{
			Code:    "ttl-without-put",
			Message: "the transform sets a time to live where no put is open: set it after the put that it is of",
		}
	case "case":
		text, err := f.text.Get(row)
		put := changes.Put(f.all).Set(f.op, streamsync.Text(streamsync.Trim(text.V)))
		put.Set(f.presence, streamsync.Text(streamsync.Upper(text.V))).Set(f.partition, streamsync.Text(streamsync.Lower(text.V)))
		return err
	case "log":
		streamsync.LogDebug("debug")
		streamsync.LogInfo("info")
		streamsync.LogWarn("warn")
		streamsync.LogError("error")
		streamsync.Count("seen", 2)
		streamsync.Count("seen", 3)
		changes.Skip()
	case "skip":
		changes.Skip()
	case "reject":
		changes.Put(f.all).Set(f.op, streamsync.Text("taken back"))
		return &streamsync.Reject{Code: "on-purpose", Message: "é, on purpose"}
	case "field of a delete":
		changes.Delete(f.keyed).Set(f.part, a).Set(f.value, streamsync.Int(1))
	}
	return nil
}

func (f *features) putAll(row *streamsync.Row, changes *streamsync.Changes) error {
	put := changes.Put(f.all)
	set := func(readers []reader, fields []streamsync.Field) error {
		for i, read := range readers {
			value, err := read(row)
			if err != nil {
				return err
			}
			put.Set(fields[i], value)
		}
		return nil
	}
	if err := set(f.typed, f.typedFields); err != nil {
		return err
	}
	if err := set(f.any, f.anyFields); err != nil {
		return err
	}
	op := map[streamsync.Op]string{streamsync.Create: "create", streamsync.Update: "update", streamsync.Read: "read"}[row.Op()]
	presence := [...]string{streamsync.IsAbsent: "absent", streamsync.IsNull: "null", streamsync.IsPresent: "present"}[f.textBefore.Presence(row)]
	put.Set(f.op, streamsync.Text(op)).Set(f.offset, streamsync.Uint(row.Offset())).Set(f.partition, streamsync.Int(int64(row.Partition())))
	put.Set(f.changedAt, streamsync.Int(row.ChangedAt().Micros)).Set(f.presence, streamsync.Text(presence))
	return nil
}

func (f *features) putMinor(row *streamsync.Row, changes *streamsync.Changes) error {
	minor := streamsync.Null
	decimal, err := f.decimal.Get(row)
	if err == nil && decimal.Valid {
		var units int64
		units, err = decimal.V.MinorUnits(2)
		minor = streamsync.Int(units)
	}
	changes.Put(f.all).Set(f.typedFields[1], minor)
	return err
}

func (f *features) putFromMinor(row *streamsync.Row, changes *streamsync.Changes) error {
	units, err := f.int.Get(row)
	decimal := func(digits int) streamsync.Value {
		return units.Or(func(units int64) streamsync.Value { return streamsync.DecimalOfMinorUnits(units, digits).Value() })
	}
	changes.Put(f.all).Set(f.op, decimal(0)).Set(f.presence, decimal(2)).Set(f.partition, decimal(20))
	return err
}

func init() {
	streamsync.Export(streamsync.Transform[config]{Name: "features", Version: "0.1.0", Open: open})
}

func main() {}
