"""Readers of runs whose events are large: few hold events at a time, and every reader gets all of them."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from telemetry.context import set_current_owner
from tests.graphs.harness import WEATHER, Harness, harness
from tests.upstream import Reply, ScriptedUpstream
from wire.events import Event
from wire.runs import RunCreate

LARGE = "x" * 256_000
TOOLS = [
    {**WEATHER, "function": {**WEATHER["function"], "name": f"f{number}", "description": LARGE}} for number in (1, 2)
]


async def ended(here: Harness, tools: Any, owner: str = "default") -> str:
    """Create a run whose events are in the store only."""
    assistant = await here.assistant(tools=tools, owner=owner)
    thread = await here.thread("Hello", owner=owner)
    started = await here.runner.start(owner, thread, RunCreate(assistant_id=assistant))
    async for _ in here.runner.follow(started.run_id, after=-1):
        pass
    await asyncio.sleep(1.2)  # its log has left the memory
    return started.run_id


class Reader:
    """Reads one batch at a time."""

    def __init__(self, here: Harness, run_id: str, owner: str = "default") -> None:
        self.events: list[Event] = []
        self._go = asyncio.Semaphore(0)
        self._batches: AsyncGenerator[list[Event]] = here.runner.follow(run_id, after=-1)  # type: ignore[assignment]
        self.task = asyncio.create_task(self._read(owner))

    async def _read(self, owner: str) -> None:
        set_current_owner(owner)
        async for batch in self._batches:
            self.events += batch
            await self._go.acquire()
        self._go.release()

    def go(self, times: int = 1) -> None:
        for _ in range(times):
            self._go.release()


@pytest.mark.parametrize(("tools", "at_once"), [(TOOLS, 8), ([WEATHER], 20)], ids=["large", "small"])
async def test_one_owner_s_readers_keep_few_large_batches(tools: Any, at_once: int, upstream: ScriptedUpstream) -> None:
    upstream.default = lambda _: Reply("Hi")
    async with harness(upstream) as here, asyncio.timeout(30):
        run_id = await ended(here, tools)
        readers = [Reader(here, run_id) for _ in range(20)]
        await asyncio.sleep(1)
        assert sum(bool(reader.events) for reader in readers) == at_once
        other = Reader(here, run_id, "bob")
        other.go(100)
        await other.task
        for reader in readers:
            reader.go(100)
        await asyncio.gather(*(reader.task for reader in readers))
        assert all(reader.events == other.events for reader in readers)
        assert [event.number for event in other.events] == list(range(len(other.events)))


async def test_a_reader_that_leaves_frees_its_turn(upstream: ScriptedUpstream) -> None:
    upstream.default = lambda _: Reply("Hi")
    async with harness(upstream) as here, asyncio.timeout(30):
        run_id = await ended(here, TOOLS)
        readers = [Reader(here, run_id) for _ in range(12)]
        await asyncio.sleep(1)
        first = [reader for reader in readers if reader.events]
        for reader in first[:4]:
            reader.task.cancel()
        await asyncio.wait([reader.task for reader in first[:4]])
        for reader in first[:4]:
            await reader._batches.aclose()
        await asyncio.sleep(1)
        assert all(reader.events for reader in readers)
        for reader in readers:
            reader.go(100)
        await asyncio.wait([reader.task for reader in readers])
