"""Which runs are to be executed or ended, and by which process."""

from store.ports import Insert, Patch
from tests.store.processes.conftest import Pair, SharedStore
from tests.store.processes.test_holding import queued_run
from tests.store.rows import run, thread


async def test_the_run_queue_has_free_and_own_runs_with_work_to_do(pair: Pair) -> None:
    a, b = pair
    free, mine, theirs = await queued_run(a), await queued_run(a, held=True), await queued_run(b, held=True)
    for status in ("requires_action", "completed"):
        of = thread()
        await a.records.commit([Insert(of), Insert(run(of, status))], durable=True)
    cancelling = await queued_run(b)
    await b.records.commit([Patch("run", cancelling.id, "ann", {"status": "cancelling"})], durable=True)
    seen = [{each.id for each in await each.processes.run_queue.runs()} for each in pair]
    assert seen == [{free.id, mine.id, cancelling.id}, {free.id, theirs.id, cancelling.id}]


async def test_the_run_queue_is_oldest_first(pair: Pair) -> None:
    rows = [await queued_run(pair[number % 2]) for number in range(6)]
    assert [each.id for each in await pair[0].processes.run_queue.runs()] == [row.id for row in rows]


async def test_a_dead_process_s_runs_join_the_run_queue(shared: SharedStore, pair: Pair) -> None:
    a, b = pair
    row = await queued_run(a, held=True)
    assert await b.processes.run_queue.runs() == []
    await shared.declare_oldest_dead()
    assert [each.id for each in await b.processes.run_queue.runs()] == [row.id]
