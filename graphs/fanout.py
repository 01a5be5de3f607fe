"""Schedules the readers of runs, so that many readers of one run do not stop the event loop.

A reader that waits gets all events of that time as one batch, so the loop serves more events in fewer iterations.
"""

from typing import Final

from fairness.loop_scheduler import LoopScheduler
from fairness.per_loop import PerLoop

__all__ = ["SOME_EVENTS", "fanout", "work_of"]

_WORK: Final = 16
"""Units of work per iteration of the loop; one is a write to one reader, some 50 to 100 microseconds."""

SOME_EVENTS: Final = 16
"""Events of a batch that take as long as a write."""

_FANOUTS: Final = PerLoop(lambda: LoopScheduler(_WORK))


def fanout() -> LoopScheduler:
    """Return the scheduler of the running event loop. The keys are runs."""
    return _FANOUTS.get()


def work_of(events: int) -> int:
    """Return the work of a batch of so many events."""
    return 1 + events // SOME_EVENTS
