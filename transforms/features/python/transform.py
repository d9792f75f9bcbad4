"""All that an SDK can do, done once: see `transforms/features/rust`, which does the same."""

from streamsync import (ABSENT, Changes, ConfigError, Decimal, Reject, Row, Table, Unsigned, Year, export, kind, log, metrics, minor_units,
                        trim)

KINDS = ("boolean", "int", "uint", "double", "decimal", "text", "bytes", "bits", "json", "geometry", "date", "time", "datetime", "timestamp",
         "year")
KIND_OF = {"int": kind.INTEGER, "uint": kind.UNSIGNED, "year": kind.INTEGER}


class Features:
    NAME, VERSION = "features", "0.1.0"

    @staticmethod
    def read_config(settings: dict) -> tuple:
        ratio, nested = settings.pop("ratio", None), settings.pop("nested", None)
        for name in settings:
            raise ConfigError(f'there is no setting "{name}"')
        if ratio is None:
            return None, nested
        if isinstance(ratio, bool) or not isinstance(ratio, (int, float)):
            raise ConfigError('"ratio" is no number')
        return float(ratio), nested

    def __init__(self, table: Table, config: tuple):
        self.ratio, self.nested = config
        self.key = ",".join(table.schema.columns[index].name for index in table.schema.primary_key)
        self.targets = ",".join(target.name for target in table.context.targets)
        table.see_deletes()
        self.what = table.column("what", kind.TEXT)
        self.text_before = table.column_before("f_text", kind.TEXT)
        self.typed = {name: table.column(f"f_{name}", KIND_OF.get(name) or getattr(kind, name.upper())) for name in KINDS}
        self.any = {name: table.column(f"f_{name}") for name in KINDS}
        self.all = table.document().copy("id").copy_as("f_text", "copied.text", kind.TEXT)
        self.all.field(*(f"typed.{name}" for name in KINDS)).field(*(f"any.{name}" for name in KINDS))
        self.all.field("meta.op", "meta.offset", "meta.partition", "meta.changed_at", "meta.presence")
        self.keyed = table.document_for("keyed", "nowhere").key_copy("id").key("part").copy("what").field("value")
        self.whole = table.document_for("whole").field("")

    def event(self, row: Row, changes: Changes):
        if row.op == "delete":
            changes.delete(self.all)
            changes.put(self.keyed, {"part": "gone", "value": row.get(self.text_before)})
            return
        what = row.get(self.what)
        if what == "all":
            self.put_all(row, changes)
        elif what == "ttl":
            changes.put(self.keyed, {"part": "a", "value": row.get(self.typed["text"])}, ttl_seconds=60)
        elif what == "two":
            changes.put(self.keyed, {"part": "a"})
            changes.put(self.keyed, {"part": "b", "value": True})
            changes.put(self.all, {"meta.op": "two"})
        elif what == "delete":
            changes.delete(self.keyed, {"part": "a"})
        elif what == "whole":
            changes.put(self.whole, {"": row.get(self.typed["json"])})
        elif what == "nested":
            changes.put(self.whole, {"": {"a": [1, -2.5, 'é "q"', True, None, {}], "b": {"c": []}}})
        elif what == "absent":
            changes.put(self.all, {"typed.int": ABSENT, "typed.text": None})
        elif what == "minor":
            decimal = row.get(self.typed["decimal"])
            changes.put(self.all, {"typed.int": None if decimal is None else minor_units(decimal, 2)})
        elif what == "from minor":
            units = row.get(self.typed["int"])
            whole, cents, fine = (None if units is None else Decimal(units).scaleb(-digits) for digits in (0, 2, 20))
            changes.put(self.all, {"meta.op": whole, "meta.presence": cents, "meta.partition": fine})
        elif what == "year":
            changes.put(self.all, {"meta.op": Year(2155)})
        elif what == "table":
            changes.put(self.all, {"meta.op": self.key, "meta.presence": self.targets})
        elif what == "config":
            changes.put(self.all, {"meta.op": self.ratio, "meta.presence": self.nested})
        elif what == "mistakes":
            changes.put(self.all, {"meta.op": ""})
        elif what == "ttl alone":
            raise Reject("ttl-without-put", "the transform sets a time to live where no put is open: set it after the put that it is of")
        elif what == "case":
            text = row.get(self.typed["text"])
            changes.put(self.all, {"meta.op": trim(text), "meta.presence": text.upper(), "meta.partition": text.lower()})
        elif what == "log":
            log.debug("debug")
            log.info("info")
            log.warn("warn")
            log.error("error")
            metrics.add("seen", 2)
            metrics.add("seen", 3)
            changes.skip()
        elif what == "skip":
            changes.skip()
        elif what == "reject":
            changes.put(self.all, {"meta.op": "taken back"})
            raise Reject("on-purpose", "é, on purpose")
        elif what == "field of a delete":
            changes.delete(self.keyed, {"part": "a", "value": 1})

    def put_all(self, row: Row, changes: Changes):
        values = {f"typed.{name}": row.get(column) for name, column in self.typed.items()}
        presence = row.presence(self.text_before)
        values |= {f"any.{name}": row.get(column) for name, column in self.any.items()}
        changes.put(self.all, values | {
            "meta.op": row.op,
            "meta.offset": Unsigned(row.offset),
            "meta.partition": row.partition,
            "meta.changed_at": row.changed_at,
            "meta.presence": "absent" if presence is ABSENT else "null" if presence is None else "present",
        })


Transform = export(Features)
