// A shipment: where it goes, its method in lower case and its status in upper case, both trimmed, the day on which it should arrive, and
// whether it is still under way.
package main

import (
	"slices"

	"transform.{{name}}/streamsync"
)

// arrivedOrGivenUp are the statuses after which a shipment no longer moves.
var arrivedOrGivenUp = []string{"CANCELED", "CANCELLED", "DELIVERED", "FAILED", "LOST", "RETURNED"}

type shipments struct {
	method, status                     streamsync.Column[string]
	shipment                           *streamsync.Document
	lowerMethod, upperStatus, underWay streamsync.Field
}

func open(table *streamsync.Table, _ streamsync.NoConfig) (streamsync.EventFunc, error) {
	s := &shipments{method: table.Text("shipping_method"), status: table.Text("status"), shipment: table.Document()}
	s.shipment.Copy("shipping_id", "order_id")
	s.shipment.CopyAs("shipping_address", "address", streamsync.KindText)
	s.lowerMethod = s.shipment.Field("method")
	s.upperStatus = s.shipment.Field("status")
	s.underWay = s.shipment.Field("under_way")
	s.shipment.CopyAs("estimated_delivery", "estimated_delivery", streamsync.KindDate)
	return s.event, nil
}

func (s *shipments) event(row *streamsync.Row, changes *streamsync.Changes) error {
	method, err := s.method.Get(row)
	if err != nil {
		return err
	}
	method.V = streamsync.Lower(streamsync.Trim(method.V))
	status, err := s.status.Get(row)
	if err != nil {
		return err
	}
	status.V = streamsync.Upper(streamsync.Trim(status.V))
	underWay := streamsync.Null
	if status.Valid {
		underWay = streamsync.Bool(!slices.Contains(arrivedOrGivenUp, status.V))
	}
	put := changes.Put(s.shipment).Set(s.lowerMethod, method.Or(streamsync.Text))
	put.Set(s.upperStatus, status.Or(streamsync.Text)).Set(s.underWay, underWay)
	return nil
}

func init() {
	streamsync.Export(streamsync.Transform[streamsync.NoConfig]{Name: "{{name}}", Version: "0.1.0", Open: open})
}

func main() {}
