"""An order: its exact total and the same in minor units, its status in upper case, its times as dates, and whether it is still open.

The route's `config` may name the statuses that are permitted; an order with another one is rejected.
"""

import json

from streamsync import Changes, ConfigError, Reject, Row, Table, export, kind, minor_units, trim

MINOR_DIGITS = 2  # of a currency's minor unit: cents

# Statuses after which nothing happens to an order.
CLOSED = {"CANCELED", "CANCELLED", "CLOSED", "COMPLETED", "DELIVERED", "FAILED", "REFUND", "REFUNDED", "REJECTED", "RETURNED"}


class Orders:
    NAME, VERSION = "{{name}}", "0.1.0"
    CONFIG_SCHEMA = json.dumps({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "permitted_status": {
                "description": "The statuses that an order may have, in any case. Where it is missing, every status is permitted.",
                "type": "array",
                "items": {"type": "string"},
            },
        },
        "additionalProperties": False,
    })

    @staticmethod
    def read_config(settings: dict) -> set[str] | None:
        """The permitted statuses, trimmed and in upper case, or None where all are."""
        permitted = settings.pop("permitted_status", None)
        for name in settings:
            raise ConfigError(f'there is no setting "{name}"')
        if permitted is None:
            return None
        if not isinstance(permitted, list) or not all(isinstance(status, str) for status in permitted):
            raise ConfigError('"permitted_status" is no list of texts')
        return {trim(status).upper() for status in permitted}

    def __init__(self, table: Table, permitted: set[str] | None):
        self.permitted = permitted
        self.total = table.column("total_amount", kind.DECIMAL)
        self.status = table.column("status", kind.TEXT)
        self.order = (
            table.document()
            .copy("order_id", "customer_id")
            .copy_as("total_amount", "total", kind.DECIMAL)
            .field("total_minor", "status", "open")
            .copy_as("created_at", "created_at", kind.MOMENT)
            .copy_as("updated_at", "updated_at", kind.MOMENT)
        )

    def event(self, row: Row, changes: Changes):
        total = row.get(self.total)
        minor = None if total is None else minor_units(total, MINOR_DIGITS)
        status = row.get(self.status)
        if status is not None:
            status = trim(status).upper()
            if self.permitted is not None and status not in self.permitted:
                raise Reject("status-not-permitted", "the order's status is not among the route's permitted_status")
        is_open = None if status is None else status not in CLOSED
        changes.put(self.order, {"total_minor": minor, "status": status, "open": is_open})


Transform = export(Orders)
