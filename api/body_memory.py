"""Limits the total memory of request bodies and answers.

Each body has its own limit, but as many can arrive as there are connections. Invariant: all bodies together have at
most `MAX_BYTES`, or eight times the limit of one body if that is more, plus one body of each owner. Where there are
several owners, one can use as much as is left free for the others. Excess requests get 503 with `Retry-After`.
"""

import math
from typing import Final

from fairness.fair_limits import FairLimit
from wire.errors import Unavailable

__all__ = ["BodyMemory", "MemoryClaim"]

MAX_BYTES: Final = 256 * 1024 * 1024
_RETRY_S: Final = 5


class BodyMemory:
    """Counts bytes by owner. `max_body_bytes` is the limit of one body. `is_shared`: several owners."""

    def __init__(self, max_body_bytes: int, *, is_shared: bool) -> None:
        maximum = max(MAX_BYTES, 8 * max_body_bytes)
        self._bytes = FairLimit(maximum, minimum=max_body_bytes, portion=1 if is_shared else math.inf)

    def acquire(self, owner: str, count: int) -> None:
        """Count bytes. Raises Unavailable, and counts nothing then."""
        if not self._bytes.is_free(owner, count):
            message = f"The server has too many large requests and answers in memory. Try again in {_RETRY_S} s."
            raise Unavailable(message, headers={"Retry-After": str(_RETRY_S)})
        self._bytes.acquire_nowait(owner, count)

    def release(self, owner: str, count: int) -> None:
        """Stop counting bytes."""
        self._bytes.release(owner, count)


class MemoryClaim:
    """The part of a BodyMemory that one request uses."""

    def __init__(self, memory: BodyMemory, owner: str) -> None:
        self._memory = memory
        self._owner = owner
        self._bytes = 0

    def acquire(self, count: int) -> None:
        """Count more bytes of the request. Raises Unavailable."""
        self._memory.acquire(self._owner, count)
        self._bytes += count

    def release(self) -> None:
        """Release all of it."""
        if self._bytes:
            self._memory.release(self._owner, self._bytes)
            self._bytes = 0
