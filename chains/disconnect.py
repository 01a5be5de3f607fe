"""Noticing that a reader is gone, at once.

LangChain's generators are nested and closed only by the collector when a reader is cancelled between two chunks; a
model that nobody listens to would go on till then. The reader's task, however, ends at once, and that can be watched.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["on_leaving"]


@contextmanager
def on_leaving(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` when the block is left or the task that entered it has ended, whichever is first; once."""
    task = asyncio.current_task()
    done = False

    def once(_: Any = None) -> None:
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
