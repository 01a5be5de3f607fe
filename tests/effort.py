"""Limits the processor time of a piece of work, independently of other load on the host."""

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["within"]

_T = TypeVar("_T")
_TRIES = 3


def within(limit_s: float, work: Callable[[], _T]) -> _T:
    """Do `work` and return its last result; it may use `limit_s` seconds of this thread's processor time.

    The shortest of up to three attempts counts, because a shared host adds time to some of them. Use this only for work
    without a cache: a second attempt that finds the first one's result measures nothing.
    """
    taken = []
    for _ in range(_TRIES):
        started = time.thread_time()
        result = work()
        taken.append(time.thread_time() - started)
        if taken[-1] < limit_s:
            return result
    raise AssertionError(f"{', '.join(f'{each:.2f}' for each in taken)} s of processor time, not below {limit_s} s")
