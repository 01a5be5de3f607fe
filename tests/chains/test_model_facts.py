"""Facts that are remembered by clients' model names are limited in number."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import pytest
from langchain_core.messages import HumanMessage

from chains import OpenAIBackend, ReplyCall
from chains.model_facts import MAX_MODELS, RecentModels
from telemetry.context import set_current_owner
from tests.chains.conftest import Connect
from tests.upstream import Fail, Reply, ScriptedUpstream, Step
from wire.errors import RunError
from wire.model_options import ModelOptions

T = TypeVar("T")


def test_the_latest_names_are_known() -> None:
    recent: RecentModels[int] = RecentModels()
    for number in range(MAX_MODELS):
        recent[f"model {number}"] = number
    recent["model 0"] = 0
    recent["one more"] = 1
    assert len(recent) == MAX_MODELS
    assert "model 0" in recent
    assert "model 1" not in recent
    recent["x" * 10_000] = 1
    assert "x" * 10_000 not in recent
    assert len(recent) == MAX_MODELS


async def test_invented_names_do_not_fill_the_memory(up: ScriptedUpstream, connect: Connect) -> None:
    upstream = await connect(up.url)
    up.default = lambda body: Reply("<think>Hm.</think>So.")
    for number in range(MAX_MODELS + 50):
        upstream.learn_limit(f"made up {number}", 4096)
        upstream.note_reasoning(f"made up {number}", begins=True)
        upstream.calibration.update(f"made up {number}", chars=1000, tokens=300)
    assert (upstream.context_limit("made up 49"), upstream.context_limit("made up 50")) == (None, 4096)
    assert len(upstream.reasoning_models) == len(upstream.calibration._ratios) == MAX_MODELS
    call = ReplyCall(model="made up 1049", messages=[HumanMessage("Well?")])
    assert [chunk async for chunk in OpenAIBackend(upstream).stream(call)]


async def acting(owner: str, work: Coroutine[Any, Any, T]) -> T:
    """Call a function for an owner, as a request's task does."""

    async def do() -> T:
        set_current_owner(owner)
        return await work

    return await asyncio.create_task(do())


def refusing(message: str, *fields: str) -> Callable[[dict[str, Any]], Step]:
    """Make a server that refuses requests with one of these fields."""
    return lambda body: Fail(400, {"error": {"message": message}}) if body.keys() & set(fields) else Reply("So.")


OVERFLOW = refusing("request (9000 tokens) exceeds the available context size (4096 tokens)", "messages")
NO_TOOLS = refusing("m does not support tools", "tools")
WEATHER = {"type": "function", "function": {"name": "w", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize(
    ("server", "learned"),
    [
        (refusing("Unrecognized request argument supplied: temperature", "temperature"), "field"),
        (OVERFLOW, "context"),
        (NO_TOOLS, "mode"),
        (lambda _: Reply("Hm.</think>So."), "reasoning"),
    ],
    ids=["a field", "a context", "function calls", "reasoning"],
)
async def test_facts_learned_from_one_owner_apply_to_no_other(
    up: ScriptedUpstream, connect: Connect, server: Any, learned: str
) -> None:
    upstream = await connect(up.url)
    replies = OpenAIBackend(upstream, tool_calls="auto")
    up.default = server

    async def request(**fields: Any) -> None:
        call = ReplyCall(**{"model": "m", "messages": [HumanMessage("Hi")], **fields})
        with suppress(RunError):
            [chunk async for chunk in replies.stream(call)]

    async def remember(mode: Any) -> None:
        replies._modes._capabilities._modes["m"] = mode

    async def know() -> bool:
        match learned:
            case "field":
                asked = len(up.requests)
                await request(options=ModelOptions(temperature=0.5))
                return "temperature" not in up.requests[asked].body
            case "context":
                return upstream.context_limit("m") is not None
            case "mode":
                return replies._modes._capabilities._known("m") == "schema"
        return "m" in upstream.reasoning_models

    if learned == "mode":
        for owner in ("ann", "bob"):
            await acting(owner, remember("native"))
    offered = {"tools": [WEATHER]} if learned == "mode" else {}
    await acting("ann", request(options=ModelOptions(temperature=0.5), **offered))
    assert await acting("ann", know())
    assert not await acting("bob", know())
