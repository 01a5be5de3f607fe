"""The SQL of each kind of list: its table (for entries, a view), columns and statements.

Invariant: every statement compares the owner and uses an index; none of them scans a table.
`seq` rises with every insert and is the order of every list. Messages and items share one sequence.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, get_args

import orjson

from store.ports import HeldKind, Kind, ListKind, PageQuery, Row
from wire.status import ACTIVE

__all__ = [
    "ACTIVE_SQL",
    "DEFERRED",
    "EXECUTED_SQL",
    "FREE_SQL",
    "TABLES",
    "UNFINISHED",
    "Pins",
    "SqlRow",
    "StoredRow",
    "Table",
    "decode",
    "insert_values",
    "update_values",
]

StoredRow: TypeAlias = Row[Any, Any]
"""A row of any kind: what this server wrote as that kind's body is not checked again when it is read."""

SqlRow: TypeAlias = tuple[Any, ...]
"""A row of a result, in the columns of the statement."""

Pins = Mapping[str, str | None]
"""Column → value that rows must have. None, and columns that a kind does not have, are ignored."""

ACTIVE_SQL: Final = "status IN (" + ", ".join(f"'{s}'" for s in sorted(ACTIVE)) + ")"
"""Literal, and in the order of the partial index `runs_active`, because the planner compares the text."""

EXECUTED_SQL: Final = "('queued', 'in_progress', 'cancelling')"
"""Statuses in which a process can hold a run."""

FREE_SQL: Final = "(holder IS NULL OR holder NOT IN (SELECT id FROM processes))"
"""A row that no live process holds: a process that leaves or is declared dead leaves `processes`, and nothing else."""

_NAMES: Final[dict[ListKind, str]] = {"file_batch": "file_batches", "entry": "entries"}
"""Names of tables that are not the kind with an `s`."""

_PARENTS: Final[dict[ListKind, tuple[str, ...]]] = {
    "assistant": (),
    "thread": (),
    "message": ("thread_id", "run_id"),
    "item": ("thread_id", "run_id"),
    "entry": ("thread_id", "run_id"),
    "run": ("thread_id",),
    "step": ("thread_id", "run_id"),
    "file": (),
    "vector_store": (),
    "vector_store_file": ("vector_store_id", "batch_id", "file_id"),
    "file_batch": ("vector_store_id",),
    "upload": (),
}

_INDEXED: Final[dict[ListKind, tuple[str, ...]]] = {
    "run": ("status", "expires_at"),
    "file": ("purpose", "expires_at"),
    "vector_store": ("status", "expires_at"),
    "vector_store_file": ("status", "usage_bytes"),
    "upload": ("status", "expires_at"),
}
"""Columns that repeat a key of the body."""

_WITH_HOLDER: Final[frozenset[ListKind]] = frozenset(get_args(HeldKind))

_ABOVE: Final[dict[ListKind, tuple[tuple[Kind, str], ...]]] = {
    "message": (("thread", "thread_id"),),
    "item": (("thread", "thread_id"),),
    "entry": (("thread", "thread_id"),),
    "run": (("thread", "thread_id"),),
    "step": (("thread", "thread_id"),),
    "vector_store_file": (("vector_store", "vector_store_id"), ("file", "file_id")),
    "file_batch": (("vector_store", "vector_store_id"),),
}
"""Objects of the same owner that must exist for a row to be added, and the columns that name them."""

DEFERRED: Final[frozenset[Kind]] = frozenset({"thread", "vector_store"})
"""Kinds whose parts are removed after the commit that deletes them (see `store.sqlite.deferred_deletes`)."""

_HELD: Final = ("thread_id", "run_id", "vector_store_id", "batch_id", "file_id")


@dataclass(frozen=True, slots=True)
class Table:
    """Name, columns and prepared statements of one kind. Nothing is added to the view of entries."""

    kind: ListKind
    name: str
    parents: tuple[str, ...]
    row: str
    insert: str
    update: str

    indexed: tuple[str, ...]
    above: tuple[tuple[Kind, str], ...]

    shown_kind: str
    """The kind of a row, as SQL."""
    kinds: str
    """The kinds of rows, as a list in SQL."""
    visible: str
    """A condition, with AND before it, that hides the remaining rows of deleted objects."""

    def where(self, pins: Pins, *, parents_only: bool = False) -> tuple[str, list[str]]:
        """Return the conditions, after the owner's, that rows must meet, and their values."""
        known = self.parents if parents_only else (*self.parents, *self.indexed)
        given = [(column, value) for column, value in pins.items() if value is not None and column in known]
        return "".join(f" AND {column} = ?" for column, _ in given), [value for _, value in given]

    def select_one(self, pins: Pins) -> tuple[str, list[str]]:
        """Return the statement for one row by (id, owner, *pins), and the values of the pins."""
        where, values = self.where(pins)
        return f"SELECT {self.row} FROM {self.name} WHERE id = ? AND owner = ?{where}{self.visible}", values

    def select_cursor(self, pins: Pins) -> tuple[str, list[str]]:
        """Return the statement for the position (seq) of a row that is or was in a list: (id, owner, *pins) twice."""
        where, values = self.where(pins, parents_only=True)
        found = f"WHERE id = ? AND owner = ?{where}"
        buried = f"SELECT seq FROM tombstones {found} AND kind IN ({self.kinds})"
        return f"SELECT seq FROM {self.name} {found} UNION ALL {buried}", values

    def select_page(self, query: PageQuery, pins: Pins) -> tuple[str, list[str]]:
        """Return the statement for up to `limit` rows by (owner, *pins, *cursor positions in `query`'s order, limit).

        A page that has only `before` is in reverse order, nearest to the cursor first. The columns are those of `row`,
        then the kind, then `seq`.
        """
        where, values = self.where(pins)
        ascending = query.order == "asc"
        if query.after is not None:
            where += f" AND seq {'>' if ascending else '<'} ?"
        if query.before is not None:
            where += f" AND seq {'<' if ascending else '>'} ?"
        if query.after is None and query.before is not None:
            ascending = not ascending
        order = "ASC" if ascending else "DESC"
        where = f"{where}{self.visible}"
        columns = f"{self.row}, {self.shown_kind}, seq"
        return f"SELECT {columns} FROM {self.name} WHERE owner = ?{where} ORDER BY seq {order} LIMIT ?", values

    def select_any_beyond(self, order: str, pins: Pins) -> tuple[str, list[str]]:
        """Return the statement for whether the list continues beyond a position: (owner, *pins, seq)."""
        where, values = self.where(pins)
        beyond = "seq > ?" if order == "asc" else "seq < ?"
        return f"SELECT 1 FROM {self.name} WHERE owner = ?{where} AND {beyond}{self.visible} LIMIT 1", values


