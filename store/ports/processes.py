"""The ports of several processes that share a store: which are alive, what is to be done, and which one does it.

All processes are equal. The one that accepts a run executes it, and holds it meanwhile (`Insert.held`, `Hold`): no
other process works on what a live process holds. A process without a heartbeat for a lease is declared dead. From then
on, the store refuses its commits (LeaseLost), and what it held is free.

The store is authoritative: signals and tails only shorten waits, and losing them loses no data.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from store.ports.records import Topic
from store.ports.rows import Unfinished
from wire.events import Event

__all__ = ["Leadership", "Liveness", "Notifications", "Processes", "RunQueue", "SharedTask", "Sharing", "Tail"]

SharedTask = Literal["blobs", "expiry", "reindexing", "retention"]
"""Work that one process does for all: removing the bytes that no row refers to; ending what has expired; rewriting what
an older version indexed; deleting old threads."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """How several processes share a store, in seconds."""

    lease_s: float = 5.0
    """A process without a heartbeat for so long is dead."""
    beat_s: float = 1.0
    """The time between two heartbeats."""
    poll_s: float = 0.25
    """How often a process asks for what others committed, where the store cannot notify it."""


class Liveness(Protocol):
    """Which processes are alive, and whether one executes a run."""

    @property
    def is_single_process(self) -> bool:
        """Whether no other process can use the store: what this one did not write since it started is a dead one's."""
        ...

    def on_loss(self, stop: Callable[[], Awaitable[None]]) -> None:
        """Call `stop` when this process was declared dead, or must expect it. `stop` ends all work on what is held, and
        returns once it has ended. Then the process registers again, and commits are accepted again."""
        ...

    async def is_progressing(self, run_id: str) -> bool:
        """Return whether a run that is not executed here is executed by another process, or is to be resumed by any:
        then its log can grow."""
        ...


class RunQueue(Protocol):
    """The runs that are to be executed or ended."""

    async def runs(self) -> list[Unfinished]:
        """Return every owner's active runs, except those that wait for the client and those that other live processes
        hold; oldest first. Executing one takes a `Hold`."""
        ...


class Tail(Protocol):
    """The newest events of runs that other processes execute."""

    async def next(self, run_id: str, after: int) -> list[Event]:
        """Wait a moment for events of a run, and return those that follow number `after` without a gap. An empty list
        means that there can be events in the store."""
        ...


class Notifications(Protocol):
    """What other processes have committed. The other half is the change `Notify`."""

    def subscribe(self, topic: Topic, wake: Callable[[], None]) -> None:
        """Call `wake`, on the event loop, after other processes have committed a change of this topic, and possibly
        also without one. The store holds the change."""
        ...


class Leadership(Protocol):
    """Work that only one process does at a time."""

    async def is_leader(self, task: SharedTask) -> bool:
        """Return whether this process leads the task; it takes the lead if no live process has it, and keeps it until
        the process ends or is declared dead. Call this before each piece of work. Raises StoreError."""
        ...


@dataclass(frozen=True, slots=True)
class Processes:
    """The ports of one store."""

    liveness: Liveness
    run_queue: RunQueue
    tail: Tail
    notifications: Notifications
    leadership: Leadership
