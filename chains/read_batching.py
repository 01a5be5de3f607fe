"""Decides how often a stream is read: as its tokens arrive while the event loop keeps up, otherwise in batches.

Invariants: an answer's first text never waits; no stream waits while the loop keeps up, however many streams there are;
a stream with large reads is not delayed. Through all layers, one read costs as much as several tokens. When the loop is
late, fewer and larger reads let it catch up.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

__all__ = ["Pace", "ReadPauses"]

_INTERVAL_S: Final = 0.02
"""Interval at which the loop's delay is measured while streams are read."""

_LATE_S: Final = 0.002
"""A loop that runs a timer later than this does not keep up."""

_FACTOR: Final = 10
"""Ratio of a stream's pause to the loop's delay."""

_LONGEST_S: Final = 0.2

_LARGE_BYTES: Final = 16 * 1024
"""A stream with larger reads is already batched."""


class Pace:
    """Counts the streams that are being read, and measures the loop's delay while there are any."""

    def __init__(self) -> None:
        self.streams = 0
        self.late_s = 0.0
        """The delay of the loop's latest timers, in seconds."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def rest_s(self) -> float:
        """A stream's pause before its next read, in seconds."""
        return 0.0 if self.late_s <= _LATE_S else min(_LONGEST_S, self.late_s * _FACTOR)

    def enter(self) -> None:
        """Add a stream."""
        self.streams += 1
        if self._timer is None:
            self._schedule()

    def leave(self) -> None:
        """Remove a stream."""
        self.streams -= 1
        if not self.streams and self._timer is not None:
            self._timer.cancel()
            self._timer, self.late_s = None, 0.0

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + _INTERVAL_S
        self._timer = loop.call_at(due, self._measure, due)

    def _measure(self, due: float) -> None:
        late_s = asyncio.get_running_loop().time() - due
        self.late_s = max(late_s, (self.late_s + late_s) / 2)  # rises immediately, falls gradually
        self._schedule()


class ReadPauses:
    """One stream's pauses between reads. The stream is counted until `close`."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._open = True
        pace.enter()

    def close(self) -> None:
        """Stop counting the stream. Further calls change nothing."""
        if self._open:
            self._open = False
            self._pace.leave()

    async def rest(self, newest_bytes: int, held: Callable[[], AbstractContextManager[None]]) -> None:
        """Wait, within the context that `held` makes, until the next read is due.

        Call this before each read except those of the answer's first text. `newest_bytes` is the size of the latest
        read.
        """
        rest_s = self._pace.rest_s
        if rest_s and newest_bytes <= _LARGE_BYTES:
            with held():
                await asyncio.sleep(rest_s)
