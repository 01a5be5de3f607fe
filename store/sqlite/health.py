"""The state of an open SQLite store: see `store.ports.StoreHealth`."""

from store.ports import StoreMetrics
from store.sqlite.database import Engine
from store.sqlite.export import owners

__all__ = ["SqliteHealth"]


class SqliteHealth:
    """See `store.ports.StoreHealth`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def metrics(self) -> StoreMetrics:
        return self._engine.metrics

    @property
    def waiting(self) -> int:
        return self._engine.waiting

    async def probe(self) -> None:
        await self._engine.probe()

    async def owners(self) -> list[str]:
        return await self._engine.read(owners)
