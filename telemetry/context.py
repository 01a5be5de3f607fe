"""The context of a request: its owner, its stored key, and the ids that each of its log lines carries.

A task inherits them from the task that starts it, so a run's lines name the request that started the run.
"""

from collections.abc import Mapping
from contextvars import ContextVar

__all__ = ["bind", "bound", "current_key", "current_owner", "set_current_key", "set_current_owner"]

_BOUND: ContextVar[Mapping[str, str]] = ContextVar("threadhold_bound")
_OWNER: ContextVar[str] = ContextVar("threadhold_owner")
_KEY: ContextVar[str] = ContextVar("threadhold_key")
_NOTHING: Mapping[str, str] = {}


class bind:  # noqa: N801  (used like a function; a generator would cost four times as much)
    """Add these ids to every line that is logged within the block."""

    __slots__ = ("_ids", "_token")

    def __init__(self, **ids: str) -> None:
        self._ids = ids

    def __enter__(self) -> None:
        self._token = _BOUND.set({**bound(), **self._ids})

    def __exit__(self, *_: object) -> None:
        _BOUND.reset(self._token)


def bound() -> Mapping[str, str]:
    """Return the ids of the current context."""
    return _BOUND.get(_NOTHING)


def set_current_owner(owner: str) -> None:
    """Set the owner that this task, and the tasks that it starts, work for."""
    _OWNER.set(owner)


def current_owner() -> str:
    """Return the owner that this task works for; empty outside of requests and runs."""
    return _OWNER.get("")


def set_current_key(key_id: str) -> None:
    """Set the id of the stored key with which this request was made; empty if it was made without one."""
    _KEY.set(key_id)


def current_key() -> str:
    """Return the id of the stored key with which the current request was made; empty if there is none."""
    return _KEY.get("")
