"""Tunes the interpreter for a server, after everything is loaded.

A full garbage collection stops everything for 0.3 ms per executing run: 0.3 s at 1,000 runs, which delays every token.
A run that succeeds leaves nothing to collect; one that fails leaves 400 objects.
"""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

__all__ = ["due", "tuned_interpreter"]

_SWITCH_S: Final = 0.00005
_CHECK_S: Final = 1.0

# Counted in collections of young objects, one per 5,000 new objects. Objects that survive such a collection are old.
_IDLE_COLLECTIONS: Final = 20
_BUSY_COLLECTIONS: Final = 200
_AUTOMATIC_COLLECTIONS: Final = 2_000
_FULL: Final = 100
"""Counted in collections of old objects. After so many, objects that survived two collections are examined as well."""


@asynccontextmanager
async def tuned_interpreter(executing: Callable[[], int]) -> AsyncIterator[None]:
    """Exclude all existing objects from garbage collection, and collect old objects when few runs are `executing`.

    A thread releases the interpreter at every SQL statement. With the default switch interval of 5 ms and a busy event
    loop, it waits so long to get the interpreter back that a commit takes several times as long. At the end, the
    interpreter's settings are restored.
    """
    interval_s, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(_SWITCH_S)
    gc.collect()
    gc.freeze()
    # Fifty executing runs are 50,000 objects, none of them garbage. Looking at a tenth at a time keeps pauses short.
    gc.set_threshold(5_000, _AUTOMATIC_COLLECTIONS, _FULL)
    collecting = asyncio.create_task(_collect(executing), name="collector")
    try:
        yield
    finally:
        collecting.cancel()
        with suppress(asyncio.CancelledError):
            await collecting
        gc.set_threshold(*thresholds)
        gc.unfreeze()
        sys.setswitchinterval(interval_s)


async def _collect(executing: Callable[[], int]) -> None:
    while True:
        await asyncio.sleep(_CHECK_S)
        generation = due(gc.get_count(), executing())
        if generation is not None:
            gc.collect(generation)


def due(counts: tuple[int, int, int], executing: int) -> int | None:
    """Return the generation to be collected now, None for none; `counts` are `gc.get_count`'s."""
    _, young, old = counts
    if young < (_BUSY_COLLECTIONS + executing if executing else _IDLE_COLLECTIONS):
        return None
    return 2 if old >= _FULL and not executing else 1
