"""Tunes the interpreter for a server, after everything is loaded.

Objects that refer to each other are freed by the garbage collector only. Most work leaves none, but errors do: an error
refers to the frames that it passed through, whose variables can be long texts. Garbage is therefore collected by time:
its number of objects says nothing about its size.
"""

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

__all__ = ["pause_after", "tuned_interpreter"]

_SWITCH_S: Final = 0.00005
_PAUSE_S: Final = 1.0
"""Minimum time between two full collections."""
_SHARE: Final = 0.01
"""Maximum share of the time that full collections take."""
_YOUNG: Final = 5_000
"""New objects after which the interpreter examines the new objects."""
_NEVER: Final = 1_000_000
"""As a number of collections: the interpreter starts no collection of older objects itself."""


@asynccontextmanager
async def tuned_interpreter() -> AsyncIterator[None]:
    """Exclude all existing objects from garbage collection, and collect all garbage of later objects regularly.

    A full collection stops everything for 0.3 ms per executing run, so the interpreter does not start any by itself. A
    thread releases the interpreter at every SQL statement. With the default switch interval of 5 ms and a busy event
    loop, it waits so long to get the interpreter back that a commit takes several times as long. At the end, the
    interpreter's settings are restored.
    """
    interval_s, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(_SWITCH_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _NEVER, _NEVER)
    collecting = asyncio.create_task(_collect(), name="collector")
    try:
        yield
    finally:
        collecting.cancel()
        with suppress(asyncio.CancelledError):
            await collecting
        gc.set_threshold(*thresholds)
        gc.unfreeze()
        sys.setswitchinterval(interval_s)


async def _collect() -> None:
    pause_s = _PAUSE_S
    while True:
        await asyncio.sleep(pause_s)
        since = time.perf_counter()
        gc.collect()
        pause_s = pause_after(time.perf_counter() - since)


def pause_after(collection_s: float) -> float:
    """Return how long to wait after a full collection that took `collection_s`, in seconds."""
    return max(_PAUSE_S, collection_s / _SHARE)
