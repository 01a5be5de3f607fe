"""Schedules reads of upstreams' responses fairly by owner, so that many streams do not delay other requests.

A block of 64 KB can have hundreds of events, which take milliseconds to decode and to pass on. Without a scheduler, the
event loop would process a block of every stream in each iteration.
"""

from typing import Final

from fairness.loop_scheduler import LoopScheduler
from fairness.per_loop import PerLoop

__all__ = ["block_scheduler", "work_of"]

_WORK: Final = 96
"""Units of work per iteration of the loop; one is a read of one event, or 700 bytes of a larger block: some 50 to 100
microseconds. With fewer, streams that arrive while runs start would wait for seconds."""

_BYTES: Final = 700

_SCHEDULERS: Final = PerLoop(lambda: LoopScheduler(_WORK))


def block_scheduler() -> LoopScheduler:
    """Return the scheduler of the running event loop."""
    return _SCHEDULERS.get()


def work_of(block: bytes) -> int:
    """Return the units of work that decoding a block and passing on its events take."""
    return 1 + len(block) // _BYTES
