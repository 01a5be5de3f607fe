"""Limits the processor time of a piece of work, independently of the host's speed and of its other load."""

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["limit_cpu_time", "slowness"]

_T = TypeVar("_T")
_TRIES = 3
_REFERENCE_S = 0.05
"""Processor time of `_reference` on the reference machine, for which the limits are set."""


def limit_cpu_time(limit_s: float, work: Callable[[], _T]) -> _T:
    """Do `work` and return its last result; it can use `limit_s` seconds of this thread's processor time, scaled by
    `slowness`.

    The shortest of up to three attempts counts, because a shared host adds time to some of them. Use this only for work
    without a cache: a second attempt that finds the first one's result measures nothing.
    """
    taken, limit = [], limit_s
    for _ in range(_TRIES):
        started = time.thread_time()
        result = work()
        taken.append(time.thread_time() - started)
        limit = limit_s if taken[-1] < limit_s else limit_s * slowness()
        if taken[-1] < limit:
            return result
    raise AssertionError(f"{', '.join(f'{each:.2f}' for each in taken)} s of processor time, not below {limit:.2f} s")


def slowness() -> float:
    """Return the time that Python takes now, as a multiple of the time on the reference machine; at least 1."""
    started = time.thread_time()
    _reference()
    return max(1.0, (time.thread_time() - started) / _REFERENCE_S)


def _reference() -> int:
    total = 0
    for number in range(1_000_000):
        total += number * number & 7
    return total
