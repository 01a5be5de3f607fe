"""An operator's commands on a SQLite file. See `store.ports.Maintenance`, which documents each method."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from store.path_conflicts import find_path_conflict, nearest_existing
from store.ports import Backup, DatabaseStatus, ExcludedCounts, ProgressCallback, Snapshot, ThreadActivity
from store.sqlite.backup import back_up
from store.sqlite.compaction import compact
from store.sqlite.export import count_exported, count_left_out, count_under_way, exported, owners
from store.sqlite.offline import in_use, open_read_only, snapshot
from store.sqlite.thread_activity import thread_activity
from wire.json import JsonView

__all__ = ["SqliteMaintenance"]


class SqliteMaintenance:
    """The commands on one database file."""

    is_exclusive = True

    def __init__(self, database: Path | str) -> None:
        self._path = Path(database).expanduser().absolute()

    @property
    def folder(self) -> Path:
        return self._path.parent

    def in_use(self) -> bool:
        return in_use(self._path)

    def status(self) -> DatabaseStatus:
        path = self._path
        if (conflict := find_path_conflict("The database", path.resolve())) is not None:
            return DatabaseStatus("unusable", conflict)
        if not path.exists():
            folder = nearest_existing(path.parent)
            if not os.access(folder, os.W_OK | os.X_OK):
                return DatabaseStatus("unusable", f"{path} cannot be created: no permission to write in {folder}")
            return DatabaseStatus("new", f"{path} does not exist yet; the first start creates it")
        if not os.access(path, os.R_OK | os.W_OK) or not os.access(path.parent, os.W_OK | os.X_OK):
            return DatabaseStatus("unusable", f"this user has no permission to write {path} or its folder")
        if not path.stat().st_size:
            return DatabaseStatus("new", f"{path} is empty; the first start fills it")
        log = path.with_name(f"{path.name}-wal")
        size = path.stat().st_size + (log.stat().st_size if log.exists() else 0)
        return DatabaseStatus("present", f"{path}, {size / 1e6:.1f} MB")

    @contextmanager
    def snapshot(self, *, any_schema: bool = False, untouched: bool = False) -> Iterator[Snapshot]:
        with open_read_only(self._path, any_schema=any_schema, untouched=untouched) as connection, snapshot(connection):
            yield _Snapshot(connection)

    def back_up(self, files: Path, target: Path, *, on_progress: ProgressCallback) -> Backup:
        return back_up(self._path, files, target, on_progress=on_progress)

    def compact(self) -> int:
        return compact(self._path)


class _Snapshot:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def counts(self) -> tuple[int, int]:
        sql = "SELECT (SELECT COUNT(*) FROM threads), (SELECT COUNT(*) FROM messages)"
        threads, messages = self._connection.execute(sql).fetchone()
        return threads, messages

    def owners(self) -> list[str]:
        return owners(self._connection)

    def thread_activity(self, after: int, limit: int) -> list[ThreadActivity]:
        return thread_activity(self._connection, after, limit)

    def exported(self, owner: str, thread_ids: Sequence[str] = ()) -> Iterator[JsonView]:
        return exported(self._connection, owner, thread_ids)

    def count_exported(self, owner: str) -> int:
        return count_exported(self._connection, owner)

    def count_excluded(self, owner: str, thread_ids: Sequence[str] = ()) -> ExcludedCounts:
        files, vector_stores = count_left_out(self._connection, owner)
        return ExcludedCounts(files, vector_stores, count_under_way(self._connection, owner, thread_ids))
