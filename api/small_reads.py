"""Connections that send a request in many small pieces are read fairly by owner, so that thousands of them do not
delay others.

A read takes 30 to 50 microseconds, however small it is, and the event loop would read all such connections in each
iteration. The bytes that arrive while a connection waits become one larger read.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from fairness.loop_scheduler import LoopScheduler
from fairness.per_loop import PerLoop

__all__ = ["SmallReads"]

_SMALL: Final = 1024
"""Bytes; larger reads do not wait, because the limits of bodies apply to them."""

_FREE: Final = 16
"""Small reads after a head that do not wait."""

_PER_PASS: Final = 2
"""Small reads in one iteration of the event loop."""

_SCHEDULERS: Final = PerLoop(lambda: LoopScheduler(_PER_PASS))


class SmallReads:
    """The small reads of one connection since its last head.

    While `waits` is true, the connection must not read. `resume` is called when it is scheduled.
    """

    def __init__(self, resume: Callable[[], None]) -> None:
        self._resume: Callable[[], None] | None = resume
        self._count = 0
        self._waiter: asyncio.Future[None] | None = None

    @property
    def waits(self) -> bool:
        """Whether the connection waits."""
        return self._waiter is not None and not self._waiter.done()

    def reset(self) -> None:
        """Note that a head is complete."""
        self._count = 0

    def add(self, size: int, owner: str) -> None:
        """Note a read of `size` bytes. `owner` is the request's, or empty if it is not known yet."""
        if size >= _SMALL or self.waits:
            return
        self._count += 1
        if self._count > _FREE:
            self._waiter = asyncio.get_running_loop().create_future()
            self._waiter.add_done_callback(self._end_wait)
            _SCHEDULERS.get().wake(owner, None, [self._waiter])

    def close(self) -> None:
        """Stop waiting, and drop the reference to the connection."""
        self._resume = None
        if self._waiter is not None:
            self._waiter.cancel()

    def _end_wait(self, waiter: asyncio.Future[None]) -> None:
        if self._resume is not None and not waiter.cancelled():
            self._resume()
