// Rows of {{table}} as they are: every column under its own name, typed.
//
// To compute a field, resolve what it is made of in open (name := table.Text("name")), declare it there (field := document.Field("name")),
// and set it for each event (changes.Put(document).Set(field, …)).
package main

import "transform.{{name}}/streamsync"

func open(table *streamsync.Table, _ streamsync.NoConfig) (streamsync.EventFunc, error) {
	document := table.Document()
	for _, column := range table.Columns {
		document.Copy(column.Name)
	}
	return func(_ *streamsync.Row, changes *streamsync.Changes) error {
		changes.Put(document)
		return nil
	}, nil
}

func init() {
	streamsync.Export(streamsync.Transform[streamsync.NoConfig]{Name: "{{name}}", Version: "0.1.0", Open: open})
}

func main() {}
