"""A limit for the bodies of requests and answers that are in memory at the same time.

Each body has a limit of its own, but as many can come as there are connections. Invariant: all bodies have at most
`MAX_BYTES` together, or eight times the limit of one where that is more, beside one body of each owner. Where there are
several owners, one can have as much as is left for the others. What is beyond is refused with 503 and `Retry-After`.
"""

import math
from typing import Final

from watch.shares import Shares
from wire.errors import Unavailable

__all__ = ["BodyMemory", "Share"]

MAX_BYTES: Final = 256 * 1024 * 1024
_RETRY_S: Final = 5


class BodyMemory:
    """Counts bytes by owner. `max_body_bytes` is the limit of one body; `is_shared` where there are several owners."""

    def __init__(self, max_body_bytes: int, *, is_shared: bool) -> None:
        most = max(MAX_BYTES, 8 * max_body_bytes)
        self._bytes = Shares(most, least=max_body_bytes, portion=1 if is_shared else math.inf)

    def take(self, owner: str, count: int) -> None:
        """Count bytes. Raises Unavailable, and counts nothing then."""
        if not self._bytes.free(owner, count):
            message = f"The server has too many large requests and answers in memory. Try again in {_RETRY_S} s."
            raise Unavailable(message, headers={"Retry-After": str(_RETRY_S)})
        self._bytes.take(owner, count)

    def release(self, owner: str, count: int) -> None:
        """Count bytes no longer."""
        self._bytes.release(owner, count)


class Share:
    """What one request has taken of a BodyMemory."""

    def __init__(self, memory: BodyMemory, owner: str) -> None:
        self._memory = memory
        self._owner = owner
        self._taken = 0

    def take(self, count: int) -> None:
        """Count more bytes of the request. Raises Unavailable."""
        self._memory.take(self._owner, count)
        self._taken += count

    def release(self) -> None:
        """Give all of it back."""
        if self._taken:
            self._memory.release(self._owner, self._taken)
            self._taken = 0
