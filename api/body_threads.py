"""Processes large bodies in threads, so that the event loop can answer other requests.

Decoding and validation are single calls into C that hold the interpreter for milliseconds each. Running several in
parallel would delay every other request, so the largest bodies are processed one after the other.
"""

from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from fairness.fair_limits import REQUESTS, FairThreads
from telemetry.context import current_owner

__all__ = ["LARGE", "LARGE_AT_ONCE", "is_large", "work_on_body"]

LARGE: Final = 16 * 1024
"""Bytes. Longer bodies are decoded and checked in a thread; for shorter ones, switching threads takes longer than
the work."""

_MAX_CONTAINERS: Final = 16
"""Maximum objects and arrays in a smaller body that is checked directly; each is work for validation and the store."""

_MAX_COMMAS: Final = 256
"""Maximum commas in a smaller body that is checked directly. Texts of that length rarely have more."""

LARGE_AT_ONCE: Final = 4
"""How many requests with large bodies of one owner are processed at once. The store writes in order, so more of them
would delay other owners' writes."""

_SERIAL_BYTES: Final = 128 * 1024
"""Bytes. Longer bodies are processed one after the other."""

_SERIAL_THREAD: Final = FairThreads(1, "bodies")

P = ParamSpec("P")
T = TypeVar("T")


def is_large(body: bytes) -> bool:
    """Return whether an encoded body is checked in a thread, where only a few of each owner run at a time."""
    if len(body) > LARGE or body.count(b"{") + body.count(b"[") > _MAX_CONTAINERS:
        return True
    return body.count(b",") > _MAX_COMMAS


async def work_on_body(size: int, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """Return the result of `work`, called in a thread for a body of `size` bytes when the owner is next."""
    threads = REQUESTS if size <= _SERIAL_BYTES else _SERIAL_THREAD
    return await threads.run(current_owner(), work, *args, **named)
