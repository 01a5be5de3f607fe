"""Tunes the interpreter for a server, after everything is loaded.

Objects that refer to each other are freed by the garbage collector only. A full collection examines every object, which
takes 0.3 ms per executing run, and everything else waits. Most work leaves no such garbage, and errors are separated
from what they refer to (`telemetry.tracebacks`), so full collections are rare, unless the memory grows.
"""

import asyncio
import gc
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

__all__ = ["pause_after", "tuned_interpreter"]

_SWITCH_S: Final = 0.00005
_PAUSE_S: Final = 1.0
"""Minimum time between two collections that this module starts."""
_SHARE: Final = 0.01
"""Maximum share of the time that collections take."""
_SHARE_IF_GROWN: Final = 0.2
"""The same while the process has grown by `_MAX_GROWTH` times the growth that makes a collection full.
Otherwise, garbage that appears faster than it is collected would make each pause and each collection longer than the
one before."""
_MAX_GROWTH: Final = 2
_FULL_S: Final = 600.0
"""Time after which the next collection is full, even if the process has not grown."""
_GROWTH_BYTES: Final = 32 * 1024 * 1024
"""Growth of the process, from its smallest size since the last full collection, that makes the next one full."""
_YOUNG: Final = 5_000
"""New objects after which the interpreter examines the new objects."""
_NEVER: Final = 1_000_000
"""As a number of collections: the interpreter starts no collection of older objects itself."""


@asynccontextmanager
async def tuned_interpreter(*, full_s: float = _FULL_S, growth_bytes: int = _GROWTH_BYTES) -> AsyncIterator[None]:
    """Exclude all existing objects from garbage collection, and collect the garbage of later objects regularly.

    About every second, garbage among new objects is collected. All other garbage is collected every `full_s` seconds,
    or when the process has grown by `growth_bytes` from its smallest size since the last full collection (Linux only).

    The switch interval is shortened, because a thread releases the interpreter at every SQL statement. With the default
    of 5 ms and a busy event loop, the thread waits so long for the interpreter that a commit takes several times as
    long. At the end, the interpreter's settings are restored.
    """
    interval_s, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(_SWITCH_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _NEVER, _NEVER)
    collecting = asyncio.create_task(_collect(full_s, growth_bytes), name="collector")
    try:
        yield
    finally:
        collecting.cancel()
        with suppress(asyncio.CancelledError):
            await collecting
        gc.set_threshold(*thresholds)
        gc.unfreeze()
        sys.setswitchinterval(interval_s)


async def _collect(full_s: float, growth_bytes: int) -> None:
    ended, took_s = time.monotonic(), 0.0
    full_at, size = ended + full_s, _resident_bytes()
    while True:
        await asyncio.sleep(_PAUSE_S)
        since, now = time.monotonic(), _resident_bytes()
        size = min(size, now)  # the system can reclaim memory that is not in use
        growth = (now - size) / growth_bytes
        if since < ended + pause_after(took_s, has_grown=growth >= _MAX_GROWTH):
            continue
        is_full = since >= full_at or growth >= 1
        gc.collect(2 if is_full else 1)
        ended = time.monotonic()
        took_s = ended - since
        if is_full:
            full_at, size = ended + full_s, _resident_bytes()


def pause_after(collection_s: float, *, has_grown: bool) -> float:
    """Return how long to wait after a collection that took `collection_s`, in seconds."""
    return max(_PAUSE_S, collection_s / (_SHARE_IF_GROWN if has_grown else _SHARE))


def _resident_bytes() -> int:
    """Return the memory that the process occupies; 0 on systems without `/proc`."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
