"""What each form of the ports does for a single process, whether or not it shares the store."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from store.backend import Backend
from store.ports import Insert, Patch
from tests.store.processes.conftest import SharedStore
from tests.store.processes.test_holding import queued_run
from tests.store.rows import run, thread


@pytest.fixture(params=["alone", "sharing"])
async def only(request: pytest.FixtureRequest, shared: SharedStore) -> AsyncIterator[Backend]:
    """The only process of a store, in each form."""
    async with shared.open_alone() if request.param == "alone" else shared.open() as backend:
        yield backend


async def test_the_queue_has_all_runs_that_are_not_waiting_for_clients(only: Backend) -> None:
    rows = [await queued_run(only), await queued_run(only, held=True)]
    for status in ("in_progress", "cancelling", "requires_action", "completed", "cancelled"):
        of = thread()
        rows.append(run(of, status))
        await only.records.commit([Insert(of), Insert(rows[-1])], durable=True)
    assert [each.id for each in await only.processes.run_queue.runs()] == [row.id for row in rows[:4]]


async def test_a_run_that_has_ended_is_not_progressing(only: Backend) -> None:
    row = await queued_run(only, held=True)
    await only.records.commit([Patch("run", row.id, row.owner, {"status": "completed"})], durable=True)
    assert not await only.processes.liveness.is_progressing(row.id)


async def test_a_single_process_has_every_duty(only: Backend) -> None:
    for _ in range(2):
        for task in ("blobs", "expiry", "reindexing", "retention"):
            assert await only.processes.leadership.is_leader(task)


async def test_a_tail_does_not_wait_for_long(only: Backend) -> None:
    row = await queued_run(only)
    assert await asyncio.wait_for(only.processes.tail.next(row.id, -1), 5) == []
