"""Determines when threads were last used, in pages, so that a store of any size is processed in small steps.

A thread is last used when it, its newest message or its newest run was created; reading it does not count.
"""

import sqlite3

from store.ports import Idleness
from store.sqlite.database import Engine

__all__ = ["SqliteAges", "idleness"]


class SqliteAges:
    """See `Ages`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def threads(self, *, after: int, limit: int) -> list[Idleness]:
        return await self._engine.read(idleness, after, limit)


def idleness(connection: sqlite3.Connection, after: int, limit: int) -> list[Idleness]:
    """See `Ages.threads`; blocks."""
    newest = "WHERE thread_id = threads.id AND owner = threads.owner ORDER BY seq DESC LIMIT 1"
    made = "json_extract(body, '$.created_at')"
    sql = f"""
        SELECT seq, id, owner,
            max({made}, coalesce((SELECT {made} FROM messages {newest}), 0),
                coalesce((SELECT {made} FROM runs {newest}), 0)),
            (SELECT id FROM messages {newest})
        FROM threads WHERE seq > ? ORDER BY seq LIMIT ?"""
    return [Idleness(*found) for found in connection.execute(sql, (after, limit))]
