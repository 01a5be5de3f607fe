"""A run is one invocation of its graph: its nodes do the work, and the run ends with the graph."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk

from graphs.admission import Limits
from graphs.machine.build import compile_reply_graph, compile_run_graph
from retrieval.images import Images
from store.blobs import FolderBlobs
from tests.graphs.harness import TIME, WEATHER, harness, until
from tests.upstream import Reply, ScriptedUpstream

with_and_without_tools = pytest.mark.parametrize("tools", [[], [TIME]], ids=["without tools", "with tools"])


def test_the_drawn_graphs_have_the_nodes_that_run() -> None:
    edges = [
        {(edge.source, edge.target) for edge in graph.get_graph().edges}
        for graph in (compile_reply_graph(), compile_run_graph())
    ]
    assert edges[0] == {("__start__", "reply"), ("reply", "__end__")}
    assert {source for source, _ in edges[1]} == {"__start__", "prepare", "reply", "act", "pause", "finish"}


class SlowToClose:
    """A model that replies with one word and takes long to close."""

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


@with_and_without_tools
@pytest.mark.parametrize("stops", [1, 2])
async def test_a_run_ends_with_its_reply_however_often_it_is_stopped(
    upstream: ScriptedUpstream, tools: list[Any], stops: int
) -> None:
    async with harness(upstream) as small:
        contexts: Any = small.runner.contexts
        contexts._model = model = SlowToClose(contexts._model)
        started = await small.start_run(tools=tools)
        active: Any = small.runner._execution.get(started.run_id)
        await until(lambda: model.states)
        for _ in range(stops):
            active.stop_for("expired")
            await asyncio.sleep(0.05)
        await active.ended.wait()
        assert model.states == ["asked", "closing", "closed"]
        assert (await small.run(started))["status"] == "expired"


@with_and_without_tools
async def test_a_stop_before_the_first_step_ends_the_run_too(upstream: ScriptedUpstream, tools: list[Any]) -> None:
    upstream.script(Reply("Yes."))
    async with harness(upstream) as small:
        thread, assistant = await small.thread("Hello"), await small.assistant(tools=tools)
        start_run = small.runner._execution.start_run

        def start_and_stop(active: Any, *args: Any, **options: Any) -> None:
            start_run(active, *args, **options)
            active.stop_for("expired")

        small.runner._execution.start_run = start_and_stop  # type: ignore[method-assign]
        started = await small.start(thread, assistant)
        await until(lambda: not small.runner.executing)
        assert (await small.run(started))["status"] == "expired"
        assert not upstream.requests


class SlowImages(Images):
    """Returns the images slowly, each call after a delay of its own."""

    waits: Sequence[float] = (0.1, 0.05)
    looks = 0

    async def inline(self, owner: str, messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        self.looks += 1
        await asyncio.sleep(self.waits[self.looks % 2])
        return await super().inline(owner, messages)


@pytest.mark.parametrize("stands_in_line", [False, True], ids=["immediate", "from the queue"])
async def test_slow_images_are_read_once_and_messages_shown_once(
    upstream: ScriptedUpstream, tmp_path: Path, stands_in_line: bool
) -> None:
    upstream.script(Reply("First.", start_s=0.3), Reply(tool_calls=[("nobodyKnows", {})]), Reply("Sunny."))
    async with harness(upstream, limits=Limits(max_executing=1 if stands_in_line else 2)) as small:
        contexts: Any = small.runner.contexts
        contexts._pictures = pictures = SlowImages(small.store, FolderBlobs(tmp_path))
        await small.start_run()
        await until(lambda: upstream.requests)
        looked = pictures.looks
        started = await small.start_run(tools=[WEATHER])
        await small.events(started.run_id)
        assert (await small.run(started))["status"] == "completed"
        assert pictures.looks == looked + 1
    roles = [[message["role"] for message in seen.body["messages"]] for seen in upstream.requests]
    assert [shown.count("user") for shown in roles] == [1, 1, 1]
