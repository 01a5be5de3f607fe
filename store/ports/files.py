"""The ports of files and vector stores, and of what expires: lists, counts and last uses that `Store.page` does not
give."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, overload

from store.ports.records import Page, PageQuery
from store.ports.rows import FileRow, Kind, Row, StoreFileRow, StoreRow, UploadRow
from wire.vector_stores import FileCounts

__all__ = [
    "DUE_AT_ONCE",
    "Expiring",
    "FileQueries",
    "FileTotals",
    "ThreadActivity",
    "ThreadActivityQueries",
    "Whole",
    "store_file_id",
]

Whole = Literal["vector_store_id", "batch_id"]
"""The column of the object whose files are counted: a vector store or a batch."""

Expiring = Literal["file", "vector_store", "upload"]
"""Kinds of object that expire."""


def store_file_id(vector_store_id: str, file_id: str) -> str:
    """Return the row id of a vector store file."""
    return f"{vector_store_id}/{file_id}"


@dataclass(frozen=True, slots=True)
class FileTotals:
    """How many files have which status, and their bytes in total."""

    by_status: dict[str, int] = field(default_factory=dict)
    usage_bytes: int = 0

    @property
    def counts(self) -> FileCounts:
        """The wire's `file_counts`."""
        in_progress, completed, failed, cancelled = (
            self.by_status.get(name, 0) for name in ("in_progress", "completed", "failed", "cancelled")
        )
        return FileCounts(
            in_progress=in_progress,
            completed=completed,
            failed=failed,
            cancelled=cancelled,
            total=in_progress + completed + failed + cancelled,
        )


class FileQueries(Protocol):
    """Eight queries of committed data."""

    async def files(self, owner: str, query: PageQuery, *, purpose: str | None = None) -> Page[FileRow]:
        """Return a page of files. Raises InvalidRequest for a cursor that was never in the list."""
        ...

    async def store_files(
        self,
        owner: str,
        query: PageQuery,
        *,
        vector_store_id: str,
        batch_id: str | None = None,
        status: str | None = None,
    ) -> Page[StoreFileRow]:
        """Return a page of a vector store's (and batch's) files; cursors are `store_file_id`s."""
        ...

    async def file_totals(self, whole: Whole, ids: Sequence[str]) -> dict[str, FileTotals]:
        """Count the files of vector stores or batches of the current owner; the result contains every id."""
        ...

    async def waiting(
        self, limit: int, *, besides: Sequence[Row] = (), full: Collection[str] = ()
    ) -> list[StoreFileRow]:
        """Return vector store files that are `in_progress` and that no other live process holds, oldest first, except
        `besides` and those of the owners in `full`. Owners of files in `besides` come after all others."""
        ...

    async def statuses(self, kind: Kind, owner: str, ids: Sequence[str]) -> dict[str, str | None]:
        """Return the status of each of these objects that exists, by id."""
        ...

    async def store_files_of(self, file_id: str) -> list[StoreFileRow]:
        """Return the vector store files of a file."""
        ...

    @overload
    async def due(self, kind: Literal["file"], before: int) -> list[FileRow]: ...
    @overload
    async def due(self, kind: Literal["vector_store"], before: int) -> list[StoreRow]: ...
    @overload
    async def due(self, kind: Literal["upload"], before: int) -> list[UploadRow]: ...
    @overload
    async def due(self, kind: Expiring, before: int) -> Sequence[Row]: ...

    async def due(self, kind: Expiring, before: int) -> Sequence[Row]:
        """Return every owner's files, unexpired vector stores, or pending uploads, with an `expires_at` (Unix s) not
        after `before`: earliest first, at most `DUE_AT_ONCE`."""
        ...

    async def unknown(self, blob_ids: Sequence[str]) -> list[str]:
        """Return the ids that are neither of a file nor of a part of a pending upload, of any owner."""
        ...


DUE_AT_ONCE: Final = 500
"""Maximum expired objects that one query returns: an owner can have any number of them."""


@dataclass(frozen=True, slots=True)
class ThreadActivity:
    """A thread, when it was last used (Unix seconds), and its newest entry at that time. `seq` is its row number."""

    seq: int
    thread_id: str
    owner: str
    used_at: int
    newest_id: str | None


class ThreadActivityQueries(Protocol):
    """When all threads were last used."""

    async def threads(self, *, after: int, limit: int) -> list[ThreadActivity]:
        """Return up to `limit` threads of all owners with a `seq` above `after`, in order."""
        ...
