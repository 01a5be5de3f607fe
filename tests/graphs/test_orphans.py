"""Runs without a task: a crash at any moment leaves each of them so that the next start ends or continues it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from graphs import orphans, recovery
from graphs.active_run import ActiveRun
from graphs.run_context import RunContexts
from graphs.started import StartedRun
from tests.graphs.harness import OWNER, WEATHER, Clock, Harness, harness, text_of, until
from tests.upstream import Reply, ScriptedUpstream
from wire.errors import StoreFailed

CALL = Reply(tool_calls=[("getWeather", {"place": "Rome"})])


class KilledError(Exception):
    """The process ends here."""


async def leave_cancelling(small: Harness, monkeypatch: pytest.MonkeyPatch, count: int) -> list[StartedRun]:
    """Return runs that waited for outputs, and whose process ended between the two commits of a cancellation."""

    async def stopped(_: ActiveRun) -> None:
        raise KilledError

    left = []
    for _ in range(count):
        small.upstream.script(CALL)
        started = await small.start_run(tools=[WEATHER])
        await small.events(started.run_id)
        with monkeypatch.context() as patched:
            patched.setattr(ActiveRun, "stopped", stopped)
            with pytest.raises(KilledError):
                await small.runner.cancel(OWNER, started.run["thread_id"], started.run_id)
        assert (await small.run(started))["status"] == "cancelling"
        left.append(started)
    return left


@pytest.mark.parametrize("is_old", [False, True], ids=["this version", "an older version"])
async def test_a_cancellation_that_a_crash_cut_off_ends_at_the_next_start(
    upstream: ScriptedUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_old: bool
) -> None:
    if is_old:
        monkeypatch.setattr(ActiveRun, "_reserve_used", lambda *_: None)
    async with harness(upstream, tmp_path / "t.db") as small:
        (left,) = await leave_cancelling(small, monkeypatch, 1)
        row = await small.store.get("run", left.run_id, OWNER)
        stored = await small.store.events(left.run_id, after=-1, limit=1000)
        assert row is not None
        assert (row.private["next_event"] > stored[-1].number) is not is_old
    async with harness(upstream, tmp_path / "t.db") as small:
        assert (await small.run(left))["status"] == "cancelled"
        events = await small.events(left.run_id)
        assert [event.number for event in events] == sorted({event.number for event in events})
        names = [event.name for event in events]
        assert (names[-1], names.count("thread.run.cancelling")) == ("thread.run.cancelled", 1)


async def test_a_run_that_cannot_be_ended_prevents_neither_the_start_nor_other_ends(
    upstream: ScriptedUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    async with harness(upstream, tmp_path / "t.db", clock) as small:
        broken, other = await leave_cancelling(small, monkeypatch, 2)
    restore_run = orphans.restore_run

    async def fail(store: Any, row: Any, *others: Any) -> ActiveRun:
        if row.id == broken.run_id:
            raise StoreFailed("Its rows cannot be read.")
        return await restore_run(store, row, *others)

    monkeypatch.setattr(orphans, "restore_run", fail)
    async with harness(upstream, tmp_path / "t.db", clock) as small:
        assert (await small.run(other))["status"] == "cancelled"
        assert (await small.run(broken))["status"] == "cancelling"
        late = await small.start_run("Hello")
        assert (await small.events(late.run_id))[-1].name == "thread.run.completed"
        monkeypatch.setattr(orphans, "restore_run", restore_run)
        clock.now += 3600
        async with asyncio.timeout(20):
            while (await small.run(broken))["status"] != "cancelled":
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("end", ["cancelled", "expired"])
@pytest.mark.parametrize("reads", ["no rows", "some rows", "all rows"])
async def test_an_end_before_a_run_has_been_resumed_closes_its_step_and_message(
    upstream: ScriptedUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, reads: str
) -> None:
    upstream.script(Reply(chunks=["One ", "two "], pause_after=2))
    clock = Clock()
    async with harness(upstream, tmp_path / "t.db", clock) as small:
        left = await small.start_run(tools=[WEATHER])
        await until(lambda: upstream.requests)
        async with asyncio.timeout(20):
            while [row["status"] for row in await small.rows("step", left)] != ["in_progress"]:
                await asyncio.sleep(0.02)
    blocked = asyncio.Event()

    async def block(*_: Any) -> None:
        blocked.set()
        await asyncio.sleep(3600)

    match reads:
        case "no rows":
            monkeypatch.setattr(orphans, "load_rows", block)
        case "some rows":
            rows_of = recovery._rows

            async def block_once(store: Any, kind: Any, run: Any) -> Any:
                if kind == "message" and not blocked.is_set():
                    await block()
                return await rows_of(store, kind, run)

            monkeypatch.setattr(recovery, "_rows", block_once)
        case _:
            monkeypatch.setattr(RunContexts, "reload", block)
    async with harness(upstream, tmp_path / "t.db", clock, expiry_s=600) as small:
        async with asyncio.timeout(20):
            await blocked.wait()
        if end == "cancelled":
            await small.runner.cancel(OWNER, left.run["thread_id"], left.run_id)
        else:
            clock.now += 3600
        async with asyncio.timeout(20):
            events = await small.events(left.run_id)
        assert events[-1].name == f"thread.run.{end}"
        (step,) = await small.rows("step", left)
        (message,) = [row for row in await small.rows("message", left) if row["role"] == "assistant"]
        assert (step["status"], message["status"]) == (end, "incomplete")
        assert message["content"][0]["text"]["value"] == text_of(events)
