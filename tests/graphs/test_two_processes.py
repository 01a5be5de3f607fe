"""Two runners on one store, like two processes: how each affects the runs of the other."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from pathlib import Path

import pytest

from chains import CallLimits, OpenAIBackend, Upstream
from graphs.active_run import ActiveRun
from graphs.admission import Limits
from graphs.runner import Runner, StartedRun
from graphs.tools.kinds import open_resources
from graphs.tools.resources import ToolDeps
from retrieval.attachments import Attachments
from store.backend import open_backend
from store.ports import Sharing
from store.sqlite.store import SqliteStore
from tests.graphs.harness import OWNER, TIME, Harness, names, text_of, until
from tests.upstream import Reply, ScriptedUpstream
from wire.errors import InvalidRequest, LeaseLost, NotFound, Unavailable

WORDS = [f"w{number} " for number in range(8)]


@asynccontextmanager
async def two(
    upstream: ScriptedUpstream, folder: Path, *, first_poll_s: float = 0.05, limits: Limits | None = None
) -> AsyncIterator[tuple[Harness, Harness]]:
    """Open two harnesses on one store. With a long `first_poll_s`, the first does not notice what the other does."""
    async with AsyncExitStack() as stack:
        model = Upstream(upstream.url, limits=CallLimits(idle_s=10))
        stack.push_async_callback(model.close)
        await model.open()
        harnesses = []
        for poll_s in (first_poll_s, 0.05):
            sharing = Sharing(lease_s=5, beat_s=0.1, poll_s=poll_s)
            backend = await stack.enter_async_context(open_backend(folder / "store.db", sharing=sharing))
            store = backend.records
            assert isinstance(store, SqliteStore)
            attachments = Attachments(store, backend.file_queries)
            processes = backend.processes
            resources = await stack.enter_async_context(open_resources(ToolDeps(store)))
            runner = Runner(
                store, OpenAIBackend(model), resources, attachments=attachments, processes=processes, limits=limits
            )
            harnesses.append(Harness(store, await stack.enter_async_context(runner), upstream))
        yield harnesses[0], harnesses[1]


async def test_an_end_during_a_cancellation_becomes_cancelled(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    upstream.script(Reply(chunks=WORDS, pause_after=3))
    async with two(upstream, tmp_path, first_poll_s=60) as (a, b):
        started = await a.start_run()
        await until(lambda: upstream.requests)
        assert (await b.runner.cancel(OWNER, started.run["thread_id"], started.run_id))["status"] == "cancelling"
        upstream.release()
        events = await a.events(started.run_id)
        assert names(events)[-4:] == [
            "message.completed",
            "run.step.completed",
            "run.cancelling",
            "run.cancelled",
        ]
        assert text_of(events) == "".join(WORDS)
        run = await b.run(started)
        assert (run["status"], run["completed_at"], run["expires_at"]) == ("cancelled", None, None)
        assert run["cancelled_at"] is not None
        assert events == await b.store.events(started.run_id, after=-1, limit=1000)
        assert [message["status"] for message in await b.rows("message", started)] == ["completed", "completed"]


async def test_a_run_cancelled_in_both_is_cancelled_once(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    upstream.script(Reply(chunks=WORDS, pause_after=3))
    async with two(upstream, tmp_path, first_poll_s=60) as (a, b):
        started = await a.start_run()
        await until(lambda: upstream.requests)
        for each in (b, a):
            cancelled = await each.runner.cancel(OWNER, started.run["thread_id"], started.run_id)
            assert cancelled["status"] == "cancelling"
        events = await a.events(started.run_id)
        assert names(events)[-1] == "run.cancelled"
        assert names(events).count("run.cancelling") == 1
        assert events == await b.store.events(started.run_id, after=-1, limit=1000)
        await until(lambda: upstream.closed_early)


async def test_a_pause_during_a_cancellation_becomes_cancelled(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    upstream.script(Reply(tool_calls=[("getTime", "{}")], start_s=0.3))
    async with two(upstream, tmp_path, first_poll_s=60) as (a, b):
        started = await a.start_run(tools=[TIME])
        await until(lambda: upstream.requests)
        await b.runner.cancel(OWNER, started.run["thread_id"], started.run_id)
        events = await a.events(started.run_id)
        assert names(events)[-3:] == ["run.cancelling", "run.step.cancelled", "run.cancelled"]
        run = await b.run(started)
        assert (run["status"], run["required_action"]) == ("cancelled", None)


def declare_oldest_dead(store: Path) -> None:
    """Do what other processes do to one without a heartbeat."""
    with closing(sqlite3.connect(store, isolation_level=None)) as connection:
        connection.execute("DELETE FROM processes WHERE id = (SELECT min(id) FROM processes)")


async def test_a_dead_holder_s_cancellation_is_completed_by_another(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    upstream.script(Reply(chunks=WORDS, pause_after=3))
    async with two(upstream, tmp_path, first_poll_s=60) as (a, b):
        started = await a.start_run()
        await until(lambda: upstream.requests)
        await b.runner.cancel(OWNER, started.run["thread_id"], started.run_id)
        await asyncio.to_thread(declare_oldest_dead, tmp_path / "store.db")
        events = await b.events(started.run_id)
        assert names(events)[-1] == "run.cancelled"
        assert names(events).count("run.cancelling") == 1
        await until(lambda: upstream.closed_early)
        assert await a.events(started.run_id) == events


async def test_a_reader_during_a_handover_reads_the_store(
    upstream: ScriptedUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run still stops here when the reader starts: its events that are not stored are generated again elsewhere."""
    stopping, proceed = asyncio.Event(), asyncio.Event()
    stopped = ActiveRun.stopped

    async def stopped_late(run: ActiveRun) -> None:
        if run.stop == "lost":
            stopping.set()
            await proceed.wait()
        await stopped(run)

    monkeypatch.setattr(ActiveRun, "stopped", stopped_late)
    upstream.script(Reply(chunks=WORDS, pause_after=3), Reply("Done."))
    async with two(upstream, tmp_path) as (a, b):
        started = await a.start_run()
        await until(lambda: upstream.requests)
        await asyncio.to_thread(declare_oldest_dead, tmp_path / "store.db")
        async with asyncio.timeout(60):
            await stopping.wait()
            events = await a.events(started.run_id)
        # What the reader has seen of the first attempt, a `threadhold.reset` takes back.
        resets = [number for number, event in enumerate(events) if event.name == "threadhold.reset"]
        assert text_of(events[resets[-1] + 1 :] if resets else events) == "Done."
        assert events[-1] == (await b.events(started.run_id))[-1]
        proceed.set()


