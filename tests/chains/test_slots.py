"""Fair scheduling of slots: owners alternate, no slot is lost, and no request overtakes one for several slots."""

import asyncio

import pytest

from chains.slots import Slot, Slots


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_owners_take_turns_however_many_one_sends() -> None:
    slots, order = Slots(1), list[str]()
    first = await slots.acquire("alice")

    async def ask(owner: str) -> None:
        slot = await slots.acquire(owner)
        order.append(owner)
        slot.release()

    async with asyncio.TaskGroup() as group:
        for owner in ("alice",) * 4 + ("bob",) * 2 + ("carol",):
            group.create_task(ask(owner))
        await settled()
        assert len(slots) == 7
        first.release()
    assert order == ["alice", "bob", "carol", "alice", "bob", "alice", "alice"]


async def test_no_request_overtakes_one_for_all_slots() -> None:
    slots, held = Slots(2), list[Slot]()
    one, two = await slots.acquire("a"), await slots.acquire("a")
    all_of_them = asyncio.create_task(slots.acquire("a", 9, exclusive=True))
    await settled()
    later = asyncio.create_task(slots.acquire("b"))
    one.release()
    await settled()
    assert not all_of_them.done()
    assert not later.done()
    two.release()
    held.append(await all_of_them)
    assert not later.done()
    held[0].release()
    (await later).release()


@pytest.mark.parametrize("when", ["waiting", "granted"])
async def test_a_cancelled_wait_leaves_no_slot_taken(when: str) -> None:
    slots = Slots(1)
    first = await slots.acquire("a")
    leaver = asyncio.create_task(slots.acquire("b"))
    await settled()
    if when == "granted":
        first.release()
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    first.release()
    first.release()  # a second call changes nothing
    (await asyncio.wait_for(slots.acquire("c"), 1)).release()
    assert len(slots) == 0


async def test_a_cancelled_request_for_all_slots_unblocks_others() -> None:
    slots = Slots(2)
    first = await slots.acquire("a")
    wide = asyncio.create_task(slots.acquire("b", 2))
    await settled()
    narrow = asyncio.create_task(slots.acquire("c"))
    await settled()
    wide.cancel()
    (await asyncio.wait_for(narrow, 1)).release()
    first.release()


async def test_no_owner_holds_the_last_slot_of_several_owners() -> None:
    slots = Slots(3, per_owner=2)
    one, two = await slots.acquire("a"), await slots.acquire("a")
    third = asyncio.create_task(slots.acquire("a"))
    await settled()
    assert not third.done()
    other = await asyncio.wait_for(slots.acquire("b"), 1)
    other.release()
    await settled()
    assert not third.done()
    one.release()
    (await asyncio.wait_for(third, 1)).release()
    two.release()


async def test_an_owner_with_a_full_share_does_not_delay_others() -> None:
    slots = Slots(2, per_owner=1)
    first = await slots.acquire("a")
    waiting = [asyncio.create_task(slots.acquire("a")) for _ in range(3)]
    await settled()
    for _ in range(3):
        (await asyncio.wait_for(slots.acquire("b"), 1)).release()
    first.release()
    for task in waiting:
        (await asyncio.wait_for(task, 1)).release()


async def test_a_request_that_must_be_alone_gets_every_slot() -> None:
    slots = Slots(2, per_owner=1)
    exclusive = await slots.acquire("a", exclusive=True)
    other = asyncio.create_task(slots.acquire("b"))
    await settled()
    assert not other.done()
    exclusive.release()
    (await asyncio.wait_for(other, 1)).release()


async def test_an_exclusive_request_releases_unneeded_slots() -> None:
    slots = Slots(3)
    exclusive = await slots.acquire("a", exclusive=True)
    others = [asyncio.create_task(slots.acquire("b")) for _ in range(2)]
    await settled()
    assert not any(other.done() for other in others)
    exclusive.reduce_to(1)
    for other in await asyncio.gather(*others):
        other.release()
    exclusive.reduce_to(1)
    exclusive.release()
    (await asyncio.wait_for(slots.acquire("c", 3), 1)).release()


async def test_a_slot_knows_whether_other_owners_held_one_meanwhile() -> None:
    slots = Slots(3)
    one, two = await slots.acquire("a"), await slots.acquire("a")
    assert one.is_sole
    assert two.is_sole
    one.release()
    other = await slots.acquire("b")
    assert not two.is_sole
    assert not other.is_sole
    assert one.is_sole, "released before"
    other.release()
    assert not two.is_sole, "shared for a time"
    third = await slots.acquire("a")
    assert third.is_sole
    third.release()
    await slots.acquire("b")
    assert third.is_sole
