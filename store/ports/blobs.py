"""The port of files' bytes."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["BlobSize", "BlobWriter", "Blobs"]


@dataclass(frozen=True, slots=True)
class BlobSize:
    """The size and the hash of a blob."""

    bytes: int
    sha256: str


class BlobWriter(Protocol):
    """A blob that is being written. An async context manager: leaving it without `commit` discards the blob."""

    async def write(self, block: bytes) -> None:
        """Add bytes. Raises TooLarge beyond the limit, StoreFull if the disk has no space for them, StoreFailed."""
        ...

    async def commit(self, name: str) -> BlobSize:
        """Store the blob on disk with this name, replacing an existing one."""
        ...

    async def __aenter__(self) -> "BlobWriter": ...

    async def __aexit__(self, *error: object) -> None: ...


class Blobs(Protocol):
    """Six methods. Names are ids; the extracted text of a file has its id and `.text`."""

    def create(self, max_bytes: int, too_large: str, *, announced: int = 0) -> BlobWriter:
        """Start a blob; `too_large` is the error message if the blob exceeds `max_bytes`. Entering it raises StoreFull
        if the disk has no space for the `announced` bytes."""
        ...

    def read(self, name: str) -> AsyncIterator[bytes]:
        """Yield the bytes in blocks. Raises StoreFailed, at the first block, if there is no such blob."""
        ...

    async def size(self, name: str) -> int | None:
        """Return the number of bytes; None if there is no such blob."""
        ...

    def local_file(self, name: str) -> AbstractAsyncContextManager[Path]:
        """Lend a local file with these bytes until the context ends, for programs that read files. It must only be
        read. Raises StoreFailed if there is no such blob."""
        ...

    async def remove(self, name: str) -> None:
        """Remove a blob and its text; does nothing if there is none."""
        ...

    async def sweep(
        self, unknown: Callable[[Sequence[str]], Awaitable[Sequence[str]]], *, min_age_s: float = 0.0
    ) -> int:
        """Remove what a crash left; `unknown` returns the ids that no row has. Returns the number of removed ids.

        Bytes that were written in the last `min_age_s` seconds are kept. With 0, the caller ensures that none are being
        written.
        """
        ...
