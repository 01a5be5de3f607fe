"""Decides how often a stream is read: as its tokens arrive while the event loop keeps up, otherwise in batches.

Invariants: an answer's first text never waits; no stream waits while the loop keeps up, however many streams there are;
a stream with large reads is not delayed. In total, one read costs as much as several tokens. When the loop is
late, fewer and larger reads let it catch up.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

__all__ = ["LoopLag", "ReadPauses"]

_INTERVAL_S: Final = 0.02
"""Interval at which the loop's lag is measured while streams are read."""

_MAX_LAG_S: Final = 0.002
"""A loop that runs a timer later than this does not keep up."""

_PAUSE_RATIO: Final = 10
"""Ratio of a stream's pause to the loop's lag."""

_MAX_PAUSE_S: Final = 0.2

_LARGE_BYTES: Final = 16 * 1024
"""A stream with larger reads is already batched."""


class LoopLag:
    """Counts the streams that are being read, and measures the event loop's lag while there are any."""

    def __init__(self) -> None:
        self.streams = 0
        self.lag_s = 0.0
        """How late the loop's latest timers ran, in seconds."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def pause_s(self) -> float:
        """A stream's pause before its next read, in seconds."""
        return 0.0 if self.lag_s <= _MAX_LAG_S else min(_MAX_PAUSE_S, self.lag_s * _PAUSE_RATIO)

    def add_stream(self) -> None:
        """Add a stream."""
        self.streams += 1
        if self._timer is None:
            self._schedule()

    def remove_stream(self) -> None:
        """Remove a stream."""
        self.streams -= 1
        if not self.streams and self._timer is not None:
            self._timer.cancel()
            self._timer, self.lag_s = None, 0.0

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + _INTERVAL_S
        self._timer = loop.call_at(due, self._measure, due)

    def _measure(self, due: float) -> None:
        lag_s = asyncio.get_running_loop().time() - due
        self.lag_s = max(lag_s, (self.lag_s + lag_s) / 2)  # rises immediately, falls gradually
        self._schedule()


class ReadPauses:
    """One stream's pauses between reads. The stream is counted until `close`."""

    def __init__(self, loop_lag: LoopLag) -> None:
        self._loop_lag = loop_lag
        self._open = True
        loop_lag.add_stream()

    def close(self) -> None:
        """Stop counting the stream. Further calls change nothing."""
        if self._open:
            self._open = False
            self._loop_lag.remove_stream()

    async def wait(self, newest_bytes: int, held: Callable[[], AbstractContextManager[None]]) -> None:
        """Wait, within the context that `held` makes, until the next read is due.

        Call this before each read except those of the answer's first text. `newest_bytes` is the size of the latest
        read.
        """
        pause_s = self._loop_lag.pause_s
        if pause_s and newest_bytes <= _LARGE_BYTES:
            with held():
                await asyncio.sleep(pause_s)
