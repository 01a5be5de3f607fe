"""The line, signals, tails and duties of several processes."""

import asyncio
from typing import Any

import pytest

from store.ports import Append, Insert, Patch, Wake
from tests.store.processes.conftest import Pair, SharedStore, eventually
from tests.store.processes.test_holding import queued_run
from tests.store.rows import event, run, thread


async def test_the_line_has_what_is_free_or_mine_and_to_be_done(pair: Pair) -> None:
    a, b = pair
    free, mine, theirs = await queued_run(a), await queued_run(a, held=True), await queued_run(b, held=True)
    for status in ("requires_action", "completed"):
        of = thread()
        await a.records.commit([Insert(of), Insert(run(of, status))], durable=True)
    cancelling = await queued_run(b)
    await b.records.commit([Patch("run", cancelling.id, "ann", {"status": "cancelling"})], durable=True)
    seen = [{each.id for each in await each.processes.line.runs()} for each in pair]
    assert seen == [{free.id, mine.id, cancelling.id}, {free.id, theirs.id, cancelling.id}]


async def test_the_line_is_oldest_first(pair: Pair) -> None:
    rows = [await queued_run(pair[number % 2]) for number in range(6)]
    assert [each.id for each in await pair[0].processes.line.runs()] == [row.id for row in rows]


async def test_a_dead_processs_runs_join_the_line(shared: SharedStore, pair: Pair) -> None:
    a, b = pair
    row = await queued_run(a, held=True)
    assert await b.processes.line.runs() == []
    await shared.declare_oldest_dead()
    assert [each.id for each in await b.processes.line.runs()] == [row.id]


@pytest.mark.parametrize("topic", ["runs", "files"])
async def test_commits_of_others_wake_subscribers(pair: Pair, topic: Any) -> None:
    a, b = pair
    woken = asyncio.Event()
    b.processes.signals.subscribe(topic, woken.set)
    await a.records.commit([Wake(topic)], durable=True)
    await asyncio.wait_for(woken.wait(), 5)


async def test_a_tail_and_the_store_have_all_events_of_another_process(pair: Pair) -> None:
    a, b = pair
    row = await queued_run(a, held=True)

    async def write() -> None:
        for number in range(20):
            await a.records.commit([Append(row.id, [event(number)])], durable=False)
            await asyncio.sleep(0.005)

    numbers: list[int] = []

    async def look() -> bool:
        after = numbers[-1] if numbers else -1
        found = await b.processes.tail.next(row.id, after) or await b.records.events(row.id, after=after, limit=5)
        numbers.extend(each.number for each in found)
        return len(numbers) >= 20

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        tasks.create_task(eventually(look))
    assert numbers == list(range(20))


async def test_one_process_has_a_duty_and_another_takes_it_when_it_leaves(shared: SharedStore) -> None:
    async with shared.open() as b:
        async with shared.open() as a:
            assert await a.processes.duties.has("expiry")
            assert [await each.processes.duties.has("expiry") for each in (a, b, a)] == [True, False, True]
            assert await b.processes.duties.has("retention")
        assert await b.processes.duties.has("expiry")


async def test_a_dead_process_loses_its_duties(shared: SharedStore, pair: Pair) -> None:
    a, b = pair
    assert await a.processes.duties.has("blobs")
    await shared.declare_oldest_dead()
    assert await b.processes.duties.has("blobs")

    async def noticed() -> bool:
        return not await a.processes.duties.has("blobs")

    await eventually(noticed)
