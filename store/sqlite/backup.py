"""Backs up everything while the server runs: the database and the bytes of files.

Invariants: the copy is the state of one moment, with the bytes of every file in it. It is read again and compared
before it gets its name, so a copy with its name is complete. It is a folder in the form of `DATA_DIR`: to restore it,
put it there. The source is not changed, and the backup and the server do not wait for each other.
"""

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from store.blobs import blob_names, blob_place, sync_folder
from store.ports import Backup, ProgressCallback
from store.sqlite.offline import open_read_only, snapshot
from wire.errors import StoreFailed

__all__ = ["DATABASE_NAME", "FILES_NAME", "back_up"]

DATABASE_NAME: Final = "threadhold.db"
FILES_NAME: Final = "files"

_PAGES: Final = 2_000  # pages of the database between two reports of progress
_ATTEMPTS: Final = 5


def back_up(database: Path | str, files: Path, target: Path, *, on_progress: ProgressCallback) -> Backup:
    """See `Maintenance.back_up`.

    The copy is made next to `target` under another name. An interrupted backup leaves that folder, and the next one
    removes it.
    """
    target, files = target.expanduser().absolute(), files.expanduser().absolute()
    if target.exists():
        raise StoreFailed(f"`{target}` exists already: name a new folder, such as one with today's date.")
    aside = target.with_name(f"{target.name}.partial")
    with open_read_only(database, any_schema=True) as source:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True, mode=0o700)
        _check_disk_space(aside, source, files)
        known = _copy_snapshot(source, files, aside, on_progress)
    try:
        lost = _verify(aside, known, files, on_progress)
        backup = _described(aside, known, lost)
        _sync(aside)
        aside.rename(target)
        sync_folder(target.parent)
    except sqlite3.Error as error:
        raise StoreFailed(f"The copy `{aside}` cannot be read: {error}.") from error
    return backup


@dataclass(frozen=True, slots=True)
class _Known:
    """The size and hash of a file as recorded in the database."""

    bytes: int
    sha256: str | None


def _copy_snapshot(
    source: sqlite3.Connection, files: Path, aside: Path, on_progress: ProgressCallback
) -> Mapping[str, _Known]:
    """Copy the files, then the database, then files that are new in it; return the files of the database's moment.

    A file that is deleted meanwhile is superfluous or missing. Superfluous ones are removed. If one is missing, the
    database is copied again, in a later state without that file.
    """
    folder = aside / FILES_NAME
    folder.mkdir(mode=0o700)
    _copy_blobs(files, folder, blob_names(files), on_progress)
    known: dict[str, _Known] = {}
    for _ in range(_ATTEMPTS):
        known = _copy_database(source, aside / DATABASE_NAME, on_progress)
        present = set(blob_names(folder))
        missing = [id for id in known if id not in present]
        copied = _copy_blobs(files, folder, missing, on_progress)
        if {id for id in missing if id not in copied} <= _known_files(source).keys():
            break  # files that exist in the database but whose bytes are missing are reported at the end
    for name in blob_names(folder):
        if name.removesuffix(".text") not in known:
            blob_place(folder, name).unlink()
    return known


def _copy_database(source: sqlite3.Connection, copy: Path, on_progress: ProgressCallback) -> dict[str, _Known]:
    os.close(os.open(copy, os.O_RDWR | os.O_CREAT, 0o600))  # it contains secrets
    with closing(sqlite3.connect(copy, isolation_level=None)) as target:
        target.execute("PRAGMA synchronous = OFF")  # the whole copy is synced at the end

        page_bytes = source.execute("PRAGMA page_size").fetchone()[0]

        def report(_: int, left: int, total: int) -> None:
            on_progress("database", (total - left) * page_bytes, total * page_bytes)

        with snapshot(source):
            # The copy continues in the open snapshot; without one, every commit would make it start again.
            source.backup(target, pages=_PAGES, progress=report)
            return _known_files(source)


