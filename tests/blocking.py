"""Detects blocking calls on the event loop."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from blockbuster import blockbuster_ctx

__all__ = ["no_blocking_calls"]


@contextmanager
def no_blocking_calls(modules: Sequence[str] | None = None) -> Iterator[None]:
    """Raise when these modules, or any module, make a blocking call on an event loop."""
    with blockbuster_ctx(modules):
        yield
