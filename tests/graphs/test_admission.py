import asyncio
import gc
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from graphs.admission import Admission, Limits, QueuedRun
from store.ports import PageQuery, Row
from tests.graphs.harness import OWNER, WEATHER, Clock, Harness, harness, names
from tests.upstream import Hang, Reply, ScriptedUpstream
from wire.errors import InvalidRequest, TooManyRequests, Unavailable
from wire.runs import RunCreate

ONE = Limits(max_executing=1)


def queued_run(owner: str, number: int, created_at: int = 1) -> QueuedRun:
    return QueuedRun(f"run_{owner}{number}", owner, "thread_1", created_at)


def admitted(admission: Admission) -> list[str]:
    """Call one run after the other, until the queue is empty."""
    order = []
    while (run := admission.admit_next()) is not None:
        order.append(run.run_id)
        admission.remove(run.run_id)
        admission.release(run.owner)
    return order


def test_owners_take_turns_with_their_oldest_run_first() -> None:
    admission = Admission(ONE)
    for number in range(4):
        admission.enqueue(queued_run("ann", number, created_at=10 - number))
    admission.enqueue(queued_run("bob", 0, created_at=99))
    admission.enqueue(queued_run("bob", 1, created_at=99))
    assert admitted(admission) == ["run_ann3", "run_bob0", "run_ann2", "run_bob1", "run_ann1", "run_ann0"]


def test_a_run_with_a_large_object_counts_as_several() -> None:
    admission = Admission(Limits(max_executing=32))
    heavy = admission.weight_of(3 * 16 * 1024)
    assert (admission.weight_of(100), heavy) == (1, 4)
    admission.admit("bob", 24)
    for number in range(4):
        admission.enqueue(replace(queued_run("ann", number), weight=heavy))
    started = [admission.admit_next() for _ in range(4)]
    assert [run is not None for run in started] == [True, True, False, False]
    assert not admission.is_free("bob")
    admission.release("ann", heavy)
    assert admission.admit_next() is not None


def test_an_owner_leaves_a_part_to_others() -> None:
    admission = Admission(Limits(max_executing=8, share=0.75))
    admission.admit("ann", 4)
    assert not admission.is_free("ann", 3)
    assert admission.is_free("ann", 2)
    admission.admit("ann", 2)
    assert (admission.is_free("ann"), admission.is_free("bob", 2), admission.is_free("bob", 3)) == (False, True, False)
    admission.release("ann", 4)
    assert admission.is_free("ann", 4)


def test_a_run_heavier_than_the_limit_runs_alone() -> None:
    admission = Admission(Limits(max_executing=2))
    assert admission.is_free("ann", 9)
    admission.admit("ann", 9)
    assert not admission.is_free("bob")
    admission.release("ann", 9)
    assert admission.is_free("bob")


def test_executing_runs_never_exceed_the_limits() -> None:
    admission = Admission(Limits(max_executing=3, max_executing_per_owner=2))
    for number in range(3):
        admission.enqueue(queued_run("ann", number))
    first, second = admission.admit_next(), admission.admit_next()
    assert [run.run_id for run in (first, second) if run] == ["run_ann0", "run_ann1"]
    assert admission.admit_next() is None, "one owner has more than two runs"
    admission.enqueue(queued_run("bob", 0))
    admission.enqueue(queued_run("eve", 0))
    assert (run := admission.admit_next()) is not None
    assert run.owner == "bob"
    assert admission.admit_next() is None, "more than three runs are executed"
    assert not admission.is_free("eve")
    admission.release("ann")
    assert (run := admission.admit_next()) is not None
    assert run.owner == "eve", "the next owner's run is admitted, not one of the owner whose run ended"


def test_a_run_that_left_the_queue_is_never_admitted() -> None:
    admission = Admission(ONE)
    admission.enqueue(queued_run("ann", 0))
    for number in range(1, 10_000):
        admission.enqueue(queued_run("ann", number))
        admission.remove(f"run_ann{number}")
    assert len(admission) == 1
    assert sum(map(len, admission._queues.values())) < 200
    assert admitted(admission) == ["run_ann0"]
    assert not admission._queues
    assert not admission._queued
    assert not admission._executing


