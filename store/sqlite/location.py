"""A SQLite file as a database that can be opened. See `store.ports.Database`, which documents each method.

Invariant: the modules of this package, which take a while to import, are imported only when the file is used.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from store.free_space import Disks
from store.ports import Backend, KeyAdministration, Maintenance, Sharing, UsageReport
from store.single_process import single_process
from wire.errors import InvalidSetting

__all__ = ["SqliteFile"]


class SqliteFile:
    """The file at a path; `":memory:"` is discarded when it is closed."""

    def __init__(self, path: str | Path) -> None:
        self._path = path

    @classmethod
    def at_url(cls, url: str) -> "SqliteFile":
        """Return the file that `sqlite:///path` names. Raises InvalidSetting."""
        path = url.removeprefix("sqlite://").removeprefix("/")
        if not path:
            raise InvalidSetting("DATABASE_URL names no file. Write sqlite:///path/to/file.db.")
        return cls(path)

    @property
    def name(self) -> str:
        return str(self._path)

    @property
    def maintenance(self) -> Maintenance:
        from store.sqlite.maintenance import SqliteMaintenance

        return SqliteMaintenance(self._path)

    @property
    def keys(self) -> KeyAdministration:
        from store.sqlite.keys import SqliteKeyAdministration

        return SqliteKeyAdministration(Path(self._path).expanduser().resolve())

    @property
    def usage(self) -> UsageReport:
        from store.sqlite.usage import SqliteUsageReport

        return SqliteUsageReport(Path(self._path).expanduser().resolve())

    @asynccontextmanager
    async def open(
        self, *, disks: Disks | None = None, has_reserve: bool = False, sharing: Sharing | None = None
    ) -> AsyncIterator[Backend]:
        from store.sqlite.disk_reserve import DISK_RESERVE_BYTES
        from store.sqlite.health import SqliteHealth
        from store.sqlite.keys import SqliteKeys
        from store.sqlite.processes import SharedFile
        from store.sqlite.store import open_store
        from store.sqlite.thread_activity import SqliteThreadActivity
        from store.sqlite.usage import SqliteUsage

        free_space = None if disks is None else disks.free_space(Path(self._path).parent)
        async with AsyncExitStack() as stack:
            store = await open_store(
                self._path,
                reserve_bytes=DISK_RESERVE_BYTES if has_reserve else 0,
                free_space=free_space,
                is_shared=sharing is not None,
            )
            stack.push_async_callback(store.close)
            processes = single_process(store)
            if sharing is not None:
                processes = (await stack.enter_async_context(SharedFile(store.engine, sharing))).ports
            yield Backend(
                records=store,
                file_queries=store.file_queries,
                vectors=store.vectors,
                thread_activity=SqliteThreadActivity(store.engine),
                health=SqliteHealth(store.engine),
                keys=SqliteKeys(store.engine),
                usage=SqliteUsage(store.engine),
                processes=processes,
                free_space=free_space,
            )
