"""Progress bars on stderr, if it is a terminal."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the store takes long to import
    from store.ports import ProgressCallback

__all__ = ["progress", "waiting"]

_TICK_S = 0.5


@contextmanager
def progress() -> "Iterator[ProgressCallback]":
    """Yield the function that reports progress: `watch(what, done, total)`. A new `what` starts a new bar."""
    from tqdm import tqdm

    bar: Any = None  # a tqdm, which has no types
    shown = ""

    def on_progress(what: str, done: int, total: int) -> None:
        nonlocal bar, shown
        if bar is None or shown != what:
            shown = what
            if bar is not None:
                bar.close()
            # `disable=None` makes tqdm write to a terminal only
            bar = tqdm(desc=what, total=total, unit="", unit_scale=True, file=sys.stderr, disable=None, leave=False)
        bar.total = total
        bar.update(done - bar.n)

    try:
        yield on_progress
    finally:
        if bar is not None:
            bar.close()


@asynccontextmanager
async def waiting(what: str) -> AsyncIterator[None]:
    """Show the elapsed time of work whose progress is unknown."""
    from tqdm import tqdm

    bar = tqdm(desc=what, bar_format="{desc}: {elapsed}", file=sys.stderr, disable=None, leave=False)

    async def tick() -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            bar.refresh()

    ticking = asyncio.create_task(tick())
    try:
        yield
    finally:
        ticking.cancel()
        bar.close()
