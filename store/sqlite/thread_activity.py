"""Determines when threads were last used, in pages, so that a store of any size is processed in small steps.

A thread is last used when it, its newest message or its newest run was created; reading it does not count.
"""

import sqlite3

from store.ports import ThreadActivity
from store.sqlite.database import Engine

__all__ = ["SqliteThreadActivity", "thread_activity"]


class SqliteThreadActivity:
    """See `ThreadActivityQueries`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def threads(self, *, after: int, limit: int) -> list[ThreadActivity]:
        return await self._engine.read(thread_activity, after, limit)


def thread_activity(connection: sqlite3.Connection, after: int, limit: int) -> list[ThreadActivity]:
    """See `ThreadActivityQueries.threads`; blocks."""
    newest = "WHERE thread_id = threads.id AND owner = threads.owner ORDER BY seq DESC LIMIT 1"
    # Not the view `entries`: in a subquery, SQLite would scan both of its tables.
    newest_of_both = " UNION ALL ".join(
        f"SELECT * FROM (SELECT id, seq FROM {table} {newest})" for table in ("messages", "items")
    )
    made = "json_extract(body, '$.created_at')"
    sql = f"""
        SELECT seq, id, owner,
            max({made}, coalesce((SELECT {made} FROM messages {newest}), 0),
                coalesce((SELECT {made} FROM runs {newest}), 0)),
            (SELECT id FROM ({newest_of_both}) ORDER BY seq DESC LIMIT 1)
        FROM threads WHERE seq > ? ORDER BY seq LIMIT ?"""
    return [ThreadActivity(*found) for found in connection.execute(sql, (after, limit))]
