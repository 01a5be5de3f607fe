"""Checkpoints of unfinished runs in two tables, written by the store's writer: only one connection ever writes."""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from store.ports import CheckpointKey, CheckpointWrite, Row, StoredCheckpoint
from store.sqlite.changes import drop_checkpoints
from store.sqlite.database import Engine

__all__ = ["SqliteCheckpoints"]

_LARGE_BYTES: Final = 64 * 1024
"""A run keeps only its newest two checkpoints once they are larger: the size of all would grow with the square of the
exchange."""

_DROP_OLDER = "DELETE FROM checkpoints WHERE run_id = ? AND ns = ? AND id < ?"
_DROP_OLDER_WRITES = "DELETE FROM checkpoint_writes WHERE run_id = ? AND ns = ? AND checkpoint_id < ?"

_OWNER = "coalesce((SELECT owner FROM runs WHERE id = ?), '')"
_PUT = (
    "INSERT OR REPLACE INTO checkpoints "
    "(run_id, ns, id, owner, parent_id, type, checkpoint, metadata_type, metadata) "
    f"VALUES (?, ?, ?, {_OWNER}, ?, ?, ?, ?, ?)"
)
_PUT_WRITE = (
    "INSERT OR {} INTO checkpoint_writes "
    "(run_id, ns, checkpoint_id, task_id, idx, owner, task_path, channel, type, value) "
    f"VALUES (?, ?, ?, ?, ?, {_OWNER}, ?, ?, ?, ?)"
)
_KEEP_WRITE, _REPLACE_WRITE = _PUT_WRITE.format("IGNORE"), _PUT_WRITE.format("REPLACE")
_COLUMNS = "run_id, ns, id, parent_id, type, checkpoint, metadata_type, metadata"
_WRITES_OF = (
    "SELECT task_id, task_path, idx, channel, type, value FROM checkpoint_writes "
    "WHERE run_id = ? AND ns = ? AND checkpoint_id = ? ORDER BY task_path, task_id, idx"
)


class SqliteCheckpoints:
    """See `store.ports.Checkpoints`, which documents each method."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def put(self, checkpoint: StoredCheckpoint) -> None:
        key, parent_id = checkpoint.key, checkpoint.parent_id
        values = (
            *(key.run_id, key.namespace, key.id, key.run_id, parent_id),
            *(*checkpoint.state, *checkpoint.metadata),
        )
        size = len(checkpoint.state[1]) + len(checkpoint.metadata[1])

        def put(conn: sqlite3.Connection) -> Row | None:
            conn.execute(_PUT, values)
            if size > _LARGE_BYTES and parent_id is not None:
                conn.execute(_DROP_OLDER, (key.run_id, key.namespace, parent_id))
                conn.execute(_DROP_OLDER_WRITES, (key.run_id, key.namespace, parent_id))
            return None

        touched = frozenset({key.run_id})
        self._engine.queue([put], touched=touched, size=size, checkpointed_run=key.run_id, completes_checkpoint=True)

    def put_writes(self, key: CheckpointKey, writes: Sequence[CheckpointWrite]) -> None:
        rows = [
            (
                *(key.run_id, key.namespace, key.id, write.task_id, write.index, key.run_id),
                *(write.task_path, write.channel, *write.value),
            )
            for write in writes
        ]
        kept = [row for row, write in zip(rows, writes, strict=True) if write.index >= 0]
        replaced = [row for row, write in zip(rows, writes, strict=True) if write.index < 0]

        def put(conn: sqlite3.Connection) -> Row | None:
            conn.executemany(_KEEP_WRITE, kept)
            conn.executemany(_REPLACE_WRITE, replaced)
            return None

        size = sum(len(write.value[1]) for write in writes)
        self._engine.queue([put], touched=frozenset({key.run_id}), size=size, checkpointed_run=key.run_id)

    async def get(self, run_id: str, namespace: str, id: str | None) -> StoredCheckpoint | None:
        await self._engine.pending.wait_for(run_id)
        return await self._engine.read(_read_one, run_id, namespace, id)

    async def find(
        self,
        *,
        run_id: str | None = None,
        namespace: str | None = None,
        id: str | None = None,
        before: str | None = None,
    ) -> list[StoredCheckpoint]:
        await self._engine.pending.wait_for_all()
        named = {"run_id = ?": run_id, "ns = ?": namespace, "id = ?": id, "id < ?": before}
        return await self._engine.read(_read_many, {term: value for term, value in named.items() if value is not None})

    async def drop(self, run_id: str) -> None:
        gone = frozenset({run_id})
        await self._engine.queue([drop_checkpoints(run_id)], touched=gone, ended_runs=gone)


def _read_one(conn: sqlite3.Connection, run_id: str, namespace: str, id: str | None) -> StoredCheckpoint | None:
    which, values = ("AND id = ?", [run_id, namespace, id]) if id else ("ORDER BY id DESC LIMIT 1", [run_id, namespace])
    sql = f"SELECT {_COLUMNS} FROM checkpoints WHERE run_id = ? AND ns = ? {which}"
    found = conn.execute(sql, values).fetchone()
    return None if found is None else _decoded(conn, found)


def _read_many(conn: sqlite3.Connection, named: dict[str, str]) -> list[StoredCheckpoint]:
    sql = f"SELECT {_COLUMNS} FROM checkpoints WHERE {' AND '.join(named) or '1'} ORDER BY id DESC"
    return [_decoded(conn, found) for found in conn.execute(sql, list(named.values())).fetchall()]


def _decoded(conn: sqlite3.Connection, found: tuple[Any, ...]) -> StoredCheckpoint:
    run_id, ns, id, parent_id, type_, checkpoint, metadata_type, metadata = found
    writes = [
        CheckpointWrite(task_id, task_path, index, channel, (encoding, value))
        for task_id, task_path, index, channel, encoding, value in conn.execute(_WRITES_OF, (run_id, ns, id))
    ]
    key = CheckpointKey(run_id, ns, id)
    return StoredCheckpoint(key, parent_id, (type_, checkpoint), (metadata_type, metadata), writes)