def test_a_full_queue_refuses_runs_and_states_when_to_retry() -> None:
    now = [0.0]
    admission = Admission(Limits(max_executing=1, max_queued=2, max_queued_per_owner=1), clock=lambda: now[0])
    admission.admit("ann")
    with (
        admission.reserve_place("ann"),
        pytest.raises(TooManyRequests, match="1 of your runs are already queued") as refused,
    ):
        admission.check("ann")
    assert refused.value.headers == {"Retry-After": "1"}
    admission.check("ann")  # the reserved position is free again
    admission.enqueue(queued_run("bob", 0))
    admission.enqueue(queued_run("eve", 0))
    with pytest.raises(TooManyRequests, match="2 runs are already queued"):
        admission.check("ann")
    for _ in range(4):
        now[0] += 7.5
        admission.release("ann")
        admission.admit("ann")
    with pytest.raises(TooManyRequests) as refused:
        admission.check("ann")
    assert refused.value.headers == {"Retry-After": "8"}


def test_no_owner_excludes_others_from_the_queue() -> None:
    admission = Admission(Limits(max_executing=1, max_queued=8, share=0.75))
    admission.admit("ann")
    for number in range(6):
        admission.enqueue(queued_run("ann", number))
    with pytest.raises(TooManyRequests, match=r"6 of your runs are already queued, .* one of several owners"):
        admission.check("ann")
    for number in range(2):
        admission.enqueue(queued_run("bob", number))
    with pytest.raises(TooManyRequests, match="8 runs are already queued"):
        admission.check("bob")
    admission.check("eve")  # an owner without a queued run, however full the queue is
    with admission.reserve_place("eve"), pytest.raises(TooManyRequests):
        admission.check("eve")
    no_queue = Admission(Limits(max_executing=1, max_queued=0, share=0.75))
    no_queue.admit("ann")
    with pytest.raises(TooManyRequests):
        no_queue.check("bob")


def test_a_run_without_memory_can_exceed_an_owner_s_share() -> None:
    admission = Admission(Limits(memory_bytes=1000, share=0.75))
    admission.admit("ann", memory=900)  # more than the share, because it was alone
    assert admission.is_free("ann")
    assert not admission.is_free("ann", memory=1)


LARGE = pytest.mark.parametrize(
    ("large", "limits"),
    [({"weight": 6}, {"max_executing": 48}), ({"memory": 700}, {"memory_bytes": 4800})],
    ids=["runs", "memory"],
)


@LARGE
def test_a_larger_run_starts_although_smaller_ones_overtake_it(large: dict[str, int], limits: dict[str, int]) -> None:
    now = [0.0]
    admission = Admission(Limits(**limits, share=0.75), clock=lambda: now[0])
    light = {"weight": 2, "memory": 200}
    working = [("ann", admission.admit("ann", **light)) for _ in range(24)]
    admission.enqueue(replace(queued_run("eve", 0), **large))
    while "eve" not in dict(working):
        admission.enqueue(replace(queued_run("bob", int(now[0])), **light))
        now[0] += 1.0
        owner, number = working.pop(0)
        admission.release(owner, **light, number=number)
        while (run := admission.admit_next()) is not None:
            admission.remove(run.run_id)
            working.append((run.owner, run.number))
    assert 5 <= now[0] <= 15


@LARGE
def test_a_larger_waiting_run_leaves_others_their_free_capacity(large: dict[str, int], limits: dict[str, int]) -> None:
    now = [0.0]
    admission = Admission(Limits(**limits, share=0.75), clock=lambda: now[0])
    for owner in ("ann", "bob"):  # they do not end
        admission.admit(owner, 22, 2200)
    admission.enqueue(replace(queued_run("eve", 0), **large))
    assert admission.admit_next() is None
    for _ in range(100):
        now[0] += 1.0
        assert admission.is_free("dan", 2, 200)
        number = admission.admit("dan", 2, 200)
        assert admission.admit_next() is None
        admission.release("dan", 2, 200, number=number)


