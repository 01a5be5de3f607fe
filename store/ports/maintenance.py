"""The port of an operator's commands: they read, copy and compact a database, mostly while a server uses it.

Everything here blocks. Nothing here changes the database, except `compact`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from store.ports.files import ThreadActivity
from wire.json import JsonView

__all__ = ["Backup", "DatabaseStatus", "ExcludedCounts", "Maintenance", "ProgressCallback", "Snapshot"]

ProgressCallback = Callable[[str, int, int], None]
"""Called with the progress of some work: its name, the amount done, and the total."""


@dataclass(frozen=True, slots=True)
class DatabaseStatus:
    """Whether a server could open the database. `state` is `new` if the first start creates it; `text` describes it."""

    state: Literal["unusable", "new", "present"]
    text: str


@dataclass(frozen=True, slots=True)
class ExcludedCounts:
    """How much of an owner's data a dump does not contain."""

    files: int
    vector_stores: int
    active_runs: int


@dataclass(frozen=True, slots=True)
class Backup:
    """The contents of a copy. `lost` are the ids of files whose bytes are missing or changed on the server itself."""

    threads: int
    files: int
    bytes: int
    lost: tuple[str, ...] = ()


class Snapshot(Protocol):
    """The database at one moment, whatever a server writes meanwhile."""

    def counts(self) -> tuple[int, int]:
        """Return the numbers of threads and of messages."""
        ...

    def owners(self) -> list[str]:
        """Return the owners who have assistants or threads, sorted."""
        ...

    def thread_activity(self, after: int, limit: int) -> list[ThreadActivity]:
        """Return what `ThreadActivityQueries.threads` returns."""
        ...

    def exported(self, owner: str, thread_ids: Sequence[str] = ()) -> Iterator[JsonView]:
        """Yield assistants, then threads with `messages`, `items` and `runs`, and runs with `steps`; oldest first.

        With `thread_ids`, yield only these threads, in that order, and skip unknown ids. The objects are as the API
        shows them. Active runs and messages in progress are left out.
        """
        ...

    def count_exported(self, owner: str) -> int:
        """Return how many objects `exported` yields without `thread_ids`."""
        ...

    def count_excluded(self, owner: str, thread_ids: Sequence[str] = ()) -> ExcludedCounts:
        """Return how much `exported` leaves out."""
        ...


class Maintenance(Protocol):
    """Each method raises StoreFailed if the database cannot be used."""

    @property
    def folder(self) -> Path | None:
        """The folder on this machine in which the database grows; None if it is elsewhere."""
        ...

    @property
    def is_exclusive(self) -> bool:
        """Whether a command cannot write to the database while it is in use."""
        ...

    def in_use(self) -> bool:
        """Return whether a process, most likely a server, has the database open for writing."""
        ...

    def status(self) -> DatabaseStatus:
        """Examine the database without opening it."""
        ...

    def snapshot(self, *, any_schema: bool = False, untouched: bool = False) -> AbstractContextManager[Snapshot]:
        """Open the database for reading; also translates its errors in the block.

        Args:
            any_schema: Accept what an older version has written, without migrating it.
            untouched: Create nothing next to a database that no process has open; only for short reads.
        """
        ...

    def back_up(self, files: Path, target: Path, *, on_progress: ProgressCallback) -> Backup:
        """Copy the database and the folder of files to a new folder `target`, and compare the copy.

        Raises StoreFailed if `target` exists, if the disk has no space, if the copy is damaged, or if other programs
        copy such a database (the message names them), and OSError.
        """
        ...

    def compact(self) -> int:
        """Give unused space back; return by how many bytes the database is smaller. Raises StoreFailed if a server has
        it open, or the disk has no space; the database is then unchanged."""
        ...
