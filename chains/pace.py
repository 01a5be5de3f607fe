"""How often the words of a stream are taken up: the more streams, the less often each.

Laws: the first words of an answer never wait; few streams are never held back; a stream that is slower than the pace
is read as it comes. A read costs as much as several tokens, each on its way through every layer: fifty streams whose
tokens come alone would keep a processor half busy, and those who have yet to see their first word wait behind that.
"""

import asyncio
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

__all__ = ["FREE", "Pace", "Rests"]

FREE: Final = 8
"""So many streams are read as they come."""

_A_STREAM_S: Final = 0.002
_MOST_S: Final = 0.1
"""From one read to the next, at most, where the event loop keeps up: an eye that reads ten words a second sees hardly a
step in ten."""

_BEHIND_S: Final = 0.002
"""A loop that wakes a rest so much too late has more to do than it comes to."""

_LONGER_S: Final = 0.02
_LONGEST_S: Final = 0.2
"""Then the rest is longer, by so much at a time, until so long after the last read: what came meanwhile is one read's
work, and those who have yet to see their first word are served before. Measured: fifty clients' p99 27 -> 17 ms."""

_LARGE_BYTES: Final = 16 * 1024
"""What brings so much at a time, as fifty tokens have, comes together anyhow."""

_TICK_S: Final = 0.01
"""Rests end at multiples of this, so that several end together: waking up costs as well."""

_SHORT_S: Final = 0.001  # the loop's clock has no finer steps


class Pace:
    """Counts the streams that are read, and says how often."""

    def __init__(self) -> None:
        self.streams = 0

    @property
    def interval_s(self) -> float:
        """The time from one read of a stream to its next, in seconds."""
        return 0.0 if self.streams <= FREE else min(_MOST_S, self.streams * _A_STREAM_S)


class Rests:
    """One stream's rests between two reads. Counts as a stream until `close`."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self._began_at = 0.0  # the newest wait for a read
        self._open = True
        pace.streams += 1

    def close(self) -> None:
        """Be a stream no longer; more than once does nothing."""
        self._pace.streams -= self._open
        self._open = False

    async def rest(self, newest_bytes: int, held: Callable[[], AbstractContextManager[None]]) -> None:
        """Wait until the next read is due, within what `held` makes. Call it before each read but those that the first
        words come with, and say how much the newest read has brought."""
        interval_s = self._pace.interval_s
        if not interval_s or newest_bytes > _LARGE_BYTES:
            return
        now = self._loop.time()
        due = _tick(self._began_at + interval_s)
        longest, self._began_at = self._began_at + _LONGEST_S, now
        if due - now <= _SHORT_S:
            return
        with held():
            while due - now > _SHORT_S:
                await asyncio.sleep(due - now)
                now = self._began_at = self._loop.time()
                if now - due > _BEHIND_S and now < longest:
                    due = _tick(now + _LONGER_S)


def _tick(moment: float) -> float:
    return math.ceil(moment / _TICK_S) * _TICK_S
