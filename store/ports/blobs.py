"""The port of files' bytes."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["BlobSize", "Blobs", "Writing"]


@dataclass(frozen=True, slots=True)
class BlobSize:
    """What was written."""

    bytes: int
    sha256: str


class Writing(Protocol):
    """A blob that is being written. An async context manager: left without `keep`, it is thrown away."""

    async def write(self, block: bytes) -> None:
        """Add bytes. Raises TooLarge beyond the limit, StoreFull if the disk has no space for them, StoreFailed."""
        ...

    async def keep(self, name: str) -> BlobSize:
        """Put it on disk under this name, in place of what had it."""
        ...

    async def __aenter__(self) -> "Writing": ...

    async def __aexit__(self, *error: object) -> None: ...


class Blobs(Protocol):
    """Five doors. Names are ids, or an id and `.text` for what a file says."""

    def writing(self, max_bytes: int, told: str, *, announced: int = 0) -> Writing:
        """Start a blob; `told` is the error message if the blob exceeds `max_bytes`. Entering it raises StoreFull if
        the disk has no space for the `announced` bytes."""
        ...

    def read(self, name: str) -> AsyncIterator[bytes]:
        """Yield the bytes in blocks. Raises StoreFailed, at the first block, when there is no such blob."""
        ...

    async def path(self, name: str) -> Path | None:
        """Return a local file with these bytes, to be read and not to be kept; None when there is no such blob."""
        ...

    async def remove(self, name: str) -> None:
        """Remove a blob and its text; nothing happens where there is none."""
        ...

    async def sweep(self, unknown: Callable[[Sequence[str]], Awaitable[Sequence[str]]]) -> int:
        """Remove what a crash left, before any writing; `unknown` tells which ids no row has. Returns how many."""
        ...