@LARGE
def test_others_get_half_of_the_capacity_that_becomes_free(large: dict[str, int], limits: dict[str, int]) -> None:
    now = [0.0]
    admission = Admission(Limits(**limits, share=0.75), clock=lambda: now[0])
    numbers = [admission.admit(owner, 4, 400) for owner in ["ann"] * 6 + ["bob"] * 6]
    admission.enqueue(replace(queued_run("eve", 0), **large))
    assert admission.admit_next() is None
    now[0] += 10.0
    admission.release("ann", 4, 400, number=numbers[0])
    assert admission.is_free("dan", 2, 200)
    assert not admission.is_free("dan", 3, 300)


@pytest.mark.parametrize(("maximum", "weight"), [(8, 1), (64, 8), (1024, 128)])
def test_a_run_counts_as_at_most_an_eighth_of_the_capacity(maximum: int, weight: int) -> None:
    assert Admission(Limits(max_executing=maximum)).weight_of(10**9) == weight


@pytest.mark.parametrize(
    ("large", "limits"),
    [
        ({"weight": 6}, {"max_executing": 8}),
        ({"weight": 4}, {"max_executing": 8, "max_executing_per_owner": 1}),
        ({"memory": 700}, {"memory_bytes": 1000}),
    ],
    ids=["runs", "runs of an owner", "memory"],
)
def test_nothing_is_reserved_for_a_run_that_its_owner_delays(large: dict[str, int], limits: dict[str, int]) -> None:
    now = [0.0]
    admission = Admission(Limits(**limits, share=0.75), clock=lambda: now[0])
    light = {"weight": 1, "memory": 100}
    for _ in range(5):
        admission.admit("bob", **light)
    admission.enqueue(replace(queued_run("eve", 0), **large))
    assert admission.admit_next() is None
    admission.admit("eve", **light)  # a light run passes the large one of the same owner
    now[0] += 60.0
    assert admission.admit_next() is None
    assert admission.is_free("dan", **light)
    for owner in ("eve", *["bob"] * 5):
        admission.release(owner, **light)
    assert admission.admit_next() is not None


