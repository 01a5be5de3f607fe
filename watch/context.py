"""On whose behalf something is done: the ids that every log line of a request, and of the run that it started, bears.

A task inherits them from whoever starts it, so that a run's lines name the request that it came from.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["bind", "bound"]

_BOUND: ContextVar[Mapping[str, str]] = ContextVar("threadhold_bound")
_NOTHING: Mapping[str, str] = {}


@contextmanager
def bind(**ids: str) -> Iterator[None]:
    """Let every line that is logged within bear these ids too."""
    token = _BOUND.set({**bound(), **ids})
    try:
        yield
    finally:
        _BOUND.reset(token)


def bound() -> Mapping[str, str]:
    """Return the ids that count here."""
    return _BOUND.get(_NOTHING)
