"""Readiness: how often it is checked, with any number of clients."""

import asyncio
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

from api.readiness import Readiness
from store.free_space import Disks


class Slow:
    """A store's health and an upstream that count their checks."""

    def __init__(self) -> None:
        self.probes = 0
        self.go = asyncio.Event()

    async def probe(self) -> None:
        self.probes += 1
        await self.go.wait()

    async def check(self) -> str | None:
        return "it is down"


async def test_concurrent_probes_cause_one_check() -> None:
    slow = Slow()
    deps: Any = SimpleNamespace(embedder=None, health=slow, upstream=slow, disks=Disks())
    readiness = Readiness(deps)
    for _ in range(20):
        asking = asyncio.ensure_future(readiness.checks())
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
    stays = asyncio.ensure_future(readiness.checks())
    await asyncio.sleep(0)
    slow.go.set()
    assert await stays == {"store": None, "disk": None, "upstream": "it is down"}
    assert slow.probes == 1
    assert await readiness.checks() == await stays
    assert slow.probes == 1


async def test_a_check_ends_when_readiness_is_closed() -> None:
    slow = Slow()
    deps: Any = SimpleNamespace(embedder=None, health=slow, upstream=slow, disks=Disks())
    async with aclosing(Readiness(deps)) as readiness:
        asking = asyncio.ensure_future(readiness.checks())
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        assert len(asyncio.all_tasks()) > 1
    assert asyncio.all_tasks() == {asyncio.current_task()}
