"""LangGraph's saver, as an adapter of the store's checkpoints.

Invariants: a checkpoint is needed only until its run ends; its thread id is our run id. A run without tools writes
none: a checkpoint without an exchange is not written, and neither are the writes of its tasks.
"""

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

from store.ports import CheckpointKey, Checkpoints, CheckpointWrite, StoredCheckpoint

__all__ = ["StoreSaver", "has_exchange"]

_MAX_SKIPPED: Final = 10_000
"""Checkpoints remembered as not written. If one is forgotten, a stray row is left until its run ends."""


def has_exchange(checkpoint: Checkpoint) -> bool:
    """Return whether the run has an exchange (tool calls, outputs), the only thing worth a checkpoint."""
    return bool(checkpoint["channel_values"].get("exchange"))


class StoreSaver(BaseCheckpointSaver[str]):
    """The saver. Only its async methods are implemented; the synchronous ones raise NotImplementedError."""

    def __init__(self, checkpoints: Checkpoints, *, keeps: Callable[[Checkpoint], bool] = has_exchange) -> None:
        """`keeps` decides which checkpoints are written."""
        super().__init__()
        self._checkpoints = checkpoints
        self._keeps = keeps
        self._skipped: dict[CheckpointKey, None] = {}

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
        key = CheckpointKey(*_place(config), checkpoint["id"])
        if self._keeps(checkpoint):
            state = self.serde.dumps_typed(checkpoint)
            described = self.serde.dumps_typed(get_serializable_checkpoint_metadata(config, metadata))
            self._checkpoints.put(StoredCheckpoint(key, get_checkpoint_id(config), state, described))
        else:
            self._skip(key)
        return _config(key)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Queue a task's writes for a checkpoint that was kept; does not wait for the commit."""
        key = CheckpointKey(*_place(config), str(get_checkpoint_id(config)))
        if key in self._skipped:
            return
        dump = self.serde.dumps_typed
        stored = [
            CheckpointWrite(task_id, task_path, WRITES_IDX_MAP.get(channel, index), channel, dump(value))
            for index, (channel, value) in enumerate(writes)
        ]
        self._checkpoints.put_writes(key, stored)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that `config` names, otherwise the newest; None, without a read, for a `fresh` run."""
        if config["configurable"].get("fresh"):
            return None
        found = await self._checkpoints.get(*_place(config), get_checkpoint_id(config))
        return None if found is None else self._tuple(found)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002  (LangGraph's signature)
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Yield checkpoints, newest first; `filter` compares metadata."""
        given = {} if config is None else config["configurable"]
        found = await self._checkpoints.find(
            run_id=given.get("thread_id"),
            namespace=given.get("checkpoint_ns"),
            id=None if config is None else get_checkpoint_id(config),
            before=get_checkpoint_id(before) if before else None,
        )
        for checkpoint in found:
            if limit is not None and limit <= 0:
                return
            listed = self._tuple(checkpoint)
            metadata = cast(dict[str, Any], listed.metadata)
            if all(metadata.get(key) == value for key, value in (filter or {}).items()):
                limit = None if limit is None else limit - 1
                yield listed

    async def adelete_thread(self, thread_id: str) -> None:
        """Remove a run's checkpoints; returns once they are removed. Raises StoreError."""
        await self._checkpoints.drop(thread_id)

    def _skip(self, key: CheckpointKey) -> None:
        if len(self._skipped) >= _MAX_SKIPPED:
            del self._skipped[next(iter(self._skipped))]
        self._skipped[key] = None

    def _tuple(self, found: StoredCheckpoint) -> CheckpointTuple:
        load, key = self.serde.loads_typed, found.key
        before = CheckpointKey(key.run_id, key.namespace, found.parent_id) if found.parent_id else None
        return CheckpointTuple(
            config=_config(key),
            checkpoint=load(found.state),
            metadata=load(found.metadata),
            parent_config=None if before is None else _config(before),
            pending_writes=[(write.task_id, write.channel, load(write.value)) for write in found.writes],
        )


def _place(config: RunnableConfig) -> tuple[str, str]:
    given = config["configurable"]
    return given["thread_id"], given.get("checkpoint_ns", "")


def _config(key: CheckpointKey) -> RunnableConfig:
    return {"configurable": {"thread_id": key.run_id, "checkpoint_ns": key.namespace, "checkpoint_id": key.id}}
