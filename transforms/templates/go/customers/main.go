// A customer: the name trimmed, the email trimmed and in lower case, the address as it is, the day and time of creation as a date.
package main

import "transform.{{name}}/streamsync"

type customers struct {
	name, email             streamsync.Column[string]
	customer                *streamsync.Document
	trimmedName, lowerEmail streamsync.Field
}

func open(table *streamsync.Table, _ streamsync.NoConfig) (streamsync.EventFunc, error) {
	c := &customers{name: table.Text("name"), email: table.Text("email"), customer: table.Document()}
	c.customer.Copy("customer_id")
	c.trimmedName = c.customer.Field("name")
	c.lowerEmail = c.customer.Field("email")
	c.customer.Copy("address")
	c.customer.CopyAs("created_at", "created_at", streamsync.KindMoment)
	return c.event, nil
}

func (c *customers) event(row *streamsync.Row, changes *streamsync.Changes) error {
	name, err := c.name.Get(row)
	if err != nil {
		return err
	}
	email, err := c.email.Get(row)
	if err != nil {
		return err
	}
	name.V, email.V = streamsync.Trim(name.V), streamsync.Lower(streamsync.Trim(email.V))
	changes.Put(c.customer).Set(c.trimmedName, name.Or(streamsync.Text)).Set(c.lowerEmail, email.Or(streamsync.Text))
	return nil
}

func init() {
	streamsync.Export(streamsync.Transform[streamsync.NoConfig]{Name: "{{name}}", Version: "0.1.0", Open: open})
}

func main() {}
