"""Runs without a server: from any thread and loop, waiting and resumed, abandoned, closed, and stored in a file."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.types import Command

from chains import bridge
from graphs import RunGraph, build_run_graph
from tests.graphs.harness import TIME, WEATHER
from tests.process import ROOT
from tests.upstream import Reply, ScriptedUpstream
from wire.errors import InvalidRequest, NotFound, ThreadholdError, Unavailable

ON_ONE: Any = {"configurable": {"thread_id": "one"}}


def get_weather(city: str) -> str:
    """Weather of a city."""
    return f"Sunny in {city}."


async def get_tide(port: str) -> dict[str, str]:
    """Tide of a port."""
    await asyncio.sleep(0)
    return {"port": port, "tide": "low"}


@tool
def get_moon() -> str:
    """Phase of the moon."""
    raise OSError("cloudy")


@pytest.fixture
def up() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture
def graph(up: ScriptedUpstream) -> Iterator[RunGraph]:
    with build_run_graph(up.url, tools=[get_weather, get_tide, get_moon, TIME], instructions="Be kind.") as graph:
        yield graph


def text_of(chunks: list[dict[str, Any]]) -> str:
    deltas = [chunk["data"]["delta"]["content"] for chunk in chunks if chunk["event"] == "thread.message.delta"]
    return "".join(part["text"]["value"] for content in deltas for part in content)


def calls_of(waiting: dict[str, Any]) -> dict[str, str]:
    """Return the ids of the waiting calls by name."""
    assert waiting["event"] == "thread.run.requires_action"
    calls = waiting["data"]["required_action"]["submit_tool_outputs"]["tool_calls"]
    return {call["function"]["name"]: call["id"] for call in calls}


def tool_messages(up: ScriptedUpstream) -> list[str]:
    """Return the tool messages of the newest request."""
    return [message["content"] for message in up.requests[-1].body["messages"] if message["role"] == "tool"]


def test_one_graph_is_called_from_any_thread_and_event_loop(graph: RunGraph, up: ScriptedUpstream) -> None:
    assert graph.invoke({"content": "sync"}, ON_ONE)["text"] == "Echo: sync"
    assert asyncio.run(graph.ainvoke({"content": "a loop"}, ON_ONE))["text"] == "Echo: a loop"
    assert asyncio.run(graph.ainvoke({"content": "another"}, ON_ONE))["text"] == "Echo: another"
    assert text_of(list(graph.stream({"content": "stream"}, ON_ONE))) == "Echo: stream"
    assert [each["text"] for each in graph.batch([{"content": "a"}, {"content": "b"}])] == ["Echo: a", "Echo: b"]

    async def read() -> list[dict[str, Any]]:
        return [chunk async for chunk in graph.astream({"content": "astream"}, ON_ONE)]

    seen = asyncio.run(read())
    assert text_of(seen) == "Echo: astream"
    assert [chunk["id"] for chunk in seen] == sorted(chunk["id"] for chunk in seen)
    result = [message["content"] for message in up.requests[-1].body["messages"]]
    assert result[:3] == ["Be kind.", "sync", "Echo: sync"]
    assert len(result) == 10


async def test_the_graph_is_a_runnable_and_an_asynchronous_context_manager(up: ScriptedUpstream) -> None:
    async with build_run_graph(up.url) as graph:
        chain = RunnableLambda(lambda text: {"content": text}) | graph | RunnableLambda(lambda made: made["text"])
        assert await chain.ainvoke("hi") == "Echo: hi"
    with pytest.raises(Unavailable, match="closed"):
        await graph.ainvoke({"content": "late"})


def test_events_are_streamed_live_and_leaving_stops_the_model(graph: RunGraph, up: ScriptedUpstream) -> None:
    up.script(Reply("one two three", pause_after=3))
    for chunk in graph.stream({"content": "count"}):
        if chunk["event"] == "thread.message.delta":
            break
    up.wait_for(lambda up: up.closed_early == 1)


async def test_cancelling_an_asynchronous_reader_stops_the_model(graph: RunGraph, up: ScriptedUpstream) -> None:
    up.script(Reply("one two three", pause_after=3))
    reading = asyncio.create_task(graph.ainvoke({"content": "count"}))
    await up.eventually(lambda up: up.open_streams == 1, asked_by=reading)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await up.eventually(lambda up: up.closed_early == 1)


def test_a_function_s_schema_makes_the_run_wait_for_its_output(graph: RunGraph, up: ScriptedUpstream) -> None:
    for resume in ("turn", "command", "one output"):
        up.script(Reply(tool_calls=[("getTime", {})]), Reply("Noon."))
        waiting = graph.invoke({"content": "time?"}, ON_ONE)
        call_id = calls_of(waiting)["getTime"]
        given: Any = {
            "turn": {"run_id": waiting["data"]["id"], "tool_outputs": [{"tool_call_id": call_id, "output": "12:00"}]},
            "command": Command(resume={call_id: "12:00"}),
            "one output": Command(resume="12:00"),
        }[resume]
        done = graph.invoke(given, ON_ONE)
        assert [done["event"], done["text"]] == ["thread.run.completed", "Noon."]
        assert tool_messages(up)[-1] == "12:00"
    with pytest.raises(InvalidRequest, match="No run waits on thread 'one'"):
        graph.invoke(Command(resume="12:00"), ON_ONE)
    with pytest.raises(InvalidRequest, match="thread_id"):
        graph.invoke(Command(resume="12:00"))


def test_calls_of_a_function_s_schema_can_end_the_run(up: ScriptedUpstream) -> None:
    with build_run_graph(up.url, tools=[TIME], client_calls="end") as graph:
        for config in (None, ON_ONE):  # on a new thread, and on a thread that exists
            up.script(Reply(tool_calls=[("getTime", {})]))
            *_, step, run = graph.stream({"content": "time?"}, config)
            assert (run["event"], run["data"]["required_action"]) == ("thread.run.completed", None)
            assert step["event"] == "thread.run.step.completed"
            assert step["data"]["step_details"]["tool_calls"][0]["function"]["name"] == "getTime"
        assert graph.invoke({"content": "Then?"}, ON_ONE)["event"] == "thread.run.completed"
    with pytest.raises(ValueError, match="get_weather, get_moon are called here"):
        build_run_graph(up.url, tools=[get_weather, TIME, get_moon], client_calls="end")


def test_functions_of_the_program_are_called_and_the_run_continues(graph: RunGraph, up: ScriptedUpstream) -> None:
    up.script(Reply(tool_calls=[("get_weather", {"city": "Paris"}), ("get_tide", {"port": "Brest"})]))
    up.script(Reply(tool_calls=[("get_moon", {})]), Reply("Done."))
    done = graph.invoke({"content": "?"})
    assert [done["event"], done["text"]] == ["thread.run.completed", "Done."]
    *right, cloudy = tool_messages(up)
    assert right == ["Sunny in Paris.", '{"port": "Brest", "tide": "low"}']
    assert cloudy == "`get_moon` failed: OSError: cloudy"


def test_calls_of_both_kinds_are_answered_together(graph: RunGraph, up: ScriptedUpstream) -> None:
    up.script(Reply(tool_calls=[("getTime", {}), ("get_weather", {"city": "Rome"})]), Reply("Both."))
    ids = calls_of(graph.invoke({"content": "?"}, ON_ONE))
    assert graph.invoke(Command(resume={ids["getTime"]: "12:00"}), ON_ONE)["text"] == "Both."
    assert tool_messages(up) == ["12:00", "Sunny in Rome."]
    up.script(Reply(tool_calls=[("get_weather", {"city": "Rome"}), ("getTime", {})]), Reply("Both."))
    graph.invoke({"content": "?"}, ON_ONE)
    assert graph.invoke(Command(resume="13:00"), ON_ONE)["text"] == "Both."  # the one output that is the client's
    assert tool_messages(up)[-2:] == ["Sunny in Rome.", "13:00"]
    up.script(Reply(tool_calls=[("getTime", {}), ("getTime", {})]))
    graph.invoke({"content": "?"}, ON_ONE)
    with pytest.raises(InvalidRequest, match="2 calls are waiting"):
        graph.invoke(Command(resume="12:00"), ON_ONE)


def test_a_reader_that_leaves_during_function_calls_cancels_the_run(up: ScriptedUpstream) -> None:
    asked, go = threading.Event(), threading.Event()

    def slow() -> str:
        """Take long."""
        asked.set()
        go.wait(5)
        return "late"

    with build_run_graph(up.url, tools=[slow]) as graph:
        up.script(Reply(tool_calls=[("slow", {})]), Reply("Never."))
        stream = graph.stream({"content": "?"}, ON_ONE)
        waiting = next(chunk for chunk in stream if chunk["event"] == "thread.run.requires_action")
        assert asked.wait(5)
        stream.close()  # type: ignore[attr-defined]
        go.set()
        end = time.monotonic() + 60
        while graph.invoke({"run_id": waiting["data"]["id"]})["event"] != "thread.run.cancelled":
            assert time.monotonic() < end
    assert len(up.requests) == 1


def test_invalid_turns_raise_and_a_failed_run_has_the_reason(graph: RunGraph, up: ScriptedUpstream) -> None:
    with pytest.raises(InvalidRequest, match="Give `content`"):
        graph.invoke({})
    with pytest.raises(NotFound, match="run_none"):
        list(graph.stream({"run_id": "run_none"}))
    with pytest.raises(ThreadholdError):
        build_run_graph("ftp://127.0.0.1/")
    with pytest.raises(ThreadholdError, match="tools"):
        build_run_graph(up.url, tools=[{"type": "function"}])
    with pytest.raises(ValueError, match="docstring"):
        build_run_graph(up.url, tools=[lambda: None])
    with build_run_graph("http://127.0.0.1:9/v1") as unreachable:
        failed = unreachable.invoke({"content": "?"})
    assert failed["event"] == "thread.run.failed"
    assert "127.0.0.1" in failed["data"]["last_error"]["message"]


def test_the_graph_is_drawn_without_a_store_or_connection(up: ScriptedUpstream) -> None:
    drawn = build_run_graph(up.url).get_graph().draw_mermaid()
    for node in ("prepare", "reply", "act", "pause", "finish"):
        assert f"{node}({node})" in drawn
    assert not up.requests


def test_a_run_that_waits_in_a_file_continues_in_another_graph(up: ScriptedUpstream, tmp_path: Path) -> None:
    file, ids = tmp_path / "runs.db", []
    up.script(Reply(tool_calls=[("getWeather", {"place": "Oslo"})]))
    with build_run_graph(up.url, tools=[WEATHER], store=file) as first:
        waiting = first.invoke({"content": "weather?"}, ON_ONE)
        ids.append(waiting["data"]["assistant_id"])
    up.script(Reply("Snow."))
    with build_run_graph(up.url, tools=[WEATHER], store=file) as second:
        done = second.invoke(Command(resume="snow"), ON_ONE)
        assert done["text"] == "Snow."
        ids.append(second.invoke({"content": "again"}, ON_ONE)["data"]["assistant_id"])
    assert ids[0] == ids[1]


def test_a_run_continues_when_its_functions_are_available_again(up: ScriptedUpstream, tmp_path: Path) -> None:
    file = tmp_path / "runs.db"
    up.script(Reply(tool_calls=[("get_weather", {"city": "Oslo"})]))
    # A program that knows the function but cannot call it leaves the run in the same state as a program that was killed
    # during the call.
    with build_run_graph(up.url, tools=[convert_to_openai_tool(get_weather)], store=file) as first:
        run_id = first.invoke({"content": "weather?"}, ON_ONE)["data"]["id"]
    up.script(Reply("Snow."))
    with build_run_graph(up.url, tools=[get_weather], store=file) as second:
        assert second.invoke({"run_id": run_id})["event"] == "thread.run.requires_action"  # a reader without functions
        assert second.invoke(Command(resume={}), ON_ONE)["text"] == "Snow."
    assert tool_messages(up) == ["Sunny in Oslo."]


def test_any_langchain_chat_model_can_be_used() -> None:
    model = GenericFakeChatModel(messages=iter([AIMessage("It is a loom."), AIMessage("Yes.")]))
    with build_run_graph(model, instructions="Be kind.") as graph:
        assert text_of(list(graph.stream({"content": "what?"}))) == "It is a loom."
    with build_run_graph(FakeListChatModel(responses=["x"]), tools=[get_weather]) as graph:
        failed = graph.invoke({"content": "?"})
    assert failed["data"]["last_error"]["message"].startswith("FakeListChatModel does not support tools.")


def test_a_program_that_ends_without_closing_does_not_hang(up: ScriptedUpstream, tmp_path: Path) -> None:
    up.script(Reply("one two three", pause_after=2))
    program = (
        "from graphs import build_run_graph\n"
        f"stream = build_run_graph({up.url!r}).stream({{'content': 'count'}})\n"
        "print(next(chunk['event'] for chunk in stream if chunk['event'] == 'thread.message.delta'))\n"
    )
    result = {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=result, capture_output=True, text=True, timeout=40, check=False
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "thread.message.delta", "")
    assert not list(tmp_path.iterdir())
    up.wait_for(lambda up: up.closed_early == 1)


def test_an_interrupted_program_stops_the_model_before_it_ends(up: ScriptedUpstream) -> None:
    up.script(Reply("one two three", pause_after=2))
    program = (
        "from graphs import build_run_graph\n"
        f"graph = build_run_graph({up.url!r})\n"
        "try:\n"
        "    graph.invoke({'content': 'count'})\n"
        "except KeyboardInterrupt:\n"
        "    input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE
    ) as running:
        up.wait_for(lambda up: up.open_streams == 1, timeout_s=30)
        running.send_signal(signal.SIGINT)
        try:
            up.wait_for(lambda up: up.closed_early == 1)
        finally:
            running.communicate(b"\n", timeout=10)
    assert running.returncode == 0


def test_a_synchronous_call_on_the_bridge_itself_is_refused(graph: RunGraph) -> None:
    async def call() -> None:
        graph.invoke({"content": "hi"})

    with pytest.raises(RuntimeError, match="await it instead"):
        bridge.run(call())