def _table(kind: ListKind) -> Table:
    name, parents, indexed = _NAMES.get(kind, f"{kind}s"), _PARENTS[kind], _INDEXED.get(kind, ())
    held = [column if column in parents else f"NULL AS {column}" for column in _HELD]
    columns = ("id", "owner", *parents, *indexed, "body", "private", *(("holder",) if kind in _WITH_HOLDER else ()))
    values = ", ".join("?" * len(columns))
    if kind == "item":
        columns = ("seq", *columns)
        values = f"(SELECT seq + 1 FROM sqlite_sequence WHERE name = 'messages'), {values}"
    # A row is added only if what it belongs to exists and has the same owner: one statement, so no race.
    above = [f"EXISTS (SELECT 1 FROM {kind}s WHERE id = ? AND owner = ?)" for kind, _ in _ABOVE.get(kind, ())]
    condition = f" WHERE {' AND '.join(above)}" if above else ""
    visible = [
        f" AND EXISTS (SELECT 1 FROM {kind}s AS above WHERE above.id = {name}.{column} AND above.owner = {name}.owner)"
        for kind, column in _ABOVE.get(kind, ())
        if kind in DEFERRED
    ]
    sets = ", ".join(f"{column} = ?" for column in ("body", "private", *indexed))
    if kind == "run":  # a run that pauses or ends has no holder; its status is the third value
        sets += f", holder = iif(?3 IN {EXECUTED_SQL}, holder, NULL)"
    return Table(
        kind=kind,
        name=name,
        parents=parents,
        row=", ".join(("id", "owner", *held, "body", "private")),
        insert=f"INSERT INTO {name} ({', '.join(columns)}) SELECT {values}{condition}",
        update=f"UPDATE {name} SET {sets} WHERE id = ? AND owner = ?",
        indexed=indexed,
        above=_ABOVE.get(kind, ()),
        shown_kind="kind" if kind == "entry" else f"'{kind}'",
        kinds="'message', 'item'" if kind == "entry" else f"'{kind}'",
        visible="".join(visible),
    )


TABLES: Final[dict[ListKind, Table]] = {kind: _table(kind) for kind in get_args(ListKind)}


_UNFINISHED: Final = "id, owner, thread_id, status, json_extract(body, '$.created_at'), length(body)"
UNFINISHED: Final = f"SELECT {_UNFINISHED} FROM runs INDEXED BY runs_active WHERE {ACTIVE_SQL}{TABLES['run'].visible}"
"""Selects the columns of `store.ports.Unfinished`; conditions can follow."""


def insert_values(row: Row, body: str, private: str, holder: int | None) -> list[object]:
    """Return the values for `Table.insert`; kinds that no process holds have no `holder`."""
    table = TABLES[row.kind]
    values: list[object] = [row.id, row.owner]
    values += [getattr(row, column) for column in table.parents]
    values += [row.body.get(column) for column in table.indexed]
    values += [body, private]
    if row.kind in _WITH_HOLDER:
        values.append(holder)
    for _, column in table.above:
        values += [getattr(row, column), row.owner]
    return values


def update_values(row: Row) -> list[object]:
    """Return the values for `Table.update`, before id and owner."""
    values: list[object] = [orjson.dumps(row.body).decode(), orjson.dumps(row.private).decode()]
    return values + [row.body.get(column) for column in TABLES[row.kind].indexed]


def decode(kind: Kind, found: SqlRow) -> StoredRow:
    """Return the Row in the columns of `Table.row`."""
    id, owner, thread_id, run_id, vector_store_id, batch_id, file_id, body, private = found[:9]
    body, private = orjson.loads(body), orjson.loads(private)
    return Row(kind, id, owner, body, thread_id, run_id, private, vector_store_id, batch_id, file_id)
