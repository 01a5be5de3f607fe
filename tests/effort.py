"""How much processor time a piece of work takes, told so that a busy host cannot fail a test of our own thrift."""

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["within"]

_T = TypeVar("_T")
_TRIES = 3


def within(limit_s: float, work: Callable[[], _T]) -> _T:
    """Do `work` and return what it returned last; it may use `limit_s` seconds of this thread's processor time.

    The least of up to three tries counts. What is our own is in every try; what a host that lends its processors to
    others adds, and it has been seen to triple the time of a test on a shared machine, is not. So this is for work that
    remembers nothing: a second try that finds the first one's result tells nothing.
    """
    taken = []
    for _ in range(_TRIES):
        started = time.thread_time()
        result = work()
        taken.append(time.thread_time() - started)
        if taken[-1] < limit_s:
            return result
    raise AssertionError(f"{', '.join(f'{each:.2f}' for each in taken)} s of processor time, not below {limit_s} s")
