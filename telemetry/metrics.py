"""Metrics: plain numbers that a package counts and `api/metrics.py` reads. No locks, no library.

Invariants: only one thread updates a metric. Others can read it at any time and are at most one event behind. Labels
come from closed sets, never from ids or client input, so the number of series is bounded.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from typing import Final

__all__ = ["SECONDS", "Clock", "Counts", "Histogram"]

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Bucket bounds for durations between a millisecond and some minutes."""

Counts = Counter[tuple[str, ...]]
"""Counts by label values."""

Clock = Callable[[], float]
"""Monotonic seconds."""


class Histogram:
    """Counts values by size. `bounds` are in ascending order and inclusive."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """The number of values up to each bound and above the previous one; the last is of those above all bounds."""
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
