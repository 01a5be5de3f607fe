"""Connections that send a request in many small pieces are read in turns, so that thousands of them delay no other.

A read takes 30 to 50 microseconds, however small it is, and the event loop would read all such connections in each of
its passes. The bytes that arrive while a connection waits for its turn become one larger read.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from telemetry.loop_turns import LoopTurns
from telemetry.per_loop import PerLoop

__all__ = ["SmallReads"]

_SMALL: Final = 1024
"""Bytes; larger reads do not take turns, because the limits of bodies apply to them."""

_FREE: Final = 16
"""Small reads after a head that take no turns."""

_PER_PASS: Final = 2
"""Small reads in one pass of the event loop."""

_TURNS: Final = PerLoop(lambda: LoopTurns(_PER_PASS))


class SmallReads:
    """The small reads of one connection since its last head.

    While `waits` is true, the connection must not read. `resume` is called when its turn comes.
    """

    def __init__(self, resume: Callable[[], None]) -> None:
        self._resume = resume
        self._count = 0
        self._turn: asyncio.Future[None] | None = None

    @property
    def waits(self) -> bool:
        """Whether the connection waits for its turn."""
        return self._turn is not None and not self._turn.done()

    def reset(self) -> None:
        """Note that a head is complete."""
        self._count = 0

    def add(self, size: int, owner: str) -> None:
        """Note a read of `size` bytes. `owner` is the request's, or empty if it is not known yet."""
        if size >= _SMALL or self.waits:
            return
        self._count += 1
        if self._count > _FREE:
            self._turn = asyncio.get_running_loop().create_future()
            self._turn.add_done_callback(self._end_turn)
            _TURNS.get().wake(owner, None, [self._turn])

    def close(self) -> None:
        """Stop waiting."""
        if self._turn is not None:
            self._turn.cancel()

    def _end_turn(self, turn: asyncio.Future[None]) -> None:
        if not turn.cancelled():
            self._resume()
