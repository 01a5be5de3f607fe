"""Schedules the reads of upstreams' answers fairly by owner: many streams do not delay other requests.

A block of 64 KB can have hundreds of events, which take milliseconds to decode and to pass on. The event loop would
process a block of each stream in every iteration.
"""

from typing import Final

from fairness.loop_scheduler import LoopScheduler
from fairness.per_loop import PerLoop

__all__ = ["block_scheduler", "work_of"]

_WORK: Final = 32
"""Units of work per iteration of the loop; one is a read of one event, or 2 KB of a larger block: some 100 to 300
microseconds."""

_BYTES: Final = 2048

_SCHEDULERS: Final = PerLoop(lambda: LoopScheduler(_WORK))


def block_scheduler() -> LoopScheduler:
    """Return the scheduler of the running event loop."""
    return _SCHEDULERS.get()


def work_of(block: bytes) -> int:
    """Return the work of decoding a block and of passing its events on."""
    return 1 + len(block) // _BYTES
