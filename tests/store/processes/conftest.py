"""Several processes on one store. Another backend joins these tests with one more parameter of `shared`."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from store.backend import open_backend
from store.ports import Backend, Sharing

LEASE_S = 2.0  # a busy machine can stall a process for a second

Pair = tuple[Backend, Backend]


@dataclass
class SharedStore:
    """One store for as many processes as a test needs."""

    path: Path

    def open(self) -> AbstractAsyncContextManager[Backend]:
        """Open it once more, as another process."""
        return open_backend(self.path, sharing=Sharing(lease_s=LEASE_S, beat_s=0.1, poll_s=0.05))

    def open_alone(self) -> AbstractAsyncContextManager[Backend]:
        """Open it as the only process."""
        return open_backend(self.path)

    async def declare_oldest_dead(self) -> None:
        """Declare the process that was opened first dead, as others do if it has no heartbeat."""

        def work() -> None:
            with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
                connection.execute("DELETE FROM processes WHERE id = (SELECT min(id) FROM processes)")

        await asyncio.to_thread(work)


@pytest.fixture(params=["sqlite"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> SharedStore:
    """A store that processes share."""
    assert request.param == "sqlite"
    return SharedStore(tmp_path / "store.db")


@pytest.fixture
async def pair(shared: SharedStore) -> AsyncIterator[Pair]:
    """Two processes."""
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(shared.open()), await stack.enter_async_context(shared.open())


async def eventually(condition: Callable[[], Awaitable[bool]], limit_s: float = 60.0) -> None:
    """Wait until a condition holds. Raises TimeoutError."""
    async with asyncio.timeout(limit_s):
        while not await condition():
            await asyncio.sleep(0.02)
