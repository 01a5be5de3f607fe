"""The bridge: results, errors, context and leaving, from threads and from other event loops."""

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress

import pytest

from chains import bridge
from chains.lazy_resource import LazyResource
from wire.errors import Unavailable

asked_by: contextvars.ContextVar[str] = contextvars.ContextVar("asked_by", default="")


async def where() -> tuple[str, str]:
    await asyncio.sleep(0)
    return threading.current_thread().name, asked_by.get()


async def fails() -> None:
    raise LookupError("nothing there")


class Counting:
    """Yield numbers without end; `left` is set when the generator is closed."""

    def __init__(self) -> None:
        self.left = threading.Event()

    async def numbers(self) -> AsyncIterator[int]:
        number = 0
        try:
            while True:
                yield number
                number += 1
                await asyncio.sleep(0)
        finally:
            self.left.set()


async def two() -> AsyncIterator[int]:
    yield 1
    yield 2
    raise LookupError("no third")


def test_the_bridge_works_from_a_thread() -> None:
    asked_by.set("me")
    assert bridge.run(where()) == ("threadhold-bridge", "me")
    with pytest.raises(LookupError):
        bridge.run(fails())
    seen = []
    with pytest.raises(LookupError):
        seen.extend(bridge.iterate(two))
    counting = Counting()
    for number in bridge.iterate(counting.numbers):
        if number == 3:
            break
    assert counting.left.wait(2)


def test_threads_that_use_the_bridge_first_at_the_same_time_share_its_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    new_event_loop = asyncio.new_event_loop

    def slow() -> asyncio.AbstractEventLoop:
        time.sleep(0.05)  # all threads request the loop before the first one has created it
        return new_event_loop()

    monkeypatch.setattr(asyncio, "new_event_loop", slow)
    bridge._started_loop.cache_clear()

    async def loop() -> int:
        return id(asyncio.get_running_loop())

    with ThreadPoolExecutor(4) as threads:
        assert len({used.result() for used in [threads.submit(bridge.run, loop()) for _ in range(4)]}) == 1


async def test_the_bridge_works_from_another_event_loop() -> None:
    asked_by.set("you")
    assert await bridge.join(where()) == ("threadhold-bridge", "you")
    with pytest.raises(LookupError):
        await bridge.join(fails())
    numbers = bridge.follow(two)
    assert [await anext(numbers), await anext(numbers)] == [1, 2]
    with pytest.raises(LookupError):
        await anext(numbers)
    counting = Counting()
    numbers = bridge.follow(counting.numbers)
    async for number in numbers:
        if number == 3:
            break
    await numbers.aclose()  # type: ignore[attr-defined]
    assert await asyncio.to_thread(counting.left.wait, 2)


async def test_a_cancelled_wait_stops_the_work() -> None:
    stopped = threading.Event()

    async def long() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    waiting = asyncio.create_task(bridge.join(long()))
    await asyncio.sleep(0.02)
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    assert await asyncio.to_thread(stopped.wait, 2)


async def test_a_lazy_resource_opens_once_and_retries_failures() -> None:
    life: list[str] = []

    @asynccontextmanager
    async def make() -> AsyncIterator[str]:
        life.append("tried")
        if len(life) == 1:
            raise LookupError("not yet")
        async with asyncio.TaskGroup():
            yield "open"
        life.append("left")

    held = LazyResource(make)
    with pytest.raises(LookupError):
        await held.get()
    assert await asyncio.gather(held.get(), held.get()) == ["open", "open"]
    await asyncio.create_task(held.close())
    await held.close()
    assert life == ["tried", "tried", "left"]
    with pytest.raises(Unavailable):
        await held.get()
