"""Threads for the work on large bodies, so that other requests are answered meanwhile.

Decoding and validating are single calls into C that keep the interpreter for milliseconds each. Several of them beside
each other would add up for everybody else, so the largest bodies are worked on one after the other.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Final, ParamSpec, TypeVar

__all__ = ["LARGE", "work_on_body"]

LARGE: Final = 16 * 1024
"""Bytes. Longer bodies are decoded and checked in a thread; for shorter ones the change of threads would take longer
than the work."""

_ALONE: Final = 128 * 1024
"""Bytes. Longer bodies are worked on one after the other."""

_alone = ThreadPoolExecutor(max_workers=1, thread_name_prefix="threadhold-bodies")

P = ParamSpec("P")
T = TypeVar("T")


async def work_on_body(size: int, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """Return what `work` does in a thread, for a body of that many bytes."""
    if size <= _ALONE:
        return await asyncio.to_thread(work, *args, **named)
    context = copy_context()
    return await asyncio.get_running_loop().run_in_executor(_alone, lambda: context.run(work, *args, **named))
