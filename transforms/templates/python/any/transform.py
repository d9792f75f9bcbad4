"""Rows of {{table}} as they are: every column under its own name, typed.

To compute a field, resolve what it is made of in `__init__` (`self.name = table.column("name", kind.TEXT)`), declare it there
(`.field("name")`) and set it in `event` (`{"name": row.get(self.name)}`).
"""

from streamsync import Changes, Row, Table, export


class Rows:
    NAME, VERSION = "{{name}}", "0.1.0"

    def __init__(self, table: Table, config):
        self.row = table.document().copy(*(column.name for column in table.schema.columns))

    def event(self, row: Row, changes: Changes):
        changes.put(self.row)


Transform = export(Rows)