async def start_once_registered(harness: Harness) -> StartedRun:
    """Start a run when the process has registered again."""
    async with asyncio.timeout(5):
        while True:
            with suppress(LeaseLost):
                return await harness.start_run()
            await asyncio.sleep(0.05)


async def test_outputs_submitted_to_both_are_accepted_once(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with two(upstream, tmp_path) as harnesses:
        for _ in range(8):
            upstream.script(Reply(tool_calls=[("getTime", "{}")]), Reply("It is noon."))
            started = await harnesses[0].start_run(tools=[TIME])
            await harnesses[0].events(started.run_id)
            (call,) = (await harnesses[1].run(started))["required_action"]["submit_tool_outputs"]["tool_calls"]
            outputs = [{"tool_call_id": call["id"], "output": "noon"}]
            where = (OWNER, started.run["thread_id"], started.run_id)
            asked = [each.runner.submit(*where, outputs) for each in harnesses]
            done = await asyncio.gather(*asked, return_exceptions=True)
            (refused,) = [each for each in done if isinstance(each, BaseException)]
            assert isinstance(refused, InvalidRequest)
            assert "do not accept tool outputs" in refused.message
            for each in harnesses:
                assert text_of(await each.events(started.run_id)) == "It is noon."
        assert len(upstream.requests) == 16


async def test_a_dead_holder_s_run_is_continued_once(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    upstream.script(Reply(chunks=WORDS, pause_after=3), Reply("Done."))
    async with two(upstream, tmp_path) as (a, b):
        started = await a.start_run()
        await until(lambda: upstream.requests)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(declare_oldest_dead, tmp_path / "store.db")
        await until(lambda: upstream.closed_early)
        events = await b.events(started.run_id)
        assert names(events)[-1] == "run.completed"
        assert [message["content"][0]["text"]["value"] for message in await b.rows("message", started)] == [
            "Hello",
            "Done.",
        ]
        assert len(upstream.requests) == 2
        again = await start_once_registered(a)
        assert names(await a.events(again.run_id))[-1] == "run.completed"


async def test_a_deleted_threads_run_stops_in_both(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    upstream.script(Reply(chunks=WORDS, pause_after=3))
    async with two(upstream, tmp_path, first_poll_s=60) as (a, b):
        started = await a.start_run()
        await until(lambda: upstream.requests)
        await b.runner.delete_thread(OWNER, started.run["thread_id"])
        upstream.release()  # the next commit shows it
        await until(lambda: a.runner.executing == 0)
        with pytest.raises(NotFound):
            await a.runner.cancel(OWNER, started.run["thread_id"], started.run_id)


async def test_queued_runs_are_executed_by_any_process_with_capacity(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    limits = Limits(max_executing=1)
    upstream.script(Reply(chunks=WORDS, pause_after=3))
    async with two(upstream, tmp_path, limits=limits) as (a, b):
        first = await a.start_run()
        await until(lambda: upstream.requests)
        others = [await a.start_run() for _ in range(5)]
        for each in others:
            assert names(await a.events(each.run_id))[-1] == "run.completed"
        assert len(upstream.requests) == 6
        upstream.release()
        assert names(await b.events(first.run_id))[-1] == "run.completed"


async def test_a_stopping_process_leaves_readers_and_queued_runs_to_others(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    upstream.script(Reply(chunks=WORDS, pause_after=3))
    async with two(upstream, tmp_path, limits=Limits(max_executing=1)) as (a, b):
        await a.runner.drain(0)
        first, second = await b.start_run(), await b.start_run()
        await asyncio.sleep(0.3)  # time to see the queued run
        assert a.runner.waiting == 0
        for each in (first, second):
            async with asyncio.timeout(5):
                with pytest.raises(Unavailable, match="read its events from number"):
                    await a.events(each.run_id)
        upstream.release()
        assert names(await b.events(second.run_id))[-1] == "run.completed"


async def test_a_run_that_ended_elsewhere_is_read_to_its_end(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with two(upstream, tmp_path) as (a, b):
        started = await a.start_run()
        seen = await b.events(started.run_id)
        assert names(seen)[-1] == "run.completed"
        assert seen == await a.events(started.run_id)


async def test_missing_and_ended_runs_are_refused_by_both(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with two(upstream, tmp_path) as (a, b):
        started = await a.start_run()
        await a.events(started.run_id)
        for each in (a, b):
            with pytest.raises(InvalidRequest, match="Cannot cancel run with status 'completed'"):
                await each.runner.cancel(OWNER, started.run["thread_id"], started.run_id)
        await b.runner.delete_thread(OWNER, started.run["thread_id"])
        with pytest.raises(NotFound):
            await a.runner.cancel(OWNER, started.run["thread_id"], started.run_id)
