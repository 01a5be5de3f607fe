"""The port of a store's own state: what its writer did so far, what waits for it, and whether it takes writes."""

from typing import Final, Protocol

from telemetry.metrics import SECONDS, Histogram

__all__ = ["StoreHealth", "StoreMetrics"]

_BATCH: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


class StoreMetrics:
    """Metrics of one store."""

    def __init__(self) -> None:
        self.batch_commits = Histogram(_BATCH)
        """Commits in a batch."""
        self.batch_seconds = Histogram((0.0001, 0.00025, 0.0005, *SECONDS))
        """From the start of a batch until it is committed, and synced if it is durable."""
        self.failed = 0
        """Batches that failed in the database."""
        self.refused = 0
        """Commits that were refused because of their content."""


class StoreHealth(Protocol):
    """The state of an open store."""

    @property
    def metrics(self) -> StoreMetrics:
        """What the writer did so far; counted by its own thread."""
        ...

    @property
    def waiting(self) -> int:
        """How many commits wait for the writer."""
        ...

    async def probe(self) -> None:
        """Commit and sync an empty change. Raises StoreError."""
        ...

    async def owners(self) -> list[str]:
        """Return the owners who have assistants or threads, sorted."""
        ...
