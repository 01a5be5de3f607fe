"""A run's first reply is begun before its graph: whatever becomes of the graph, the two end together."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from tests.graphs.world import OWNER, TIME, WEATHER, World, world
from tests.upstream import Fail, Hang, Reply, ScriptedUpstream


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as scripted:
        yield scripted


async def until(condition: Callable[[], Any], limit_s: float = 5.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.005)


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
