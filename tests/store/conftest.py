"""Backends under test. A second backend joins the conformance suite with one more parameter of `opener`."""

import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from store.ports import Store
from store.sqlite.store import SqliteStore, open_store
from tests.blocking import no_blocking_calls

Opener = Callable[[], Awaitable[Store]]


@pytest.fixture(autouse=True)
def no_blocking_call_on_the_loop() -> Iterator[None]:
    with no_blocking_calls():
        yield


@pytest.fixture(params=["memory", "file"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Return a function that opens an empty store of each kind."""

    async def opened() -> SqliteStore:
        return await open_store(":memory:" if request.param == "memory" else tmp_path / "store.db")

    return opened


@pytest.fixture
async def store(opener: Opener) -> AsyncIterator[Store]:
    opened = await opener()
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture
def traced() -> Iterator[None]:
    """Trace Python's memory during the test."""
    tracemalloc.start()
    yield
    tracemalloc.stop()
