"""The chat chain with and without our server, called in all four ways."""

import asyncio
import contextlib
import time
from typing import Any

import orjson
import pytest

from chains import build_chat_chain
from tests.chains.conftest import Connect
from tests.upstream import Fail, Raw, Reply, ScriptedUpstream
from wire.errors import InvalidRequest, RunError

ASKED = {"system": "Be brief.", "human": "hello there"}


async def test_default_values_of_a_form_are_not_sent(up: ScriptedUpstream, connect: Connect) -> None:
    chain = build_chat_chain(await connect(up.url))
    untouched: Any = {"configurable": {spec.id: spec.default for spec in chain.config_specs}}
    await chain.ainvoke(ASKED, untouched)
    assert not {"temperature", "max_tokens"} & up.requests[-1].body.keys()


async def test_the_chain_streams_and_sends_only_given_fields(up: ScriptedUpstream, connect: Connect) -> None:
    chain = build_chat_chain(await connect(up.url))
    assert [chunk async for chunk in chain.astream(ASKED) if chunk] == ["Echo:", " hello", " there"]
    config = {"configurable": {"model": "other", "temperature": 0.2, "max_tokens": 7}}
    assert await chain.ainvoke({"human": "hi"}, config) == "Echo: hi"  # type: ignore[arg-type]
    plain, configured = (seen.body for seen in up.requests)
    assert [message["content"] for message in plain["messages"]] == ["Be brief.", "hello there"]
    assert not {"temperature", "max_tokens"} & plain.keys()
    assert (configured["model"], configured["temperature"], configured["max_tokens"]) == ("other", 0.2, 7)
    assert [message["role"] for message in configured["messages"]] == ["user"]


@pytest.mark.parametrize(
    ("given", "param"),
    [({"humann": "hi"}, "humann"), ({**ASKED, "context": "x"}, "context"), ({"system": "s"}, "human"), ({}, "human")],
    ids=["misspelt", "additional", "missing", "empty"],
)
async def test_an_invalid_input_is_refused_with_its_name(
    up: ScriptedUpstream, connect: Connect, given: Any, param: str
) -> None:
    chain = build_chat_chain(await connect(up.url), returns_errors=True)
    with pytest.raises(InvalidRequest) as refused:
        await chain.ainvoke(given)
    assert refused.value.param == param
    with pytest.raises(InvalidRequest):
        await chain.abatch([ASKED, given])


async def test_calls_of_unoffered_functions_are_combined_in_linear_time(up: ScriptedUpstream, connect: Connect) -> None:
    call = [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":['}}]
    more = [{"index": 0, "function": {"arguments": "'b'," * 12}}]
    deltas = [{"content": "Noon."}, {"tool_calls": call}, *[{"tool_calls": more}] * 150]
    frames = [b"data: " + orjson.dumps({"choices": [{"index": 0, "delta": delta}]}) + b"\n\n" for delta in deltas]
    chain = build_chat_chain(await connect(up.url))
    await chain.ainvoke(ASKED)  # imports
    up.script(Raw([*frames, b"data: [DONE]\n\n"]))
    started = time.thread_time()
    assert await chain.ainvoke(ASKED) == "Noon."
    assert time.thread_time() - started < 1


def test_the_chain_works_synchronously_from_a_url(up: ScriptedUpstream) -> None:
    chain = build_chat_chain(up.url)
    assert chain.invoke(ASKED) == "Echo: hello there"
    assert [chunk for chunk in chain.stream(ASKED) if chunk] == ["Echo:", " hello", " there"]
    assert chain.batch([ASKED, ASKED]) == ["Echo: hello there"] * 2


def test_leaving_a_synchronous_stream_closes_the_upstream(up: ScriptedUpstream) -> None:
    up.script(Reply("one two three four", pause_after=2))
    with contextlib.closing(build_chat_chain(up.url).stream(ASKED)) as stream:  # type: ignore[type-var]
        next(stream)
    up.wait_for(lambda seen: seen.closed_early == 1)


async def test_leaving_a_stream_closes_the_upstream_immediately(up: ScriptedUpstream, connect: Connect) -> None:
    up.script(Reply("one two three four", pause_after=2))
    chain = build_chat_chain(await connect(up.url))
    received = asyncio.Event()

    async def read() -> None:
        async for chunk in chain.astream(ASKED):
            if chunk:
                received.set()

    task = asyncio.create_task(read())
    await received.wait()
    task.cancel()
    await up.eventually(lambda seen: seen.closed_early == 1, 0.2)


async def test_a_failure_is_raised_or_shown(up: ScriptedUpstream, connect: Connect) -> None:
    up.default = lambda body: Fail(400, {"error": {"message": "no such model"}})
    upstream = await connect(up.url)
    with pytest.raises(RunError, match="no such model"):
        await build_chat_chain(upstream).ainvoke(ASKED)
    assert "no such model" in await build_chat_chain(upstream, returns_errors=True).ainvoke(ASKED)


def test_the_chain_shows_its_fields_and_can_be_drawn() -> None:
    chain = build_chat_chain("http://127.0.0.1:9/v1")
    assert [spec.id for spec in chain.config_specs] == ["max_tokens", "model", "temperature"]
    assert set(chain.get_input_jsonschema()["properties"]) == {"system", "human"}
    assert "ChatModel" in chain.get_graph().draw_mermaid()
