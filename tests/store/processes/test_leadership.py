"""Work that only one process does at a time."""

from tests.store.processes.conftest import Pair, SharedStore, eventually


async def test_one_process_leads_a_task_until_it_leaves(shared: SharedStore) -> None:
    async with shared.open() as b:
        async with shared.open() as a:
            assert await a.processes.leadership.is_leader("expiry")
            assert [await each.processes.leadership.is_leader("expiry") for each in (a, b, a)] == [True, False, True]
            assert await b.processes.leadership.is_leader("retention")
        assert await b.processes.leadership.is_leader("expiry")


async def test_a_dead_process_loses_its_leadership(shared: SharedStore, pair: Pair) -> None:
    a, b = pair
    assert await a.processes.leadership.is_leader("blobs")
    await shared.declare_oldest_dead()
    assert await b.processes.leadership.is_leader("blobs")

    async def noticed() -> bool:
        return not await a.processes.leadership.is_leader("blobs")

    await eventually(noticed)
