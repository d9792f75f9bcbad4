// An order: its exact total and the same in minor units, its status in upper case, its times as dates, and whether it is still open.
//
// The route's `config` may name the statuses that are permitted; an order with another one is rejected.
package main

import (
	"slices"

	"transform.{{name}}/streamsync"
)

// minorDigits are those of a currency's minor unit: cents.
const minorDigits = 2

// closed are the statuses after which nothing happens to an order.
var closed = []string{
	"CANCELED", "CANCELLED", "CLOSED", "COMPLETED", "DELIVERED", "FAILED", "REFUND", "REFUNDED", "REJECTED", "RETURNED",
}

// config is the route's.
type config struct {
	// PermittedStatus is in any case. Where it is missing, every status is permitted. An order without a status always is.
	PermittedStatus *[]string `json:"permitted_status"`
}

const configSchema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {
    "permitted_status": {
      "description": "The statuses that an order may have, in any case. Where it is missing, every status is permitted.",
      "type": "array",
      "items": { "type": "string" }
    }
  },
  "additionalProperties": false
}`

type orders struct {
	total  streamsync.Column[streamsync.Decimal]
	status streamsync.Column[string]
	// restricted tells that only the permitted statuses are; these are trimmed and in upper case.
	restricted                    bool
	permitted                     []string
	order                         *streamsync.Document
	totalMinor, upperStatus, open streamsync.Field
}

func open(table *streamsync.Table, config config) (streamsync.EventFunc, error) {
	o := &orders{total: table.Decimal("total_amount"), status: table.Text("status"), order: table.Document()}
	o.order.Copy("order_id", "customer_id")
	o.order.CopyAs("total_amount", "total", streamsync.KindDecimal)
	o.totalMinor = o.order.Field("total_minor")
	o.upperStatus = o.order.Field("status")
	o.open = o.order.Field("open")
	o.order.CopyAs("created_at", "created_at", streamsync.KindMoment)
	o.order.CopyAs("updated_at", "updated_at", streamsync.KindMoment)
	if config.PermittedStatus != nil {
		o.restricted = true
		for _, status := range *config.PermittedStatus {
			o.permitted = append(o.permitted, normalise(status))
		}
	}
	return o.event, nil
}

func normalise(status string) string { return streamsync.Upper(streamsync.Trim(status)) }

func (o *orders) event(row *streamsync.Row, changes *streamsync.Changes) error {
	minor, upperStatus, open := streamsync.Null, streamsync.Null, streamsync.Null
	total, err := o.total.Get(row)
	if err != nil {
		return err
	}
	if total.Valid {
		cents, err := total.V.MinorUnits(minorDigits)
		if err != nil {
			return err
		}
		minor = streamsync.Int(cents)
	}
	status, err := o.status.Get(row)
	if err != nil {
		return err
	}
	if status.Valid {
		name := normalise(status.V)
		if o.restricted && !slices.Contains(o.permitted, name) {
			return &streamsync.Reject{
				Code:    "status-not-permitted",
				Message: "the order's status is not among the route's permitted_status",
			}
		}
		upperStatus, open = streamsync.Text(name), streamsync.Bool(!slices.Contains(closed, name))
	}
	changes.Put(o.order).Set(o.totalMinor, minor).Set(o.upperStatus, upperStatus).Set(o.open, open)
	return nil
}

func init() {
	streamsync.Export(streamsync.Transform[config]{Name: "{{name}}", Version: "0.1.0", ConfigSchema: configSchema, Open: open})
}

func main() {}
