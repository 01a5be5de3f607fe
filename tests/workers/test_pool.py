"""The pool of child processes: budgets are enforced, failures affect one task, owners are scheduled fairly, and
processes end."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from telemetry.context import set_current_owner
from wire.errors import BudgetExceeded
from workers import Budget, Pool

FIND = "chains.calls.arguments:find_problems"
PLACE: dict[str, Any] = {"type": "object", "required": ["place"]}
WRONG = ["arguments: 'place' is a required property"]
SHORT = Budget(cpu_s=0.5, wall_s=10.0)
LONG = Budget(cpu_s=60.0, wall_s=60.0)


def slow(anchors: int = 30_000) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a schema whose every reference is checked in full."""
    many = {f"d{i}": {} for i in range(anchors)}
    schema = {"properties": {"l": {"items": {"$ref": "#here"}}}, "$defs": {"a": {"$anchor": "here"}, **many}}
    return schema, {"l": [1] * 2_000}


def heavy() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a schema and data whose errors each repeat the arguments."""
    return {"allOf": [{"type": "string"}] * 9_900}, {"a": "x" * 90_000}


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[Pool]:
    opened = Pool(size=2, share=1, idle_s=30)
    yield opened
    await asyncio.to_thread(opened.close)


async def is_gone(pid: int) -> bool:
    """Return whether a process has ended and been collected; a zombie still exists."""
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        await asyncio.sleep(0.02)
    return False


def processor_ticks(pid: int) -> int:
    """Return the processor time of a process in clock ticks."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("processor time is read from /proc, which this system lacks")
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


async def until_busy(pid: int, idle_ticks: int) -> None:
    """Wait until a child has received its task and works on it."""
    while processor_ticks(pid) < idle_ticks + 10:
        await asyncio.sleep(0.02)


async def test_a_child_is_used_for_the_next_task(pool: Pool) -> None:
    assert pool.pids == []
    assert await pool.run(FIND, PLACE, {}) == WRONG
    before = pool.pids
    assert await pool.run(FIND, PLACE, {"place": 1}) == []
    assert pool.pids == before
    assert len(before) == 1


@pytest.mark.parametrize(
    ("work", "why"), [(slow(), "time"), (heavy(), "memory")], ids=["over its time", "over its memory"]
)
async def test_a_task_over_its_budget_ends_alone(pool: Pool, work: tuple[Any, Any], why: str) -> None:
    with pytest.raises(BudgetExceeded) as caught:
        await pool.run(FIND, *work, budget=SHORT if why == "time" else LONG)
    assert caught.value.why == why
    assert await pool.run(FIND, PLACE, {}) == WRONG


async def test_a_waiting_task_is_ended_by_wall_time(pool: Pool) -> None:
    await pool.run(FIND, PLACE, {})  # exclude the start of a child
    with pytest.raises(BudgetExceeded) as caught:
        await pool.run(FIND, *slow(), budget=Budget(cpu_s=60, wall_s=0.3))
    assert caught.value.why == "late"
    assert await pool.run(FIND, PLACE, {}) == WRONG


async def test_a_crash_fails_only_its_task(pool: Pool) -> None:
    await pool.run(FIND, PLACE, {})
    (pid,) = pool.pids
    idle_ticks = processor_ticks(pid)
    task = asyncio.create_task(pool.run(FIND, *slow(), budget=LONG))
    await until_busy(pid, idle_ticks)
    os.kill(pid, 6)  # as a failed assertion in native code does
    with pytest.raises(BudgetExceeded) as caught:
        await task
    assert caught.value.why == "crash"
    assert await pool.run(FIND, PLACE, {}) == WRONG


async def test_a_child_that_died_while_idle_is_replaced(pool: Pool) -> None:
    await pool.run(FIND, PLACE, {})
    os.kill(pool.pids[0], 9)
    await asyncio.sleep(0.1)
    assert await pool.run(FIND, PLACE, {}) == WRONG


async def test_cancelling_a_task_ends_its_child() -> None:
    pool = Pool(size=1, share=1)  # so that the second task uses the first one's child
    await pool.run(FIND, PLACE, {})
    (pid,) = pool.pids
    idle_ticks = processor_ticks(pid)
    task = asyncio.create_task(pool.run(FIND, *slow(), budget=LONG))
    await until_busy(pid, idle_ticks)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await is_gone(pid)
    assert await pool.run(FIND, PLACE, {}) == WRONG
    await asyncio.to_thread(pool.close)


