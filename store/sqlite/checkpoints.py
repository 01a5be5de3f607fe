"""LangGraph's checkpoints, written by the store's writer: only one connection ever writes.

Invariants: a checkpoint is needed only until its run ends. Its thread id is our run id. A run without tools writes
none: a checkpoint that `keeps` rejects is not written, and neither are the writes of its tasks. Nothing here waits for
a commit: commits are made in order, so a checkpoint is on disk before any later commit of its run. If it is lost, the
run's next synced commit is refused, unless it ends the run.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_serializable_checkpoint_metadata,
)

from store.ports import Row
from store.sqlite.changes import drop_checkpoints
from store.sqlite.database import Engine

__all__ = ["Keeps", "SqliteCheckpoints", "has_exchange"]

Keeps = Callable[[Checkpoint], bool]

_MAX_SKIPPED: Final = 10_000
"""Checkpoints remembered as not written. If one is forgotten, a stray row is left until its run ends."""

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
# The writes of a special channel (error, interrupt, resume) replace earlier ones; a task's own result is kept.
_KEEP_WRITE, _REPLACE_WRITE = _PUT_WRITE.format("IGNORE"), _PUT_WRITE.format("REPLACE")
_COLUMNS = "run_id, ns, id, parent_id, type, checkpoint, metadata_type, metadata"
_WRITES_OF = (
    "SELECT task_id, channel, type, value FROM checkpoint_writes "
    "WHERE run_id = ? AND ns = ? AND checkpoint_id = ? ORDER BY task_path, task_id, idx"
)


def has_exchange(checkpoint: Checkpoint) -> bool:
    """Return whether the run has an exchange (tool calls, outputs), the only thing worth a checkpoint."""
    return bool(checkpoint["channel_values"].get("exchange"))


class SqliteCheckpoints(BaseCheckpointSaver[str]):
    """The saver. Only its async methods are implemented; the synchronous ones raise NotImplementedError."""

    def __init__(self, engine: Engine, *, keeps: Keeps = has_exchange) -> None:
        super().__init__()
        self._engine = engine
        self._keeps = keeps
        self._skipped: dict[tuple[str, str, str], None] = {}

    def get_next_version(self, current: str | None, channel: None) -> str:  # noqa: ARG002  (LangGraph's signature)
        """Return the next version: a number as text, padded so that text order is number order."""
        return f"{(int(current) if current else 0) + 1:032}"

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,  # noqa: ARG002  (values are stored whole)
    ) -> RunnableConfig:
        """Queue a checkpoint that `keeps` allows; does not wait for the commit."""
        run_id, ns = _key(config)
        stored = _config(run_id, ns, checkpoint["id"])
        if not self._keeps(checkpoint):
            self._skip((run_id, ns, checkpoint["id"]))
            return stored
        body = self.serde.dumps_typed(checkpoint)
        meta = self.serde.dumps_typed(get_serializable_checkpoint_metadata(config, metadata))
        parent_id = get_checkpoint_id(config)
        values = (run_id, ns, checkpoint["id"], run_id, parent_id, *body, *meta)
        size = len(body[1]) + len(meta[1])

        def put(conn: sqlite3.Connection) -> Row | None:
            conn.execute(_PUT, values)
            if size > _LARGE_BYTES and parent_id is not None:
                conn.execute(_DROP_OLDER, (run_id, ns, parent_id))
                conn.execute(_DROP_OLDER_WRITES, (run_id, ns, parent_id))
            return None

        self._engine.queue([put], touches=frozenset({run_id}), size=size, saves=run_id, renews=True)
        return stored

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Queue a task's writes for a checkpoint that was kept; does not wait for the commit."""
        run_id, ns = _key(config)
        checkpoint_id = str(get_checkpoint_id(config))
        if (run_id, ns, checkpoint_id) in self._skipped:
            return
        kept: list[tuple[Any, ...]] = []
        replaced: list[tuple[Any, ...]] = []
        for index, (channel, value) in enumerate(writes):
            idx = WRITES_IDX_MAP.get(channel, index)
            row = (run_id, ns, checkpoint_id, task_id, idx, run_id, task_path, channel)
            (replaced if idx < 0 else kept).append((*row, *self.serde.dumps_typed(value)))

        def put(conn: sqlite3.Connection) -> Row | None:
            conn.executemany(_KEEP_WRITE, kept)
            conn.executemany(_REPLACE_WRITE, replaced)
            return None

        size = sum(len(row[-1]) for row in (*kept, *replaced))
        self._engine.queue([put], touches=frozenset({run_id}), size=size, saves=run_id)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that `config` names, otherwise the newest; None, without a read, for a `fresh` run."""
        if config["configurable"].get("fresh"):
            return None
        run_id, ns = _key(config)
        await self._engine.pending.wait_for(run_id)
        return await self._engine.read(self._read_one, run_id, ns, get_checkpoint_id(config))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002  (LangGraph's signature)
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Yield checkpoints, newest first; `filter` compares metadata."""
        await self._engine.pending.wait_for_all()
        wanted: dict[str, Any] = {}
        if config is not None:
            given = config["configurable"]
            named = {"run_id": given["thread_id"], "ns": given.get("checkpoint_ns"), "id": get_checkpoint_id(config)}
            wanted = {column: value for column, value in named.items() if value is not None}
        older_than = get_checkpoint_id(before) if before else None
        for found in await self._engine.read(self._read_many, wanted, filter or {}, older_than, limit):
            yield found

    async def adelete_thread(self, thread_id: str) -> None:
        """Remove a run's checkpoints; returns once they are removed. Raises StoreError."""
        gone = frozenset({thread_id})
        await self._engine.queue([drop_checkpoints(thread_id)], touches=gone, ends=gone)

    def _skip(self, key: tuple[str, str, str]) -> None:
        if len(self._skipped) >= _MAX_SKIPPED:
            del self._skipped[next(iter(self._skipped))]
        self._skipped[key] = None

    def _read_one(self, conn: sqlite3.Connection, run_id: str, ns: str, id: str | None) -> CheckpointTuple | None:
        which, values = ("AND id = ?", [run_id, ns, id]) if id else ("ORDER BY id DESC LIMIT 1", [run_id, ns])
        sql = f"SELECT {_COLUMNS} FROM checkpoints WHERE run_id = ? AND ns = ? {which}"
        found = conn.execute(sql, values).fetchone()
        return None if found is None else self._tuple(conn, found)

    def _read_many(
        self,
        conn: sqlite3.Connection,
        wanted: dict[str, Any],
        metadata: dict[str, Any],
        older_than: str | None,
        limit: int | None,
    ) -> list[CheckpointTuple]:
        where = [f"{column} = ?" for column in wanted]
        values = list(wanted.values())
        if older_than is not None:
            where.append("id < ?")
            values.append(older_than)
        sql = f"SELECT {_COLUMNS} FROM checkpoints WHERE {' AND '.join(where) or '1'} ORDER BY id DESC"
        listed: list[CheckpointTuple] = []
        for found in conn.execute(sql, values).fetchall():
            if limit is not None and len(listed) >= limit:
                break
            one = self._tuple(conn, found)
            if all(cast(dict[str, Any], one.metadata).get(key) == value for key, value in metadata.items()):
                listed.append(one)
        return listed

    def _tuple(self, conn: sqlite3.Connection, found: Any) -> CheckpointTuple:
        run_id, ns, id, parent_id, *stored = found
        writes = conn.execute(_WRITES_OF, (run_id, ns, id)).fetchall()
        load = self.serde.loads_typed
        return CheckpointTuple(
            config=_config(run_id, ns, id),
            checkpoint=load((stored[0], stored[1])),
            metadata=load((stored[2], stored[3])),
            parent_config=_config(run_id, ns, parent_id) if parent_id else None,
            pending_writes=[(task_id, channel, load((type_, value))) for task_id, channel, type_, value in writes],
        )


def _key(config: RunnableConfig) -> tuple[str, str]:
    given = config["configurable"]
    return given["thread_id"], given.get("checkpoint_ns", "")


def _config(run_id: str, ns: str, id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": run_id, "checkpoint_ns": ns, "checkpoint_id": id}}
