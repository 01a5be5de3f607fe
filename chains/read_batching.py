"""How often the words of a stream are read: as they come while the event loop keeps up, in batches while it does not.

Laws: the first words of an answer never wait; nothing waits while the loop keeps up, however many streams there are; a
stream that brings much at a time is not held back. A read costs as much as several tokens, on its way through every
layer. When the loop is behind, fewer reads with more in each of them are what lets it catch up.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

__all__ = ["Pace", "ReadPauses"]

_LOOK_S: Final = 0.02
"""How often the loop's delay is measured while streams are read."""

_LATE_S: Final = 0.002
"""A loop that runs a timer so much too late is behind."""

_FACTOR: Final = 10
"""A stream rests so many times as long as the loop is late."""

_LONGEST_S: Final = 0.2

_LARGE_BYTES: Final = 16 * 1024
"""A stream that brings so much at a time is batched already."""


class Pace:
    """Counts the streams that are read, and measures the loop's delay while there are any."""

    def __init__(self) -> None:
        self.streams = 0
        self.late_s = 0.0
        """How late the loop ran its newest timers, in seconds."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def rest_s(self) -> float:
        """How long a stream is to rest before its next read, in seconds."""
        return 0.0 if self.late_s <= _LATE_S else min(_LONGEST_S, self.late_s * _FACTOR)

    def enter(self) -> None:
        """Count a stream more."""
        self.streams += 1
        if self._timer is None:
            self._look_again()

    def leave(self) -> None:
        """Count a stream less."""
        self.streams -= 1
        if not self.streams and self._timer is not None:
            self._timer.cancel()
            self._timer, self.late_s = None, 0.0

    def _look_again(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + _LOOK_S
        self._timer = loop.call_at(due, self._look, due)

    def _look(self, due: float) -> None:
        late_s = asyncio.get_running_loop().time() - due
        self.late_s = max(late_s, (self.late_s + late_s) / 2)  # up at once, down by and by
        self._look_again()


class ReadPauses:
    """One stream's rests between two reads. Counts as a stream until `close`."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._open = True
        pace.enter()

    def close(self) -> None:
        """Be a stream no longer; more than once does nothing."""
        if self._open:
            self._open = False
            self._pace.leave()

    async def rest(self, newest_bytes: int, held: Callable[[], AbstractContextManager[None]]) -> None:
        """Wait until the next read is due, within what `held` makes. Call it before each read but those that the first
        words come with, and say how much the newest read has brought."""
        rest_s = self._pace.rest_s
        if rest_s and newest_bytes <= _LARGE_BYTES:
            with held():
                await asyncio.sleep(rest_s)
