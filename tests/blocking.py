"""Nothing blocks the event loop, but for what the store does there: a glance, and the statements of a quick batch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from blockbuster import blockbuster_ctx

__all__ = ["unblocked"]

_ALLOWED = {"store/engine.py": "glance", "store/transactions.py": "begin"}


@contextmanager
def unblocked(modules: Sequence[str] | None = None) -> Iterator[None]:
    """Raise where a blocking call is made on an event loop, by these modules or by any."""
    with blockbuster_ctx(modules) as watched:
        for name, function in watched.functions.items():
            if name.startswith("sqlite3."):
                for place, allowed in _ALLOWED.items():
                    function.can_block_in(place, allowed)
        yield
