"""The newest events of runs that other processes execute."""

import asyncio

from store.ports import Append
from tests.store.processes.conftest import Pair, eventually
from tests.store.processes.test_holding import queued_run
from tests.store.rows import event


async def test_tail_and_store_have_all_events_of_another_process(pair: Pair) -> None:
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
