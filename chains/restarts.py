"""Schedules restarts of an engine that ended: immediate the first time, then with a growing delay."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Restarts"]

_FIRST_S: Final = 1.0
_MAX_DELAY_S: Final = 30.0
_STABLE_S: Final = 60.0
"""An engine that ran at least this long does not continue a series of ends."""

_log = logging.getLogger("threadhold.engine")


class Restarts:
    """Counts successive ends, by model. `clock` returns monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._series: dict[str, tuple[int, float]] = {}

    def count(self, name: str, started_at: float) -> None:
        """Count an engine of this model as ended."""
        now = self._clock()
        before = self._series.get(name, (0, 0.0))[0] if now - started_at < _STABLE_S else 0
        self._series[name] = (before + 1, now)

    def delay_s(self, name: str) -> float:
        """Return how long the model's next start must still wait."""
        ends, at = self._series.get(name, (0, 0.0))
        if ends < 2:
            return 0.0
        return max(0.0, at + min(_MAX_DELAY_S, _FIRST_S * 2.0 ** min(ends - 2, 10)) - self._clock())

    async def wait(self, name: str) -> None:
        """Wait until an engine of this model is allowed to start."""
        if delay_s := self.delay_s(name):
            _log.warning("%s ended %d times in a row; it starts in %.0f s", name, self._series[name][0], delay_s)
            await asyncio.sleep(delay_s)
