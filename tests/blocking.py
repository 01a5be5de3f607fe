"""Nothing blocks the event loop."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from blockbuster import blockbuster_ctx

__all__ = ["unblocked"]


@contextmanager
def unblocked(modules: Sequence[str] | None = None) -> Iterator[None]:
    """Raise where a blocking call is made on an event loop, by these modules or by any."""
    with blockbuster_ctx(modules):
        yield
