"""Bytes of files: the port, and a folder that keeps it.

Laws: nothing is held in memory but the block under way; what has a name is whole and on disk (written aside, synced,
then renamed); a name is an id of ours, never what a client said. A crash leaves at most a piece aside, or a whole blob
that no row speaks of; both go at the next start (`sweep`).
"""

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from pathlib import Path
from typing import IO, Final

from store.disk import Disk
from store.free_space import Claim, Room
from store.ports import BlobSize, Writing
from store.sqlite.failures import find_obstacle
from wire.errors import StoreFailed, TooLarge
from wire.ids import new_id

__all__ = ["FolderBlobs", "blob_names", "blob_place", "sync_folder"]

_NAME: Final = re.compile(r"[A-Za-z0-9_-]+(\.text)?")
_BLOCK: Final = 1024 * 1024  # bytes

_DISK: Final = Disk("The disk refused")


class FolderBlobs:
    """See `Blobs`: a folder with 256 folders in it, and one for what is being written."""

    def __init__(self, folder: Path, room: Room | None = None) -> None:
        """`room` limits blobs on the folder's disk; None: only the disk itself limits them."""
        self._folder = folder
        self._room = room
        self._aside = folder / "incoming"

    async def open(self) -> None:
        """Make the folder, for the owner of the process alone. Raises StoreFailed."""

        def make() -> None:
            self._folder = self._folder.expanduser().absolute()  # readers have working directories of their own
            if (obstacle := find_obstacle("The folder", self._folder, is_folder=True)) is not None:
                raise StoreFailed(obstacle)
            self._aside = self._folder / "incoming"
            self._aside.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._folder.chmod(0o700)

        await _DISK.call(make)

    def writing(self, max_bytes: int, told: str, *, announced: int = 0) -> Writing:
        claimed = nullcontext() if self._room is None else self._room.claimed(announced=announced)
        return _FolderWriting(self._aside / new_id("req"), self._place, max_bytes, told, claimed)

    async def read(self, name: str) -> AsyncIterator[bytes]:
        file = await _DISK.open(self._place(name).open, "rb")
        try:
            while block := await _DISK.call(file.read, _BLOCK):
                yield block
        finally:
            await asyncio.shield(_DISK.call(file.close))

    async def path(self, name: str) -> Path | None:
        place = self._place(name)
        return place if await _DISK.call(place.is_file) else None

    async def remove(self, name: str) -> None:
        def unlink() -> None:
            for each in (name, f"{name}.text"):
                self._place(each).unlink(missing_ok=True)

        await _DISK.call(unlink)

    async def sweep(self, unknown: Callable[[Sequence[str]], Awaitable[Sequence[str]]]) -> int:
        await _DISK.call(self._empty_aside)
        names = await _DISK.call(blob_names, self._folder)
        ids = sorted({name.removesuffix(".text") for name in names})
        gone = await unknown(ids)  # once, because it reads all pending uploads
        for id in gone:
            await self.remove(id)
        return len(gone)

    def _place(self, name: str) -> Path:
        return blob_place(self._folder, name)

    def _empty_aside(self) -> None:
        for left in self._aside.iterdir():  # the folder stays: a full disk can lack space for a new one
            left.unlink()


class _FolderWriting:
    """See `Writing`."""

    def __init__(
        self,
        aside: Path,
        place: Callable[[str], Path],
        max_bytes: int,
        told: str,
        claimed: AbstractAsyncContextManager[Claim | None],
    ) -> None:
        self._claimed = claimed
        self._claim: Claim | None = None
        self._aside = aside
        self._place = place
        self._max_bytes = max_bytes
        self._told = told
        self._file: IO[bytes] | None = None
        self._hash = hashlib.sha256()
        self._size = 0
        self._blocks: list[bytes] = []
        self._waiting = 0

    async def __aenter__(self) -> "_FolderWriting":
        async with AsyncExitStack() as stack:
            self._claim = await stack.enter_async_context(self._claimed)
            self._file = await _DISK.open(self._aside.open, "xb")
            self._claims = stack.pop_all()
        return self

    async def write(self, block: bytes) -> None:
        self._size += len(block)
        if self._size > self._max_bytes:
            raise TooLarge(self._told)
        self._blocks.append(block)
        self._waiting += len(block)
        if self._waiting >= _BLOCK:
            await self._flush()

    async def keep(self, name: str) -> BlobSize:
        await self._flush()
        await _DISK.call(self._seal, self._place(name))
        return BlobSize(self._size, self._hash.hexdigest())

    async def __aexit__(self, *error: object) -> None:
        file = self._file
        if file is not None:
            self._file = None

            def discard() -> None:
                try:
                    file.close()
                finally:
                    self._aside.unlink(missing_ok=True)

            try:
                await asyncio.shield(_DISK.call(discard))
            finally:
                await self._claims.aclose()

    async def _flush(self) -> None:
        blocks, self._blocks, self._waiting = self._blocks, [], 0
        if blocks:
            await _DISK.call(self._write, b"".join(blocks))

    def _write(self, data: bytes) -> None:
        assert self._file is not None, "entered, and not left"
        self._hash.update(data)
        if self._claim is None:
            self._file.write(data)
        else:
            self._claim.write(self._file, data)

    def _seal(self, place: Path) -> None:
        assert self._file is not None, "entered, and not left"
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        place.parent.mkdir(exist_ok=True, mode=0o700)
        self._aside.replace(place)
        # The name, too, has to survive a power cut; so has the folder's own, when it is new.
        for folder in (place.parent, place.parent.parent):
            sync_folder(folder)


def blob_place(folder: Path, name: str) -> Path:
    """Return where in a folder of `FolderBlobs` a blob is. Raises StoreFailed for what is no name of one."""
    if not _NAME.fullmatch(name):
        raise StoreFailed(f"'{name}' is no name of a blob.")
    return folder / hashlib.sha256(name.removesuffix(".text").encode()).hexdigest()[:2] / name


def blob_names(folder: Path) -> list[str]:
    """Return the names of all blobs in a folder of `FolderBlobs`. Blocks."""
    return [path.name for path in folder.glob("??/*") if _NAME.fullmatch(path.name)]


def sync_folder(folder: Path) -> None:
    """Put on disk which names a folder has. Blocks."""
    try:
        opened = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders, and needs no sync of them
        return
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
