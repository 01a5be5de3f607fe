"""Keeps disk space free by limiting data that only grows: uploads, extracted text and the file index.

Invariants: no write through a claim leaves less than the reserve, however many writers there are, because space that
others have claimed but not yet written counts as used. Space that a client only announces is never claimed: the client
could send slowly or not at all, and block all other writers.
"""

import shutil
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Final

from fairness.fair_limits import DISK
from store.os_errors import os_failure
from telemetry.context import current_owner
from wire.errors import ReserveReached

__all__ = ["MIN_FREE_BYTES", "RESERVE_BYTES", "Claim", "Disks", "FreeSpace", "free_bytes"]

MIN_FREE_BYTES: Final = 64 * 1024 * 1024
"""Bytes that a batch of the store and its log need in the worst case, with a margin; `/ready` reports if fewer are
free."""

RESERVE_BYTES: Final = MIN_FREE_BYTES + 8 * 1024 * 1024
"""Bytes that uploads and the index leave free: those that `/ready` requires, and space for rows that are still
written."""


class FreeSpace:
    """The disk that contains `folder`; all writers to it share one object."""

    def __init__(self, folder: Path, *, reserve_bytes: int = RESERVE_BYTES) -> None:
        self._folder = folder
        self._reserve_bytes = reserve_bytes
        self._claimed = 0
        self._lock = threading.Lock()

    @asynccontextmanager
    async def claimed(self, size: int = 0, *, announced: int = 0) -> AsyncIterator["Claim"]:
        """Claim `size` bytes for writes in the block, if there is also space for the `announced` bytes.

        Raises ReserveReached, StoreFailed.
        """
        claim = Claim(self)
        try:
            await DISK.run(current_owner(), claim.extend, size, announced)
            yield claim
        finally:
            claim.release()

    async def check(self) -> None:
        """Raise ReserveReached if nothing at all can be claimed, or StoreFailed."""
        async with self.claimed():
            pass

    def claim(self, size: int, announced: int = 0) -> None:
        """Increase the claim; blocks. Raises ReserveReached, also if it would leave no space for `announced` bytes,
        StoreFailed."""
        with self._lock:
            try:
                free = free_bytes(self._folder)
            except OSError as error:
                raise os_failure(f"`{self._folder}` cannot be checked for free space", error) from error
            if free - self._claimed - size - announced < self._reserve_bytes:
                raise ReserveReached(
                    f"The server's disk is nearly full: {_mb(max(0, free - self._claimed))} are free, and "
                    f"{_mb(size + announced)} more would leave less than the {_mb(self._reserve_bytes)} that are "
                    "reserved for deletions and conversations. Nothing was changed. Delete files, or free space on "
                    "that disk, then try again."
                )
            self._claimed += size

    def release(self, size: int) -> None:
        """Reduce the claim by bytes that were written, or that will not be written."""
        with self._lock:
            self._claimed -= size


class Claim:
    """The space that one writer can still use. A thread whose caller was cancelled can use it after its release; what
    it claims then is released immediately."""

    def __init__(self, free_space: FreeSpace) -> None:
        self._free_space = free_space
        self._left = 0
        self._released = False
        self._lock = threading.Lock()

    def extend(self, size: int, announced: int = 0) -> None:
        """Make sure that `size` bytes can be written; see `FreeSpace.claim`."""
        with self._lock:
            if not self._released and (size > self._left or not self._left):
                more = max(0, size - self._left)
                self._free_space.claim(more, announced)
                self._left += more

    def write(self, file: IO[bytes], data: bytes) -> None:
        """Write all of the data if there is space. Raises ReserveReached, StoreFailed, OSError."""
        self.extend(len(data))
        file.write(data)
        with self._lock:  # the disk itself now counts it as used
            written = min(len(data), self._left)
            self._left -= written
        self._free_space.release(written)

    def release(self) -> None:
        """Release what was not written, so that nothing stays claimed."""
        with self._lock:
            self._released = True
            left, self._left = self._left, 0
        self._free_space.release(left)


class Disks:
    """The disks that this process writes data to."""

    def __init__(self) -> None:
        self._folders: list[Path] = []
        self._found: dict[int, FreeSpace] = {}

    @property
    def folders(self) -> Sequence[Path]:
        """The folders of data, one or more on each disk."""
        return self._folders

    def free_space(self, folder: Path) -> FreeSpace:
        """Return the free space for a folder of data, one object for all folders on a disk; blocks. Raises OSError."""
        disk = _nearest(folder).stat().st_dev
        self._folders.append(folder)
        return self._found.setdefault(disk, FreeSpace(folder))


def free_bytes(folder: Path) -> int:
    """Return how many bytes the server can still write there; blocks. Raises OSError."""
    return shutil.disk_usage(_nearest(folder)).free


def _nearest(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent  # created when something is written
    return folder


def _mb(size: int) -> str:
    return f"{-(-size // (1024 * 1024))} MB"
