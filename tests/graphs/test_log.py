"""Readers of a live log get every number from any start, then follow live up to the end."""

import asyncio

import pytest

from graphs.execution import _follow_live
from graphs.log import BLOCK, RunLog
from wire.errors import Unavailable


def publish(log: RunLog, *names: str) -> None:
    log.publish(log.number([(name, b"{}") for name in names]))


async def read(log: RunLog, after: int) -> list[int]:
    seen: list[int] = []
    while True:
        batch = log.since(after)
        if batch:
            after = batch[-1].number
            seen += [event.number for event in batch]
        elif log.closed:
            return seen
        else:
            await log.wait_for_events(after)


@pytest.mark.parametrize("first", [0, 17])
@pytest.mark.parametrize("after", range(-1, 6))
async def test_a_reader_gets_all_later_numbers_and_follows_live(first: int, after: int) -> None:
    log = RunLog(first)
    publish(log, "a", "b", "c")
    reader = asyncio.ensure_future(read(log, first + after))
    await asyncio.sleep(0)
    publish(log, "d", "e")
    await asyncio.sleep(0)
    publish(log, "f")
    log.close()
    assert await reader == list(range(first + after + 1, first + 6))


async def test_a_batch_of_large_events_is_short() -> None:
    log = RunLog(0)
    log.publish(log.number([("a", b"x" * size) for size in (1, 700_000, 700_000, 1, 3_000_000, 1, 1)]))
    sizes, after = [], -1
    while batch := log.since(after):
        sizes.append(len(batch))
        after = batch[-1].number
    assert sizes == [3, 2, 2]


async def test_several_readers_see_the_same_events() -> None:
    log = RunLog(0)
    readers = [asyncio.ensure_future(read(log, -1)) for _ in range(5)]
    await asyncio.sleep(0)
    publish(log, "a", "b")
    log.close()
    assert await asyncio.gather(*readers) == [[0, 1]] * 5


async def test_a_reader_that_leaves_is_forgotten() -> None:
    log = RunLog(0)
    reader = asyncio.ensure_future(read(log, -1))
    await asyncio.sleep(0)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    assert not log._waiting


async def test_numbers_that_are_not_published_are_not_seen() -> None:
    log = RunLog(0)
    held = log.number([("a", b"{}")])
    assert log.since(-1) == []
    log.publish(held)
    assert [event.name for event in log.since(-1)] == ["a"]


def test_numbers_are_reserved_a_block_ahead() -> None:
    assert RunLog(5).ceiling == 5 + BLOCK


async def test_the_reason_of_an_early_end_is_kept() -> None:
    log = RunLog(0)
    log.close(Unavailable("going down"))
    assert isinstance(log.error, Unavailable)


def test_only_the_newest_stored_events_stay_in_memory() -> None:
    log = RunLog(5)
    log.publish(log.number([("e", b"{}")] * 10_000))
    log.drop_stored(9_000)
    assert log.first == 9_001 - 512
    assert [event.number for event in log.since(9_000)] == list(range(9_001, 9_257))
    log.drop_stored(9_100)
    assert log.since(10_003)[0].number == 10_004


async def test_a_reader_of_dropped_events_ends_its_live_part() -> None:
    log = RunLog(0)
    log.publish(log.number([("e", b"{}")] * 5_000))
    log.drop_stored(4_999)
    assert [batch async for batch in _follow_live(log, 0)] == []
