"""Which processes are alive: heartbeats, declared deaths, and fencing."""

import asyncio

import pytest

from store.ports import Hold, Insert, Patch
from tests.store.processes.conftest import LEASE_S, Pair, SharedStore, eventually
from tests.store.processes.test_holding import QUEUED, queued_run
from tests.store.rows import run, thread
from wire.errors import LeaseLost, StoreError, StoreFailed


async def test_live_processes_stay_alive(pair: Pair) -> None:
    lost: list[int] = []
    for number, each in enumerate(pair):

        async def stop(number: int = number) -> None:
            lost.append(number)

        each.processes.liveness.on_loss(stop)
    await asyncio.sleep(2 * LEASE_S)
    for each in pair:
        await queued_run(each)
    assert lost == []


async def test_a_dead_process_is_refused_and_starts_over(shared: SharedStore, pair: Pair) -> None:
    a, b = pair
    held = await queued_run(a, held=True)
    stopped = asyncio.Event()
    resume = asyncio.Event()

    async def stop() -> None:
        stopped.set()
        await resume.wait()

    a.processes.liveness.on_loss(stop)
    await shared.declare_oldest_dead()
    with pytest.raises(LeaseLost):
        await a.records.commit([Patch("run", held.id, held.owner, {"status": "in_progress"})], durable=True)
    await asyncio.wait_for(stopped.wait(), 5)
    with pytest.raises(LeaseLost):  # until its work has ended
        await queued_run(a)
    await b.records.commit([Hold("run", held.id, held.owner, QUEUED)], durable=True)
    resume.set()

    async def accepted() -> bool:
        try:
            await queued_run(a)
        except StoreError:
            return False
        return True

    await eventually(accepted)
    with pytest.raises(StoreError, match="Another process"):
        await a.records.commit([Hold("run", held.id, held.owner, QUEUED)], durable=True)


async def test_queued_changes_of_a_dead_process_are_refused(shared: SharedStore, pair: Pair) -> None:
    a, b = pair
    rows = [thread(f"owner{number}") for number in range(20)]
    await shared.declare_oldest_dead()
    asked = [a.records.commit([Insert(row)], durable=bool(number % 2)) for number, row in enumerate(rows)]
    errors = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(error) for error in errors} == {LeaseLost}
    assert [await b.records.get("thread", row.id, row.owner) for row in rows] == [None] * 20


async def test_a_run_is_progressing_until_it_pauses(pair: Pair) -> None:
    a, b = pair
    held, free = await queued_run(a, held=True), await queued_run(a)
    for row in (held, free):
        assert await b.processes.liveness.is_progressing(row.id)
    await a.records.commit([Patch("run", held.id, held.owner, {"status": "requires_action"})], durable=True)
    assert not await b.processes.liveness.is_progressing(held.id)
    assert not await b.processes.liveness.is_progressing("run_unknown")


async def test_the_only_process_takes_over_objects_of_earlier_ones(shared: SharedStore) -> None:
    async with shared.open() as a:
        row = await queued_run(a, held=True)
    async with shared.open_alone() as only:
        assert only.processes.liveness.is_single_process
        assert [each.id for each in await only.processes.run_queue.runs()] == [row.id]
        await only.records.commit([Hold("run", row.id, row.owner, QUEUED)], durable=True)
    async with shared.open_alone() as again:
        await again.records.commit([Hold("run", row.id, row.owner, QUEUED)], durable=True)


async def test_a_store_is_shared_by_all_processes_or_by_none(shared: SharedStore) -> None:
    for first, second in ((shared.open, shared.open_alone), (shared.open_alone, shared.open)):
        async with first():
            with pytest.raises(StoreFailed, match="in use by another process"):
                async with second():
                    pass


async def test_a_thread_has_one_active_run_across_processes(pair: Pair) -> None:
    of = thread()
    await pair[0].records.commit([Insert(of)], durable=True)
    asked = [each.records.commit([Insert(run(of), held=True)], durable=True) for each in pair for _ in range(20)]
    done = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(not isinstance(each, BaseException) for each in done) == 1
