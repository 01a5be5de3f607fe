"""On whose behalf something is done: the ids that every log line of a request, and of the run that it started, bears.

A task inherits them from whoever starts it, so that a run's lines name the request that it came from.
"""

from collections.abc import Mapping
from contextvars import ContextVar

__all__ = ["act_for", "acting_owner", "bind", "bound"]

_BOUND: ContextVar[Mapping[str, str]] = ContextVar("threadhold_bound")
_OWNER: ContextVar[str] = ContextVar("threadhold_owner")
_NOTHING: Mapping[str, str] = {}


class bind:  # noqa: N801  (used as a function is; a generator would cost four times as much)
    """Let every line that is logged within bear these ids too."""

    __slots__ = ("_ids", "_token")

    def __init__(self, **ids: str) -> None:
        self._ids = ids

    def __enter__(self) -> None:
        self._token = _BOUND.set({**bound(), **self._ids})

    def __exit__(self, *_: object) -> None:
        _BOUND.reset(self._token)


def bound() -> Mapping[str, str]:
    """Return the ids that count here."""
    return _BOUND.get(_NOTHING)


def act_for(owner: str) -> None:
    """Mark this task, and the tasks that it starts, as working for an owner."""
    _OWNER.set(owner)


def acting_owner() -> str:
    """Return the owner that this task works for; empty outside of requests and runs."""
    return _OWNER.get("")
