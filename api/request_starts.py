"""Schedules the starts of requests fairly by owner, so that one owner's requests, however many, delay those of others
only slightly.

A request that needs nothing but the event loop (such as one for an unknown path) waits for no other shared resource.
Without a scheduler, all connections of one owner would start such requests in the same iteration of the loop, and
other requests would wait that long in each iteration.
"""

from typing import Final

from fairness.loop_scheduler import LoopScheduler
from fairness.per_loop import PerLoop

__all__ = ["request_scheduler"]

_STARTS: Final = 3
"""Requests that start in one iteration of the event loop, each of which takes 0.3 to 1 ms there."""

_SCHEDULERS: Final = PerLoop(lambda: LoopScheduler(_STARTS))


def request_scheduler() -> LoopScheduler:
    """Return the scheduler of the running event loop."""
    return _SCHEDULERS.get()