async def test_a_task_cancelled_in_the_queue_is_removed(pool: Pool) -> None:
    first = asyncio.create_task(pool.run(FIND, *slow(), budget=SHORT))
    waiting = asyncio.create_task(pool.run(FIND, PLACE, {}))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(BudgetExceeded):
        await first
    assert waiting.cancelled()
    assert await pool.run(FIND, PLACE, {}) == WRONG


async def test_one_owners_slow_tasks_do_not_delay_anothers(pool: Pool) -> None:
    set_current_owner("ann")
    slow_ones = [asyncio.create_task(pool.run(FIND, *slow(), budget=Budget(1, 30))) for _ in range(6)]
    await asyncio.sleep(0.2)
    set_current_owner("bob")
    assert await pool.run(FIND, PLACE, {}) == WRONG
    assert sum(task.done() for task in slow_ones) <= 2
    for task in slow_ones:
        task.cancel()
    await asyncio.gather(*slow_ones, return_exceptions=True)


async def test_each_owner_has_a_queue_limit_of_their_own() -> None:
    pool = Pool(size=1, share=1, max_waiting=2)
    set_current_owner("ann")
    tasks = [asyncio.create_task(pool.run(FIND, *slow(), budget=SHORT)) for _ in range(9)]
    await asyncio.sleep(0.1)
    refused = [task.exception() for task in tasks if task.done()]
    assert 6 <= len(refused) <= 7
    assert {getattr(error, "why", None) for error in refused} == {"late"}
    set_current_owner("bob")
    assert await pool.run(FIND, PLACE, {}) == WRONG
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.to_thread(pool.close)


async def test_an_idle_child_ends_and_leaves_no_zombie() -> None:
    pool = Pool(idle_s=0.2)
    await pool.run(FIND, PLACE, {})
    (pid,) = pool.pids
    assert await is_gone(pid)
    async with asyncio.timeout(20):
        while pool.pids:  # the pool is notified of the end a moment later
            await asyncio.sleep(0.01)
    assert await pool.run(FIND, PLACE, {}) == WRONG
    await asyncio.to_thread(pool.close)


async def test_a_child_is_replaced_after_many_tasks() -> None:
    pool = Pool(max_tasks=2)
    await pool.run(FIND, PLACE, {})
    first = pool.pids
    await pool.run(FIND, PLACE, {})
    assert await is_gone(first[0])
    assert await pool.run(FIND, PLACE, {}) == WRONG
    await asyncio.to_thread(pool.close)


async def test_closing_ends_running_and_waiting_tasks(pool: Pool) -> None:
    tasks = [asyncio.create_task(pool.run(FIND, *slow(), budget=LONG)) for _ in range(3)]
    await asyncio.sleep(0.5)
    pids = pool.pids
    started = time.monotonic()
    await asyncio.to_thread(pool.close)
    assert time.monotonic() - started < 5
    assert [type(each) for each in await asyncio.gather(*tasks, return_exceptions=True)] == [BudgetExceeded] * 3
    assert all([await is_gone(pid) for pid in pids])


def test_a_pool_serves_one_event_loop_after_another() -> None:
    pool = Pool()
    for _ in range(2):
        assert asyncio.run(pool.run(FIND, PLACE, {})) == WRONG
    assert pool.call(FIND, PLACE, {}) == WRONG
    pool.close()


async def test_the_pool_works_on_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")
    pool = Pool()

    def work() -> Any:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(pool.run(FIND, PLACE, {}))

    assert await asyncio.to_thread(work) == WRONG
    await asyncio.to_thread(pool.close)


@pytest.mark.parametrize(
    "function", ["os:system", "subprocess:run", "chains.calls.arguments:_short", "chains.calls.arguments:json"]
)
async def test_only_functions_exported_by_our_modules_are_called(pool: Pool, function: str) -> None:
    with pytest.raises(RuntimeError, match="LookupError"):
        await pool.run(function, "true")


async def test_a_child_inherits_none_of_our_environment(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_API_KEY", "secret")
    await pool.run(FIND, PLACE, {})
    environ = await asyncio.to_thread(Path(f"/proc/{pool.pids[0]}/environ").read_bytes)
    names = [one.partition(b"=")[0] for one in environ.split(b"\0") if one]
    assert names == [b"PYTHONPATH"]
