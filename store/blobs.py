"""The bytes of files: the port, and a folder that implements it.

Invariants: memory holds only the current block. A blob that has its name is complete and on disk: it is written to a
temporary file, synced, then renamed. Names are ids of ours, never chosen by clients. A crash leaves at most a temporary
file, or a complete blob that no row refers to; the next start removes both (`sweep`).
"""

import asyncio
import hashlib
import math
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Final

from store.disk import Disk
from store.free_space import Claim, FreeSpace
from store.path_conflicts import find_path_conflict
from store.ports import BlobSize, BlobWriter
from wire.errors import StoreFailed, TooLarge
from wire.ids import new_id

__all__ = ["FolderBlobs", "blob_names", "blob_place", "sync_folder"]

_NAME: Final = re.compile(r"[A-Za-z0-9_-]+(\.text)?")
_BLOCK: Final = 256 * 1024
"""Bytes that a reader or a writer has in memory."""

_DISK: Final = Disk("The disk refused")


class FolderBlobs:
    """See `Blobs`: a folder with up to 256 subfolders, and one for blobs that are being written."""

    def __init__(self, folder: Path, free_space: FreeSpace | None = None) -> None:
        """`free_space` limits blobs on the folder's disk; None: only the disk itself limits them."""
        self._folder = folder
        self._free_space = free_space
        self._aside = folder / "incoming"

    async def open(self) -> None:
        """Create the folder, accessible only to the user of this process. Raises StoreFailed."""

        def make() -> None:
            self._folder = self._folder.expanduser().absolute()  # child processes have other working directories
            if (conflict := find_path_conflict("The folder", self._folder, is_folder=True)) is not None:
                raise StoreFailed(conflict)
            self._aside = self._folder / "incoming"
            self._aside.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._folder.chmod(0o700)

        await _DISK.call(make)

    def create(self, max_bytes: int, too_large: str, *, announced: int = 0) -> BlobWriter:
        claimed = nullcontext() if self._free_space is None else self._free_space.claimed(announced=announced)
        return _FolderBlobWriter(self._aside / new_id("req"), self._path, max_bytes, too_large, claimed)

    async def read(self, name: str) -> AsyncIterator[bytes]:
        file = await _DISK.open(self._path(name).open, "rb")
        try:
            while block := await _DISK.call(file.read, _BLOCK):
                yield block
        finally:
            await asyncio.shield(_DISK.call(file.close))

    async def size(self, name: str) -> int | None:
        path = self._path(name)

        def measure() -> int | None:
            with suppress(FileNotFoundError):
                return path.stat().st_size
            return None

        return await _DISK.call(measure)

    @asynccontextmanager
    async def local_file(self, name: str) -> AsyncIterator[Path]:
        if await self.size(name) is None:
            raise StoreFailed(f"There is no blob '{name}'.")
        yield self._path(name)  # absolute: child processes have other working directories

    async def remove(self, name: str) -> None:
        def unlink() -> None:
            for each in (name, f"{name}.text"):
                self._path(each).unlink(missing_ok=True)

        await _DISK.call(unlink)

    async def sweep(
        self, unknown: Callable[[Sequence[str]], Awaitable[Sequence[str]]], *, min_age_s: float = 0.0
    ) -> int:
        before = time.time() - min_age_s if min_age_s else math.inf
        await _DISK.call(self._empty_aside, before)
        names = await _DISK.call(self._names, before)
        ids = sorted({name.removesuffix(".text") for name in names})
        gone = await unknown(ids)  # once, because it reads all pending uploads
        for id in gone:
            await self.remove(id)
        return len(gone)

    def _path(self, name: str) -> Path:
        return blob_place(self._folder, name)

    def _empty_aside(self, before: float) -> None:
        for left in self._aside.iterdir():  # the folder is kept: a full disk can lack space for a new one
            if _is_older(left, before):
                left.unlink(missing_ok=True)

    def _names(self, before: float) -> list[str]:
        """Return the names of the blobs that were written before that time (Unix seconds)."""
        names = blob_names(self._folder)
        return names if before == math.inf else [name for name in names if _is_older(self._path(name), before)]


def _is_older(path: Path, before: float) -> bool:
    try:
        return path.stat().st_mtime < before
    except FileNotFoundError:  # another process has just removed or renamed it
        return False


class _FolderBlobWriter:
    """See `BlobWriter`."""

    def __init__(
        self,
        aside: Path,
        path: Callable[[str], Path],
        max_bytes: int,
        too_large: str,
        claimed: AbstractAsyncContextManager[Claim | None],
    ) -> None:
        self._claimed = claimed
        self._claim: Claim | None = None
        self._aside = aside
        self._path = path
        self._max_bytes = max_bytes
        self._too_large = too_large
        self._file: IO[bytes] | None = None
        self._hash = hashlib.sha256()
        self._size = 0
        self._blocks: list[bytes] = []
        self._waiting = 0

    async def __aenter__(self) -> "_FolderBlobWriter":
        async with AsyncExitStack() as stack:
            self._claim = await stack.enter_async_context(self._claimed)
            self._file = await _DISK.open(self._aside.open, "xb")
            self._claims = stack.pop_all()
        return self

    async def write(self, block: bytes) -> None:
        self._size += len(block)
        if self._size > self._max_bytes:
            raise TooLarge(self._too_large)
        self._blocks.append(block)
        self._waiting += len(block)
        if self._waiting >= _BLOCK:
            await self._flush()

    async def commit(self, name: str) -> BlobSize:
        await self._flush()
        await _DISK.call(self._seal, self._path(name))
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
        assert self._file is not None, "the blob is entered and not left"
        self._hash.update(data)
        if self._claim is None:
            self._file.write(data)
        else:
            self._claim.write(self._file, data)

    def _seal(self, path: Path) -> None:
        assert self._file is not None, "the blob is entered and not left"
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        path.parent.mkdir(exist_ok=True, mode=0o700)
        self._aside.replace(path)
        # The name must survive a power failure, too, and so must the folder's own name if it is new.
        for folder in (path.parent, path.parent.parent):
            sync_folder(folder)


def blob_place(folder: Path, name: str) -> Path:
    """Return the path of a blob in a folder of `FolderBlobs`. Raises StoreFailed for an invalid name."""
    if not _NAME.fullmatch(name):
        raise StoreFailed(f"'{name}' is not a name of a blob.")
    return folder / hashlib.sha256(name.removesuffix(".text").encode()).hexdigest()[:2] / name


def blob_names(folder: Path) -> list[str]:
    """Return the names of all blobs in a folder of `FolderBlobs`. Blocks."""
    return [path.name for path in folder.glob("??/*") if _NAME.fullmatch(path.name)]


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder to disk. Blocks."""
    try:
        opened = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open folders, and needs no sync of them
        return
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
