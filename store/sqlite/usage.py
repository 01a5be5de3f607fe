"""Reads the usage in a SQLite file: see `store.ports.usage`, which documents each method."""

import sqlite3
from pathlib import Path
from typing import Final

from store.ports import UsageRow
from store.sqlite.database import Engine
from store.sqlite.offline import open_read_only

__all__ = ["SqliteUsage", "SqliteUsageReport"]

_READ: Final = """
    SELECT day, owner, model, kind, key_id, requests, input_tokens, cached_tokens, output_tokens
    FROM usage WHERE day >= ? AND day < ? ORDER BY day, owner, model, kind, key_id
"""


class SqliteUsage:
    """The usage in an open file."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def usage(self, since: int, until: int) -> list[UsageRow]:
        await self._engine.pending.wait_for_all()
        return await self._engine.read_long("", _read, since, until)


class SqliteUsageReport:
    """The usage in a file that a server can have open."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def usage(self, since: int, until: int) -> list[UsageRow]:
        if not self._path.exists() or not self._path.stat().st_size:
            return []
        with open_read_only(self._path, untouched=True) as conn:
            return _read(conn, since, until)


def _read(conn: sqlite3.Connection, since: int, until: int) -> list[UsageRow]:
    return [UsageRow(*found) for found in conn.execute(_READ, (since, until))]
