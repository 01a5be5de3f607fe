"""SQL of the five kinds of object: which table, which columns, which statement.

Law: every statement compares the owner and is served by an index; none of them scans a table.
`seq` rises with every insert and is the order of every listing.
"""

from dataclasses import dataclass
from typing import Any, Final, get_args

import orjson

from store.ports import ACTIVE, Kind, PageQuery, Row

__all__ = ["ACTIVE_SQL", "TABLES", "Table", "decode", "insert_values"]

ACTIVE_SQL: Final = "status IN (" + ", ".join(f"'{s}'" for s in sorted(ACTIVE)) + ")"
"""Literal, and in the order of the partial index `runs_active`: the planner compares the text."""

_PLACES: Final[dict[Kind, tuple[str, ...]]] = {
    "assistant": (),
    "thread": (),
    "message": ("thread_id", "run_id"),
    "run": ("thread_id",),
    "step": ("thread_id", "run_id"),
}


@dataclass(frozen=True, slots=True)
class Table:
    """Name, columns and prepared statements of one kind."""

    kind: Kind
    name: str
    places: tuple[str, ...]
    row: str
    insert: str
    update: str

    def where(self, *, thread_id: str | None, run_id: str | None) -> tuple[str, list[str]]:
        """Return the conditions (after the owner's) that pin a row to a thread and a run, and their values."""
        given = [("thread_id", thread_id), ("run_id", run_id)]
        pins = [(column, value) for column, value in given if value is not None and column in self.places]
        return "".join(f" AND {column} = ?" for column, _ in pins), [value for _, value in pins]

    def select_one(self, *, thread_id: str | None = None, run_id: str | None = None) -> tuple[str, list[str]]:
        """Return the statement for one row by (id, owner, *pins), and the values of the pins."""
        where, pins = self.where(thread_id=thread_id, run_id=run_id)
        return f"SELECT {self.row} FROM {self.name} WHERE id = ? AND owner = ?{where}", pins

    def select_cursor(self, *, thread_id: str | None, run_id: str | None) -> tuple[str, list[str]]:
        """Return the statement for the place (seq) of a row that is or was in a list: (id, owner, *pins) twice."""
        where, pins = self.where(thread_id=thread_id, run_id=run_id)
        found = f"WHERE id = ? AND owner = ?{where}"
        return f"SELECT seq FROM {self.name} {found} UNION ALL SELECT seq FROM tombstones {found} AND kind = ?", pins

    def select_page(self, query: PageQuery, *, thread_id: str | None, run_id: str | None) -> tuple[str, list[str]]:
        """Return the statement for up to `limit` rows by (owner, *pins, *cursor places in `query`'s order, limit).

        A page that has only `before` comes in reverse, nearest to the cursor first.
        """
        where, pins = self.where(thread_id=thread_id, run_id=run_id)
        ascending = query.order == "asc"
        if query.after is not None:
            where += f" AND seq {'>' if ascending else '<'} ?"
        if query.before is not None:
            where += f" AND seq {'<' if ascending else '>'} ?"
        if query.after is None and query.before is not None:
            ascending = not ascending
        order = "ASC" if ascending else "DESC"
        return f"SELECT {self.row}, seq FROM {self.name} WHERE owner = ?{where} ORDER BY seq {order} LIMIT ?", pins

    def select_any_beyond(self, order: str, *, thread_id: str | None, run_id: str | None) -> tuple[str, list[str]]:
        """Return the statement that tells whether the list goes on beyond a place: (owner, *pins, seq)."""
        where, pins = self.where(thread_id=thread_id, run_id=run_id)
        beyond = "seq > ?" if order == "asc" else "seq < ?"
        return f"SELECT 1 FROM {self.name} WHERE owner = ?{where} AND {beyond} LIMIT 1", pins


def _table(kind: Kind) -> Table:
    name, places = f"{kind}s", _PLACES[kind]
    held = [column if column in places else f"NULL AS {column}" for column in ("thread_id", "run_id")]
    extra = ("status", "expires_at") if kind == "run" else ()
    columns = ("id", "owner", *places, *extra, "body", "private")
    values = ", ".join("?" * len(columns))
    # A row below a thread is added only where the thread is there, and this owner's: one statement, no race.
    thread = " WHERE EXISTS (SELECT 1 FROM threads WHERE id = ? AND owner = ?)" if places else ""
    sets = ", ".join(f"{column} = ?" for column in ("body", "private", *extra))
    return Table(
        kind=kind,
        name=name,
        places=places,
        row=", ".join(("id", "owner", *held, "body", "private")),
        insert=f"INSERT INTO {name} ({', '.join(columns)}) SELECT {values}{thread}",
        update=f"UPDATE {name} SET {sets} WHERE id = ? AND owner = ?",
    )


TABLES: Final[dict[Kind, Table]] = {kind: _table(kind) for kind in get_args(Kind)}


def insert_values(row: Row, body: str, private: str) -> list[Any]:
    """Return the values that `Table.insert` takes."""
    values: list[Any] = [row.id, row.owner]
    places = TABLES[row.kind].places
    values += [getattr(row, column) for column in places]
    if row.kind == "run":
        values += [row.body["status"], row.body.get("expires_at")]
    values += [body, private]
    return [*values, row.thread_id, row.owner] if places else values


def decode(kind: Kind, found: Any) -> Row:
    """Make a Row of the columns of `Table.row`."""
    return Row(
        kind=kind,
        id=found[0],
        owner=found[1],
        body=orjson.loads(found[4]),
        thread_id=found[2],
        run_id=found[3],
        private=orjson.loads(found[5]),
    )
