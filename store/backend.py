"""The one place that chooses a backend for what a database setting names; everything is behind the ports."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from store.free_space import FreeSpace
from store.ports import Library, Maintenance, Processes, Store, StoreHealth, ThreadAges, Vectors
from store.single_process import single_process
from store.sqlite.disk_reserve import DISK_RESERVE_BYTES
from store.sqlite.health import SqliteHealth
from store.sqlite.maintenance import SqliteMaintenance
from store.sqlite.processes import SharedFile, Sharing
from store.sqlite.store import open_store
from store.sqlite.thread_ages import SqliteAges

__all__ = ["Backend", "Sharing", "maintenance_of", "open_backend"]


@dataclass(frozen=True, slots=True)
class Backend:
    """Everything that is remembered, except the bytes of files."""

    records: Store
    files: Library
    vectors: Vectors
    ages: ThreadAges
    health: StoreHealth
    processes: Processes


@asynccontextmanager
async def open_backend(
    database: str | Path,
    *,
    free_space: FreeSpace | None = None,
    has_reserve: bool = False,
    sharing: Sharing | None = None,
) -> AsyncIterator[Backend]:
    """Open the store that `database` names: a file, created if necessary, or `":memory:"`.

    `free_space` limits the index of files on the database's disk. With `has_reserve`, disk space is reserved for
    deletions. By default, no other process can open the file. With `sharing`, those can that share it, too; it is meant
    for tests. Raises StoreFailed.
    """
    async with AsyncExitStack() as stack:
        reserve_bytes = DISK_RESERVE_BYTES if has_reserve else 0
        store = await open_store(
            database, reserve_bytes=reserve_bytes, free_space=free_space, is_shared=sharing is not None
        )
        stack.push_async_callback(store.close)
        processes = single_process(store)
        if sharing is not None:
            processes = (await stack.enter_async_context(SharedFile(store.engine, sharing))).ports
        yield Backend(
            records=store,
            files=store.library,
            vectors=store.vectors,
            ages=SqliteAges(store.engine),
            health=SqliteHealth(store.engine),
            processes=processes,
        )


def maintenance_of(database: str | Path) -> Maintenance:
    """Return the operator's commands for what `database` names. Opens nothing."""
    return SqliteMaintenance(database)
