"""Files that are uploaded in parts: creation, parts, completion, cancellation and expiry.

Invariants: an acknowledged part is on disk until its upload ends. An upload is completed in one commit with the file
that it becomes, so after a crash it is either pending or completed. An upload that has ended has no parts on disk,
after the next start at the latest (`Blobs.sweep`). Every change of an upload holds its lock.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self, cast
from weakref import WeakValueDictionary

from fairness.fair_limits import DISK
from store.ports import (
    DUE_AT_ONCE,
    Blobs,
    BlobSize,
    BlobWriter,
    FileQueries,
    Insert,
    Patch,
    Processes,
    RequireUnchanged,
    Row,
    Store,
    UploadPrivate,
    UploadRow,
)
from store.single_process import single_process
from telemetry.background import restart_on_error
from telemetry.context import current_owner
from wire.byte_limits import ByteLimit
from wire.errors import InvalidRequest, MissingRow, NotFound, Problem, StaleRow, StatusConflict, StoreError, TooLarge
from wire.files import File, FileCreate, FileExpiry, new_file
from wire.ids import new_id
from wire.uploads import (
    MAX_PART_BYTES,
    MAX_PARTS,
    PART_LIMIT,
    Upload,
    UploadComplete,
    UploadCreate,
    UploadPart,
    new_part,
    new_upload,
)

__all__ = ["Uploads"]

logger = logging.getLogger("threadhold.uploads")

_SWEEP_S: Final = 20.0
_MORE_S: Final = 0.05  # pause between two parts of a sweep
_MAX_TIMES: Final = 3
"""The parts of an upload can total this many times its bytes, as a part whose answer was lost is sent again."""

_NOTHING: Final[Mapping[str, object]] = {}
_PENDING = frozenset({"pending"})

_TRIES: Final = 100
"""How often the addition of a part is repeated because other processes add parts to the upload."""


class Uploads:
    """An async context manager: while it is entered, expired uploads are removed. `clock` returns Unix seconds."""

    def __init__(
        self,
        store: Store,
        file_queries: FileQueries,
        blobs: Blobs,
        *,
        max_bytes: int,
        sweep_s: float = _SWEEP_S,
        clock: Callable[[], float] = time.time,
        processes: Processes | None = None,
    ) -> None:
        """`max_bytes` is the maximum size of a file that an upload can become. `processes` are the other processes on
        the store; None: there are none."""
        self._leadership = (processes or single_process(store)).leadership
        self._store = store
        self._file_queries = file_queries
        self._blobs = blobs
        self._max_bytes = max_bytes
        self._sweep_s = sweep_s
        self._clock = clock
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks = asyncio.TaskGroup()
        self._sweeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._sweeping = self._tasks.create_task(restart_on_error(self._sweep))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        await self._tasks.__aexit__(None, None, None)

    async def create(self, owner: str, asked: UploadCreate) -> Upload:
        """Return a new upload. Raises TooLarge, StoreError."""
        if asked.bytes > self._max_bytes:
            raise TooLarge(
                f"`bytes` is {asked.bytes}, which is more than the {self._max_bytes} that MAX_FILE_BYTES allows. Send "
                "a smaller file or raise MAX_FILE_BYTES.",
                param="bytes",
            )
        async with self._blobs.create(self._max_bytes, "", announced=asked.bytes):
            pass  # refuses a file without disk space before its parts are sent
        body = new_upload(asked, id=new_id("upload"), now=self._now())
        lifetime_s = None if asked.expires_after is None else asked.expires_after.seconds
        private: UploadPrivate = {"parts": {}, "mime_type": asked.mime_type, "file_lifetime_s": lifetime_s}
        await self._store.commit([Insert(Row("upload", body["id"], owner, body, private=private))], durable=True)
        return body

    async def add_part(
        self, owner: str, id: str, receive: Callable[[BlobWriter], Awaitable[object]], *, announced: int = 0
    ) -> UploadPart:
        """Return a new part, whose bytes `receive` writes. `announced` is their number, 0 if unknown. The part is on
        disk when this returns.

        Raises NotFound, InvalidRequest if the upload accepts no parts, TooLarge, StoreError.
        """
        await self._pending(owner, id)  # refused before its bytes are received
        part_id = new_id("part")
        async with self._blobs.create(MAX_PART_BYTES, PART_LIMIT.message(), announced=announced) as writer:
            await receive(writer)
            size = await writer.commit(part_id)
        try:
            await self._keep_part(owner, id, part_id, size.bytes)
        except (StoreError, Problem):  # no row refers to the part
            await self._blobs.remove(part_id)
            raise
        return new_part(id=part_id, upload_id=id, now=self._now())

    async def _keep_part(self, owner: str, id: str, part_id: str, size: int) -> None:
        async with self._lock(id):
            for _ in range(_TRIES):
                row = await self._pending(owner, id)
                parts = _with_part(row, part_id, size)
                unchanged = RequireUnchanged("upload", id, owner, "parts", row.private["parts"], is_private=True)
                with suppress(StaleRow):  # another process has added a part meanwhile
                    await self._change(row, private={"parts": parts}, guard=unchanged)
                    return
        raise InvalidRequest(f"Parts keep being added to the upload '{id}'; add the part again.")

    async def complete(self, owner: str, id: str, asked: UploadComplete) -> Upload:
        """Return the completed upload. Repeating the call that completed it returns it again.

        Raises NotFound, InvalidRequest if the parts or the status do not allow it, StoreError.
        """
        of = hashlib.sha256("\n".join(asked.part_ids).encode()).hexdigest()
        async with self._lock(id):
            row = await self._get_or_404(owner, id)
            if row.body["status"] == "completed" and row.private.get("completed_of") == of:
                return row.body
            self._check_pending(row)
            _check_parts(row, asked.part_ids)
            file_id = new_id("file")
            size = await self._assemble(file_id, asked, row.body["bytes"])
            body = self._new_file(row, file_id, size)
            file = Row("file", file_id, owner, body, private={"sha256": size.sha256})
            try:
                completed = await self._change(
                    row, {"status": "completed", "file": body}, {"parts": {}, "completed_of": of}, Insert(file)
                )
            except (StoreError, Problem):
                await self._blobs.remove(file_id)
                raise
        await self._remove(row.private["parts"])
        return completed.body

    async def cancel(self, owner: str, id: str) -> Upload:
        """Return the cancelled upload. Raises NotFound, InvalidRequest, StoreError."""
        async with self._lock(id):
            row = await self._pending(owner, id)
            return (await self._end(row, "cancelled")).body

    # --- states ---------------------------------------------------------------------------------------------------

    async def _get_or_404(self, owner: str, id: str) -> UploadRow:
        row = await self._store.get("upload", id, owner)
        if row is None:
            raise NotFound(MissingRow("upload", id).message, param="upload_id")
        return row

    async def _pending(self, owner: str, id: str) -> UploadRow:
        row = await self._get_or_404(owner, id)
        self._check_pending(row)
        return row

    def _check_pending(self, row: UploadRow) -> None:
        status = row.body["status"]
        if status == "pending" and row.body["expires_at"] <= self._now():
            status = "expired"
        if status != "pending":
            raise _not_pending(row.id, status)

    async def _change(
        self,
        row: UploadRow,
        body: Mapping[str, object] = _NOTHING,
        private: Mapping[str, object] = _NOTHING,
        *also: Insert,
        guard: RequireUnchanged | None = None,
    ) -> UploadRow:
        """Change a pending upload; the change is on disk when this returns. Raises InvalidRequest, StoreError."""
        change = Patch("upload", row.id, row.owner, body, private, only_if=_PENDING)
        try:
            changed = await self._store.commit([*([guard] if guard else []), change, *also], durable=True)
        except StatusConflict as conflict:
            raise _not_pending(row.id, conflict.status) from conflict
        return cast("UploadRow", changed[0])  # the row after the first change, a Patch of an upload

    async def _end(self, row: UploadRow, status: str) -> UploadRow:
        """Remove the parts, then commit the status: on a full disk, this frees space for the commit."""
        await self._remove(row.private["parts"])
        return await self._change(row, {"status": status}, {"parts": {}})

    async def _remove(self, part_ids: Iterable[str]) -> None:
        try:
            for part_id in part_ids:
                await self._blobs.remove(part_id)
        except StoreError as error:  # the next start removes parts that no row refers to
            logger.error("parts of an upload could not be removed: %s", error)

    def _lock(self, id: str) -> asyncio.Lock:
        lock = self._locks.get(id)
        if lock is None:
            lock = self._locks[id] = asyncio.Lock()
        return lock

    def _now(self) -> int:
        return int(self._clock())

    # --- completion -----------------------------------------------------------------------------------------------

    async def _assemble(self, file_id: str, asked: UploadComplete, announced: int) -> BlobSize:
        """Write the parts, in order, as the bytes of a file. Raises InvalidRequest if the MD5 differs, StoreError."""
        md5 = hashlib.md5(usedforsecurity=False)
        limit = ByteLimit("The upload", self._max_bytes, "MAX_FILE_BYTES", "send a smaller file")
        async with self._blobs.create(limit.maximum, limit.message(announced), announced=announced) as writer:
            for part_id in asked.part_ids:
                if await self._blobs.size(part_id) is None:
                    raise InvalidRequest(f"The bytes of the part '{part_id}' are gone. Start a new upload.")
                async for block in self._blobs.read(part_id):
                    if asked.md5 is not None:
                        await DISK.run(current_owner(), md5.update, block)
                    await writer.write(block)
            if asked.md5 is not None and asked.md5.strip().lower() != md5.hexdigest():
                raise InvalidRequest(
                    f"The MD5 of the parts is {md5.hexdigest()}, but `md5` is '{asked.md5[:64]}'. "
                    "Check the parts and their order.",
                    param="md5",
                    code="invalid_value",
                )
            return await writer.commit(file_id)

    def _new_file(self, row: UploadRow, file_id: str, size: BlobSize) -> File:
        lifetime_s = row.private["file_lifetime_s"]
        expiry = None if lifetime_s is None else FileExpiry(anchor="created_at", seconds=lifetime_s)
        asked = FileCreate(purpose=row.body["purpose"], expires_after=expiry)
        return new_file(asked, id=file_id, filename=row.body["filename"], size=size.bytes, now=self._now())

    # --- expiry ---------------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        """Expire uploads whose `expires_at` has passed, until cancelled."""
        while True:
            more = False
            try:
                if await self._leadership.is_leader("expiry"):
                    due = await self._file_queries.due("upload", self._now())
                    for row in due:
                        await self._expire(row)
                    more = len(due) == DUE_AT_ONCE
            except StoreError as error:
                logger.error("expired uploads could not be removed, next try in %g s: %s", self._sweep_s, error)
            await asyncio.sleep(_MORE_S if more else self._sweep_s)

    async def _expire(self, found: UploadRow) -> None:
        async with self._lock(found.id):
            row = await self._store.get("upload", found.id, found.owner)
            if row is not None and row.body["status"] == "pending":  # it can have ended since it was found
                with suppress(InvalidRequest):  # another process ends it
                    await self._end(row, "expired")


def _with_part(row: UploadRow, part_id: str, size: int) -> dict[str, int]:
    """Return the upload's parts with one more. Raises InvalidRequest if that exceeds a limit."""
    parts = row.private["parts"]
    whole = row.body["bytes"]
    if size > whole:
        raise InvalidRequest(
            f"The part has {size} bytes, but the whole upload has only {whole}. Send a smaller part.", param="data"
        )
    if (total := sum(parts.values()) + size) > _MAX_TIMES * whole:
        raise InvalidRequest(
            f"The parts have {total} bytes in total, which is more than {_MAX_TIMES} times the {whole} bytes of the "
            "upload. Start another one."
        )
    if len(parts) >= MAX_PARTS:
        raise InvalidRequest(
            f"The upload has {len(parts)} parts, and at most {MAX_PARTS} are allowed. Start another with larger parts."
        )
    return {**parts, part_id: size}


def _check_parts(row: UploadRow, part_ids: Sequence[str]) -> None:
    """Raise InvalidRequest unless these are parts of the upload, each named once, and total its bytes."""
    parts = row.private["parts"]
    for part_id in part_ids:
        if part_id not in parts:
            raise InvalidRequest(f"The upload '{row.id}' has no part '{part_id}'.", param="part_ids")
    if len(set(part_ids)) < len(part_ids):
        raise InvalidRequest("`part_ids` names a part more than once. Name each part once.", param="part_ids")
    size = sum(parts[part_id] for part_id in part_ids)
    if size != row.body["bytes"]:
        raise InvalidRequest(
            f"The parts in `part_ids` have {size} bytes in total, but `bytes` of the upload is {row.body['bytes']}. "
            "Name all parts, or start a new upload with the right `bytes`.",
            param="part_ids",
        )


def _not_pending(id: str, status: str) -> InvalidRequest:
    return InvalidRequest(f"The upload '{id}' is {status}; only a pending one can be changed. Start a new one.")