async def test_queued_runs_weigh_the_same_after_a_restart(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    upstream.script(Hang())
    limits = Limits(max_executing=64, max_executing_per_owner=1)
    async with harness(upstream, tmp_path / "t.db", limits=limits) as w:
        await w.start_run()
        queued = await w.start_run(instructions="x" * 5 * 16 * 1024)
        weight = w.runner._execution.admission.get(queued.run_id).weight  # type: ignore[union-attr]
        await w.runner.drain(0)
    assert weight == 6
    upstream.script(Hang())
    async with harness(upstream, tmp_path / "t.db", limits=limits) as w:
        again = w.runner._execution.admission.get(queued.run_id)
        assert again is not None
        assert again.weight == weight
        await w.runner.drain(0)


async def test_a_run_that_was_admitted_before_the_end_does_not_delay_it(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    upstream.script(Hang(), Hang())
    async with harness(upstream, tmp_path / "t.db") as w:
        started = await w.start_run()
        await upstream.eventually(lambda up: len(up.requests) == 1)
        await w.runner.drain(0)
    async with harness(upstream, tmp_path / "t.db") as w:
        assert w.runner.executing == 0, "it was admitted, and has not begun"
        begun = asyncio.get_running_loop().time()
        await w.runner.drain(0)
    assert asyncio.get_running_loop().time() - begun < 30, "the model is silent for 60 s"
    assert len(upstream.requests) == 1
    upstream.release()
    async with harness(upstream, tmp_path / "t.db") as w:
        await upstream.eventually(lambda up: len(up.requests) == 2)
        await w.runner.drain(0)
        assert (await w.run(started))["status"] == "in_progress"


async def start_runs(w: Harness, owner: str, count: int) -> list[str]:
    """Start runs of an owner, each on a thread of its own."""
    assistant = await w.assistant(owner=owner)
    return [
        (await w.runner.start(owner, await w.thread("Hello", owner=owner), RunCreate(assistant_id=assistant))).run_id
        for _ in range(count)
    ]


async def test_a_queued_run_starts_in_turn_and_its_reader_sees_everything(
    upstream: ScriptedUpstream,
) -> None:
    upstream.script(Hang())
    async with harness(upstream, limits=ONE) as w:
        first = await w.start_run()
        second = await w.start_run()
        assert second.run["status"] == "queued"
        assert (await w.run(second))["started_at"] is None
        reading = asyncio.create_task(w.events(second.run_id))
        await upstream.eventually(lambda up: len(up.requests) == 1)
        await asyncio.sleep(0.05)
        assert not reading.done()
        assert len(upstream.requests) == 1
        await w.runner.cancel(OWNER, first.run["thread_id"], first.run_id)
        events = await reading
        assert names(events)[:4] == ["run.created", "run.queued", "run.in_progress", "run.step.created"]
        assert names(events)[-1] == "run.completed"
        assert [event.number for event in events] == list(range(len(events)))
        assert w.runner.waiting == 0


async def test_starts_that_wait_for_their_turn_hold_no_assistant(upstream: ScriptedUpstream) -> None:
    async with harness(upstream) as w:
        assistant = await w.assistant(instructions="x" * 200_000)
        threads = [await w.thread("Hello") for _ in range(5)]
        async with asyncio.TaskGroup() as starts:
            starting = [starts.create_task(w.start(thread, assistant)) for thread in threads]
            held = []
            while not all(each.done() for each in starting):
                await asyncio.sleep(0.01)
                held.append(sum(isinstance(each, Row) and each.kind == "assistant" for each in gc.get_objects()))
    assert any(held), "no start was observed while it held the assistant"
    assert statistics.median(held) <= 1, held  # each start reads it, and releases it before it waits


async def test_owners_share_the_model_evenly_in_any_order(upstream: ScriptedUpstream) -> None:
    upstream.script(Hang())
    async with harness(upstream, limits=ONE) as w:
        first = await w.start_run()
        owners = dict.fromkeys(await start_runs(w, "greedy", 12), "greedy")
        for name in ("ann", "bob"):
            owners |= dict.fromkeys(await start_runs(w, name, 2), name)
        ended: list[str] = []

        async def wait(run_id: str) -> None:
            await w.events(run_id)
            ended.append(owners[run_id])

        async with asyncio.TaskGroup() as readers:
            for run_id in owners:
                readers.create_task(wait(run_id))
            await w.runner.cancel(OWNER, first.run["thread_id"], first.run_id)
        assert set(ended[:3]) == {"greedy", "ann", "bob"}
        assert set(ended[3:6]) == {"greedy", "ann", "bob"}
        assert set(ended[6:]) == {"greedy"}


async def test_a_full_queue_refuses_runs_and_stores_nothing_of_them(upstream: ScriptedUpstream) -> None:
    upstream.script(Hang())
    async with harness(upstream, limits=Limits(max_executing=1, max_queued=2)) as w:
        for _ in range(3):
            await w.start_run()
        thread = await w.thread("Hello")
        with pytest.raises(TooManyRequests, match="MAX_QUEUED_RUNS") as refused:
            await w.start(thread, await w.assistant())
        assert int(refused.value.headers["Retry-After"]) >= 1
        assert (await w.store.page("run", OWNER, PageQuery(), thread_id=thread)).rows == []


async def test_a_cancelled_queued_run_never_calls_the_model(upstream: ScriptedUpstream) -> None:
    upstream.script(Hang())
    async with harness(upstream, limits=ONE) as w:
        first, second = await w.start_run(), await w.start_run()
        reading = asyncio.create_task(w.events(second.run_id))
        await asyncio.sleep(0)
        result = await w.runner.cancel(OWNER, second.run["thread_id"], second.run_id)
        assert result["status"] == "cancelling"
        assert names(await reading)[-2:] == ["run.cancelling", "run.cancelled"]
        assert w.runner.waiting == 0
        with pytest.raises(InvalidRequest, match="Cannot cancel run with status 'cancelled'"):
            await w.runner.cancel(OWNER, second.run["thread_id"], second.run_id)
        await w.runner.cancel(OWNER, first.run["thread_id"], first.run_id)
        third = await w.start_run()
        assert names(await w.events(third.run_id))[-1] == "run.completed"
        assert len(upstream.requests) == 2


async def test_a_queued_run_expires_in_the_queue(upstream: ScriptedUpstream) -> None:
    upstream.script(Hang())
    async with harness(upstream, limits=ONE, expiry_s=100) as w:
        await w.start_run()
        second = await w.start_run()
        w.clock.now += 101
        events = await w.events(second.run_id)
        assert names(events) == ["run.created", "run.queued", "run.expired"]
        assert (await w.run(second))["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        assert w.runner.waiting == 0


async def test_deleting_a_thread_removes_its_queued_run(upstream: ScriptedUpstream) -> None:
    upstream.script(Hang())
    async with harness(upstream, limits=ONE) as w:
        await w.start_run()
        second = await w.start_run()
        reading = asyncio.create_task(w.events(second.run_id))
        await asyncio.sleep(0)
        await w.runner.delete_thread(OWNER, second.run["thread_id"])
        await reading
        assert w.runner.waiting == 0


async def test_metadata_given_to_a_queued_run_is_kept(upstream: ScriptedUpstream) -> None:
    upstream.script(Hang())
    async with harness(upstream, limits=ONE) as w:
        first, second = await w.start_run(), await w.start_run()
        await w.runner.update_metadata(OWNER, second.run["thread_id"], second.run_id, {"a": "b"})
        await w.runner.cancel(OWNER, first.run["thread_id"], first.run_id)
        last = (await w.events(second.run_id))[-1]
        assert last.data()["metadata"] == {"a": "b"}
        assert (await w.run(second))["metadata"] == {"a": "b"}


async def test_outputs_are_accepted_at_full_capacity_and_continue_first(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply(tool_calls=[("getWeather", {"place": "Rome"})]), Hang(), Reply("Sunny."))
    clock = Clock()
    async with harness(upstream, clock=clock, limits=Limits(max_executing=1, max_queued=1)) as w:
        asked = await w.start_run(tools=[WEATHER])
        paused = await w.events(asked.run_id)
        call = paused[-1].data()["required_action"]["submit_tool_outputs"]["tool_calls"][0]
        clock.now += 5
        busy, younger = await w.start_run(), await w.start_run()
        outputs = [{"tool_call_id": call["id"], "output": "25"}]
        again = await w.runner.submit(OWNER, asked.run["thread_id"], asked.run_id, outputs)
        assert again.run["status"] == "queued"
        assert w.runner.waiting == 2
        reading = asyncio.create_task(w.events(asked.run_id, after=again.after))
        await w.runner.cancel(OWNER, busy.run["thread_id"], busy.run_id)
        events = await reading
        assert names(events)[0] == "run.step.completed"
        assert names(events)[-1] == "run.completed"
        assert "threadhold.reset" not in names(events)
        assert names(await w.events(younger.run_id))[-1] == "run.completed"
        assert upstream.requests[2].body["messages"][-1]["content"] == "25"


async def test_the_queue_survives_a_restart_of_the_server(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    upstream.script(Hang())
    async with harness(upstream, tmp_path / "t.db", limits=ONE) as w:
        await w.start_run()
        queued = [await w.start_run() for _ in range(3)]
        reading = asyncio.create_task(w.events(queued[0].run_id, after=1))
        await upstream.eventually(lambda up: len(up.requests) == 1)
        await asyncio.sleep(0.02)
        await w.runner.drain(0)
        with pytest.raises(Unavailable, match="read its events from number 1"):
            await reading
    async with harness(upstream, tmp_path / "t.db", limits=ONE) as w:
        for one in queued:
            events = await w.events(one.run_id)
            assert names(events)[-1] == "run.completed"
            assert "threadhold.reset" not in names(events)
            assert len({event.number for event in events}) == len(events)