def _known_files(connection: sqlite3.Connection) -> dict[str, _Known]:
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'files'").fetchone() is None:
        return {}  # from a version without files
    known = {}
    for id, body, private in connection.execute("SELECT id, body, private FROM files ORDER BY seq"):
        known[id] = _Known(orjson.loads(body)["bytes"], orjson.loads(private).get("sha256"))
    return known


def _copy_blobs(files: Path, folder: Path, names: list[str], on_progress: ProgressCallback) -> list[str]:
    """Copy these blobs; returns the names of those that exist."""
    copied = []
    for number, name in enumerate(names, 1):
        path = blob_place(folder, name)
        path.parent.mkdir(exist_ok=True, mode=0o700)
        try:
            shutil.copyfile(blob_place(files, name), path)
        except FileNotFoundError:  # deleted meanwhile
            continue
        path.chmod(0o600)
        copied.append(name)
        on_progress("files", number, len(names))
    return copied


def _verify(aside: Path, known: Mapping[str, _Known], files: Path, on_progress: ProgressCallback) -> tuple[str, ...]:
    """Read the copy again. Returns the files that are missing or damaged in the source, too. Raises StoreFailed."""
    on_progress("checking the database", 0, 1)
    with closing(_reading(aside)) as copy:
        found = [row[0] for row in copy.execute("PRAGMA integrity_check(3)")]
    if found != ["ok"]:
        raise StoreFailed(f"The database is damaged, and so is its copy `{aside}`: {'; '.join(found)}.")
    lost = []
    for number, (id, one) in enumerate(known.items(), 1):
        if not _is_whole(blob_place(aside / FILES_NAME, id), one):
            if _is_whole(blob_place(files, id), one):
                raise StoreFailed(
                    f"The copy of the file '{id}' in `{aside}` differs from the original. The disk may be faulty."
                )
            lost.append(id)
        on_progress("checking files", number, len(known))
    return tuple(lost)


def _is_whole(path: Path, known: _Known) -> bool:
    try:
        with path.open("rb") as file:
            if known.sha256 is None:
                return os.fstat(file.fileno()).st_size == known.bytes
            return hashlib.file_digest(file, "sha256").hexdigest() == known.sha256
    except FileNotFoundError:
        return False


def _described(aside: Path, known: Mapping[str, _Known], lost: tuple[str, ...]) -> Backup:
    with closing(_reading(aside)) as copy:
        threads: int = copy.execute("SELECT COUNT(*) FROM threads").fetchone()[0]
    size = sum(path.stat().st_size for path in aside.rglob("*") if path.is_file())
    return Backup(threads, len(known) - len(lost), size, lost)


def _reading(aside: Path) -> sqlite3.Connection:
    """Open the copy for reading without creating files next to it."""
    return sqlite3.connect(f"{(aside / DATABASE_NAME).as_uri()}?mode=ro&immutable=1", uri=True)


def _check_disk_space(aside: Path, source: sqlite3.Connection, files: Path) -> None:
    pages, size = (source.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    needed = pages * size + sum(_size(blob_place(files, name)) for name in blob_names(files))
    free = shutil.disk_usage(aside).free
    if needed > free:
        aside.rmdir()
        raise StoreFailed(
            f"`{aside.parent}` has {free / 1e6:.0f} MB free, and the copy needs {needed / 1e6:.0f} MB: free space, or "
            "name a folder on another disk."
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # deleted meanwhile
        return 0


def _sync(aside: Path) -> None:
    """Sync the whole copy to disk, contents before names."""
    _each(aside, lambda path: path.is_file(), _sync_file)
    _each(aside, lambda path: path.is_dir(), sync_folder)
    sync_folder(aside)


def _each(folder: Path, which: Callable[[Path], bool], do: Callable[[Path], None]) -> None:
    for path in folder.rglob("*"):
        if which(path):
            do(path)


def _sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
