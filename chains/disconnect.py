"""Notices immediately that a reader has left.

If a reader is cancelled between two chunks, LangChain's nested generators are closed only by the garbage collector, and
a model would continue until then without a reader. The reader's task ends immediately, however, and can be watched.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["on_disconnect"]


@contextmanager
def on_disconnect(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` once: when the block is left or the task that entered it has ended, whichever is first."""
    task = asyncio.current_task()
    done = False

    def once(_: object = None) -> None:
        nonlocal done
        if not done:
            done = True
            act()

    if task is not None:
        task.add_done_callback(once)
    try:
        yield
    finally:
        if task is not None:
            task.remove_done_callback(once)
        once()
