"""The port of checkpoints: the scratch state of unfinished runs, as bytes that only their writer understands.

Invariants: nothing here waits for a commit. Commits are made in order, so a checkpoint is committed before any later
commit of its run. If a checkpoint is lost, the run's next synced commit is refused, unless it ends the run. A run's
checkpoints are removed by `DropCheckpoints`, or with the run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["CheckpointKey", "CheckpointWrite", "Checkpoints", "Encoded", "StoredCheckpoint"]

Encoded = tuple[str, bytes]
"""A value: the name of its encoding, and its bytes."""


@dataclass(frozen=True, slots=True)
class CheckpointKey:
    """Names a checkpoint. `namespace` is empty unless the graph has subgraphs; ids rise as text."""

    run_id: str
    namespace: str
    id: str


@dataclass(frozen=True, slots=True)
class CheckpointWrite:
    """A value that one task of a step wrote to a channel.

    `index` is its position among the task's writes. A negative index belongs to a special channel, whose newest write
    replaces earlier ones; of the others, the first one is kept.
    """

    task_id: str
    task_path: str
    index: int
    channel: str
    value: Encoded


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A checkpoint, its metadata, the id of the checkpoint before it, and the writes of the tasks after it."""

    key: CheckpointKey
    parent_id: str | None
    state: Encoded
    metadata: Encoded
    writes: Sequence[CheckpointWrite] = ()


class Checkpoints(Protocol):
    """Five methods."""

    def put(self, checkpoint: StoredCheckpoint) -> None:
        """Queue a checkpoint, without its writes. It replaces one with the same key."""
        ...

    def put_writes(self, key: CheckpointKey, writes: Sequence[CheckpointWrite]) -> None:
        """Queue writes that belong to a checkpoint."""
        ...

    async def get(self, run_id: str, namespace: str, id: str | None) -> StoredCheckpoint | None:
        """Return the checkpoint with this id, or without one the newest, including what is queued."""
        ...

    async def find(
        self,
        *,
        run_id: str | None = None,
        namespace: str | None = None,
        id: str | None = None,
        before: str | None = None,
    ) -> list[StoredCheckpoint]:
        """Return the checkpoints that match what is given and have an id below `before`, newest first."""
        ...

    async def drop(self, run_id: str) -> None:
        """Remove a run's checkpoints; returns once they are removed. Raises StoreError."""
        ...
