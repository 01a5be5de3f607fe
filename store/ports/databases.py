"""The ports of a backend: a database that a setting or a path names, and what is in it once it is open."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from store.ports.files import FileQueries, ThreadActivityQueries
from store.ports.health import StoreHealth
from store.ports.keys import KeyAdministration, Keys
from store.ports.maintenance import Maintenance
from store.ports.processes import Processes, Sharing
from store.ports.records import Store
from store.ports.usage import UsageQueries, UsageReport
from store.ports.vectors import Vectors

if TYPE_CHECKING:  # the ports import no implementation
    from store.free_space import Disks, FreeSpace

__all__ = ["Backend", "Database"]


@dataclass(frozen=True, slots=True)
class Backend:
    """Everything that is stored, except the bytes of files."""

    records: Store
    file_queries: FileQueries
    vectors: Vectors
    thread_activity: ThreadActivityQueries
    health: StoreHealth
    keys: Keys
    usage: UsageQueries
    processes: Processes
    free_space: "FreeSpace | None" = None
    """Limits the index of files on the database's disk. None: only the database itself limits it."""


class Database(Protocol):
    """A database that is not open yet; a method opens it."""

    @property
    def name(self) -> str:
        """What messages call the database: its path, or its address without user and password."""
        ...

    @property
    def maintenance(self) -> Maintenance:
        """The operator's commands for this database."""
        ...

    @property
    def keys(self) -> KeyAdministration:
        """The operator's commands for API keys."""
        ...

    @property
    def usage(self) -> UsageReport:
        """The operator's report of usage."""
        ...

    def open(
        self, *, disks: "Disks | None" = None, has_reserve: bool = False, sharing: Sharing | None = None
    ) -> AbstractAsyncContextManager[Backend]:
        """Open the database, and create or migrate it if necessary. Raises StoreFailed.

        Args:
            disks: The disks that this process writes to. If the database is on one, its free space limits the index of
                files.
            has_reserve: Reserve disk space for deletions, where the disk belongs to this machine.
            sharing: How several processes share the database. If it is None, a backend that can lock the database opens
                it for this process only.
        """
        ...
