"""A shipment: where it goes, its method in lower case and its status in upper case, both trimmed, the day on which it should arrive,
and whether it is still under way."""

from streamsync import Changes, Row, Table, export, kind, trim

# Statuses after which a shipment no longer moves.
ARRIVED_OR_GIVEN_UP = {"CANCELED", "CANCELLED", "DELIVERED", "FAILED", "LOST", "RETURNED"}


class Shipments:
    NAME, VERSION = "{{name}}", "0.1.0"

    def __init__(self, table: Table, config):
        self.method = table.column("shipping_method", kind.TEXT)
        self.status = table.column("status", kind.TEXT)
        self.shipment = (
            table.document()
            .copy("shipping_id", "order_id")
            .copy_as("shipping_address", "address", kind.TEXT)
            .field("method", "status", "under_way")
            .copy_as("estimated_delivery", "estimated_delivery", kind.DATE)
        )

    def event(self, row: Row, changes: Changes):
        method, status = row.get(self.method), row.get(self.status)
        method = None if method is None else trim(method).lower()
        status = None if status is None else trim(status).upper()
        under_way = None if status is None else status not in ARRIVED_OR_GIVEN_UP
        changes.put(self.shipment, {"method": method, "status": status, "under_way": under_way})


Transform = export(Shipments)
