"""A customer: the name trimmed, the email trimmed and in lower case, the address as it is, the day and time of creation as a date."""

from streamsync import Changes, Row, Table, export, kind, trim


class Customers:
    NAME, VERSION = "{{name}}", "0.1.0"

    def __init__(self, table: Table, config):
        self.name = table.column("name", kind.TEXT)
        self.email = table.column("email", kind.TEXT)
        self.customer = (
            table.document()
            .copy("customer_id")
            .field("name", "email")
            .copy("address")
            .copy_as("created_at", "created_at", kind.MOMENT)
        )

    def event(self, row: Row, changes: Changes):
        name, email = row.get(self.name), row.get(self.email)
        changes.put(self.customer, {
            "name": None if name is None else trim(name),
            "email": None if email is None else trim(email).lower(),
        })


Transform = export(Customers)
