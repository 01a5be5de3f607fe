"""A run's first reply is begun before its graph: whatever becomes of the graph, the two end together."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk

from graphs.live import Stop
from graphs.opening import FEW
from graphs.pictures import Pictures
from graphs.turns import Limits
from store.blobs import FolderBlobs
from tests.graphs.world import OWNER, TIME, WEATHER, World, until, world
from tests.upstream import Fail, Hang, Reply, ScriptedUpstream


class SlowGraph:
    """Stands before a graph: `before` comes between a run's taking up and its graph."""

    def __init__(self, graph: Any, before: Callable[[], Any]) -> None:
        self._graph = graph
        self._before = before

    async def astream(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        await self._before()
        async for update in self._graph.astream(*args, **options):
            yield update


def slow_down(small: World, before: Callable[[], Any]) -> None:
    """Let both graphs, without tools and with, begin after `before` only."""
    execution: Any = small.runner._execution
    execution._answering = SlowGraph(execution._answering, before)
    execution.graph = SlowGraph(execution.graph, before)


with_and_without_tools = pytest.mark.parametrize("tools", [[], [TIME]], ids=["without tools", "with tools"])


@pytest.fixture(params=["few", "many"])
def alone_or_crowded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every run be one of few, or one of many."""
    if request.param == "many":
        monkeypatch.setattr("graphs.execution.FEW", 0)


in_any_company = pytest.mark.usefixtures("alone_or_crowded")


@with_and_without_tools
async def test_in_a_crowd_a_graph_is_set_up_when_its_reply_has_ended(
    upstream: ScriptedUpstream, tools: list[Any]
) -> None:
    upstream.script(*[Hang()] * FEW, Reply("Yes.", start_s=0.2))
    after_its_reply: list[bool] = []

    async with world(upstream) as small:

        async def note() -> None:
            newest = list(small.runner._execution._lives.values())[-1]
            after_its_reply.append(newest._held is not None)

        slow_down(small, note)
        for number in range(FEW):
            await small.begin(tools=tools)
            await until(lambda wanted=number + 1: len(after_its_reply) == len(upstream.requests) == wanted)
        started = await small.begin(tools=tools)
        await small.events(started.run_id)
        assert (await small.run(started))["status"] == "completed"
    assert after_its_reply == [False] * FEW + [True]


@in_any_company
@with_and_without_tools
async def test_the_model_is_asked_once_and_before_the_graph_is_set_up(
    upstream: ScriptedUpstream, tools: list[Any]
) -> None:
    upstream.script(Reply("Yes."))
    async with world(upstream) as small:
        slow_down(small, lambda: until(lambda: upstream.requests))
        started = await small.begin(tools=tools)
        await small.events(started.run_id)
        assert (await small.run(started))["status"] == "completed"
    assert len(upstream.requests) == 1


@in_any_company
@with_and_without_tools
async def test_an_answer_that_fails_before_its_graph_comes_fails_the_run(
    upstream: ScriptedUpstream, tools: list[Any]
) -> None:
    upstream.script(Fail(401, {"error": {"message": "No such key."}}))
    async with world(upstream) as small:
        slow_down(small, lambda: asyncio.sleep(0.2))
        started = await small.begin(tools=tools)
        await small.events(started.run_id)
        run = await small.run(started)
        assert run["status"] == "failed"
        assert "No such key." in run["last_error"]["message"]


@with_and_without_tools
async def test_a_graph_that_breaks_takes_its_answer_along(upstream: ScriptedUpstream, tools: list[Any]) -> None:
    upstream.script(Hang())

    async def breaks() -> None:
        await until(lambda: upstream.requests)
        raise RuntimeError("a defect")

    async with world(upstream) as small:
        slow_down(small, breaks)
        started = await small.begin(tools=tools)
        await until(lambda: upstream.closed_early == 1)
        await until(lambda: not small.runner.executing)
        assert started.run_id in small.runner._execution.broken


@in_any_company
@with_and_without_tools
async def test_a_cancel_that_comes_before_the_graph_stops_the_upstream(
    upstream: ScriptedUpstream, tools: list[Any]
) -> None:
    upstream.script(Hang())
    async with world(upstream) as small:
        slow_down(small, lambda: asyncio.sleep(60))
        started = await small.begin(tools=tools)
        await until(lambda: upstream.requests)
        await small.runner.cancel(OWNER, started.run["thread_id"], started.run_id)
        await until(lambda: upstream.closed_early == 1)
        await until(lambda: not small.runner.executing)
        assert (await small.run(started))["status"] == "cancelled"


@in_any_company
async def test_calls_that_come_before_the_graph_pause_the_run_and_it_goes_on(upstream: ScriptedUpstream) -> None:
    upstream.script(Reply(tool_calls=[("getWeather", {"place": "Rome"})]), Reply("Sunny."))
    async with world(upstream) as small:
        slow_down(small, lambda: asyncio.sleep(0.2))
        started = await small.begin(tools=[WEATHER])
        await small.events(started.run_id)
        run = await small.run(started)
        assert run["status"] == "requires_action"
        (call,) = run["required_action"]["submit_tool_outputs"]["tool_calls"]
        outputs = [{"tool_call_id": call["id"], "output": "21 degrees"}]
        await small.runner.submit(OWNER, started.run["thread_id"], started.run_id, outputs)
        await small.events(started.run_id)
        assert (await small.run(started))["status"] == "completed"
    assert len(upstream.requests) == 2
    assert upstream.requests[1].body["messages"][-1]["content"] == "21 degrees"


class SlowPictures(Pictures):
    """Take their time, and each their own."""

    waits: Sequence[float] = (0.1, 0.05)
    looks = 0

    async def show(self, owner: str, messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        self.looks += 1
        await asyncio.sleep(self.waits[self.looks % 2])
        return await super().show(owner, messages)


@pytest.mark.parametrize("stands_in_line", [False, True], ids=["at once", "from the line"])
async def test_pictures_that_take_long_are_read_once_and_no_message_is_shown_twice(
    upstream: ScriptedUpstream, tmp_path: Path, stands_in_line: bool
) -> None:
    upstream.script(Reply("First.", start_s=0.3), Reply(tool_calls=[("nobodyKnows", {})]), Reply("Sunny."))
    async with world(upstream, limits=Limits(at_work=1 if stands_in_line else 2)) as small:
        surroundings: Any = small.runner._surroundings
        surroundings._pictures = pictures = SlowPictures(small.store, FolderBlobs(tmp_path))
        await small.begin()
        await until(lambda: upstream.requests)
        looked = pictures.looks
        started = await small.begin(tools=[WEATHER])
        await small.events(started.run_id)
        assert (await small.run(started))["status"] == "completed"
        assert pictures.looks == looked + 1
    roles = [[message["role"] for message in seen.body["messages"]] for seen in upstream.requests]
    assert [shown.count("user") for shown in roles] == [1, 1, 1]


@in_any_company
@with_and_without_tools
@pytest.mark.parametrize("stop", ["cancelled", "expired"])
async def test_what_a_whole_reply_has_cost_is_booked_where_the_run_is_stopped_before_its_graph(
    upstream: ScriptedUpstream, tools: list[Any], stop: Stop
) -> None:
    upstream.script(Reply("Yes it is."))
    async with world(upstream) as small:
        slow_down(small, lambda: asyncio.sleep(60))
        started = await small.begin(tools=tools)
        live: Any = small.runner._execution.get(started.run_id)
        await until(lambda: live._held is not None)
        if stop == "cancelled":
            await small.runner.cancel(OWNER, started.run["thread_id"], started.run_id)
        else:
            live.halt(stop)
        await until(lambda: not small.runner.executing)
        run = await small.run(started)
        assert run["status"] == stop
        assert run["usage"]["completion_tokens"] > 0
        (step,) = await small.rows("step", started)
        assert step["usage"] == run["usage"]


class SlowToClose:
    """A model that says one word and takes its time to be closed."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.states: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    async def stream(self, call: Any) -> AsyncGenerator[AIMessageChunk]:
        del call
        try:
            self.states.append("asked")
            yield AIMessageChunk(content="Hello")
            await asyncio.sleep(60)
        finally:
            self.states.append("closing")
            try:
                await asyncio.sleep(0.3)
            finally:
                self.states.append("closed")


@in_any_company
@with_and_without_tools
@pytest.mark.parametrize("stops", [1, 2])
async def test_a_run_ends_when_its_reply_has_however_often_it_is_stopped(
    upstream: ScriptedUpstream, tools: list[Any], stops: int
) -> None:
    async with world(upstream) as small:
        surroundings: Any = small.runner._surroundings
        surroundings._model = model = SlowToClose(surroundings._model)
        slow_down(small, lambda: asyncio.sleep(60))
        started = await small.begin(tools=tools)
        live: Any = small.runner._execution.get(started.run_id)
        await until(lambda: model.states)
        for _ in range(stops):
            live.halt("expired")
            await asyncio.sleep(0.05)
        await live.ended.wait()
        assert model.states == ["asked", "closing", "closed"]
        assert (await small.run(started))["status"] == "expired"


@in_any_company
@with_and_without_tools
async def test_a_stop_before_the_first_step_ends_the_run_as_well(upstream: ScriptedUpstream, tools: list[Any]) -> None:
    upstream.script(Reply("Yes."))
    async with world(upstream) as small:
        thread, assistant = await small.thread("Hello"), await small.assistant(tools=tools)
        begin = small.runner._execution.begin

        def begin_and_stop(live: Any, *args: Any, **options: Any) -> None:
            begin(live, *args, **options)
            live.halt("expired")

        small.runner._execution.begin = begin_and_stop  # type: ignore[method-assign]
        started = await small.start(thread, assistant)
        await until(lambda: not small.runner.executing)
        assert (await small.run(started))["status"] == "expired"
        assert not upstream.requests
