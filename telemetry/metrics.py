"""Metrics: plain numbers that a room counts up and `api/metrics.py` reads. No lock, no library.

Law: each figure is counted by one thread only; another may read it at any moment, and is at most one event behind.
Labels are from closed sets, never ids or what a client wrote, so that metrics do not grow.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from typing import Final

__all__ = ["SECONDS", "Clock", "Counts", "Histogram"]

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Bounds for whatever takes between a millisecond and some minutes."""

Counts = Counter[tuple[str, ...]]
"""How often, by labels."""

Clock = Callable[[], float]
"""Monotonic seconds."""


class Histogram:
    """How many values were how large; `bounds` rise, and each belongs to the values up to it."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Values up to each bound and above the one before it; the last: above all of them."""
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count a value in."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
