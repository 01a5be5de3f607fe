"""A limit for the request bodies that are in memory at the same time.

Each body has a limit of its own, but as many can come as there are connections. Invariant: the bodies of all requests
have at most `MAX_BYTES` together, or eight times the limit of one where that is more, and those of one owner half of
it where there are several owners; a request beyond is refused with 503 and `Retry-After`.
"""

from collections import Counter
from typing import Final

from wire.errors import Unavailable

__all__ = ["BodyMemory", "Share"]

MAX_BYTES: Final = 256 * 1024 * 1024
_RETRY_S: Final = 5


class BodyMemory:
    """Counts bytes by owner. `max_body_bytes` is the limit of one body; `is_shared` where there are several owners."""

    def __init__(self, max_body_bytes: int, *, is_shared: bool) -> None:
        self._most = max(MAX_BYTES, 8 * max_body_bytes)
        self._per_owner = self._most // 2 if is_shared else self._most
        self._total = 0
        self._owners: Counter[str] = Counter()

    def take(self, owner: str, count: int) -> None:
        """Count bytes that have arrived. Raises Unavailable, and counts nothing then."""
        if self._total + count > self._most or self._owners[owner] + count > self._per_owner:
            message = f"The server has too many large requests in memory. Try again in {_RETRY_S} s."
            raise Unavailable(message, headers={"Retry-After": str(_RETRY_S)})
        self._total += count
        self._owners[owner] += count

    def release(self, owner: str, count: int) -> None:
        """Count bytes no longer."""
        self._total -= count
        self._owners[owner] -= count
        if not self._owners[owner]:
            del self._owners[owner]


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
