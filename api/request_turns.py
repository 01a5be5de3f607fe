"""Owners take turns to start requests, so that one owner's requests, however many, delay those of others only slightly.

A request that needs nothing but the event loop (such as one for an unknown path) waits for no other shared resource.
Without turns, all connections of one owner would start such requests in the same pass of the loop, and every pass that
another request needs would take that long.
"""

from typing import Final

from telemetry.loop_turns import LoopTurns
from telemetry.per_loop import PerLoop

__all__ = ["request_turns"]

_STARTS: Final = 3
"""Requests that start in one pass of the event loop, each of which takes 0.3 to 1 ms there."""

_TURNS: Final = PerLoop(lambda: LoopTurns(_STARTS))


def request_turns() -> LoopTurns:
    """Return the turns of the running event loop."""
    return _TURNS.get()
