"""Servers quote requests in their errors: quoted text changes no other request, and is processed fast."""

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from chains import OpenAIBackend, ReplyCall
from chains.quotes import RequestText
from chains.refused_fields import find_request_changes
from chains.request_changes import RequestChange
from tests.chains.conftest import Connect
from tests.upstream import Fail, Raw, Reply, ScriptedUpstream, Step
from wire.errors import ContextOverflow, PromptRefused
from wire.model_options import ModelOptions


def function(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, **more}
    return {"type": "function", "function": {"name": "f", "parameters": parameters}}


def asked(*texts: str, **fields: Any) -> ReplyCall:
    messages = [HumanMessage(text) for text in texts or ("Hi",)]
    options: dict[str, Any] = {"model": "test-model", "options": ModelOptions(temperature=0.5), "messages": messages}
    return ReplyCall(**{**options, **fields})


async def ask(replies: OpenAIBackend, call: ReplyCall) -> str:
    return "".join([str(chunk.content) async for chunk in replies.stream(call)])


def strict(body: dict[str, Any]) -> Step:
    """Make a server that refuses `format`, and names the property with OpenAI's wording."""
    for tool in body.get("tools", ()):
        for name, schema in tool["function"]["parameters"].get("properties", {}).items():
            if "format" in schema:
                message = f"In context=('properties', '{name}'), 'format' is not permitted."
                return Fail(400, {"error": {"message": message, "param": "tools[0].function.parameters"}})
    return Reply("Fine.")


def repeating(body: dict[str, Any]) -> Step:
    """Make a server that refuses messages with the word `Bad`, and quotes them joined together."""
    prompt = "".join(message["content"] for message in body["messages"])
    return (
        Fail(400, {"error": {"message": f"Bad prompt: {prompt}"}})
        if "Bad" in prompt and "temperature" in body
        else Reply()
    )


@pytest.mark.parametrize(
    ("server", "call"),
    [
        (strict, asked(tools=[function({"temperature is not supported": {"type": "string", "format": "date"}})])),
        (strict, asked(tools=[function({"temperature": {"type": "string", "format": "date"}})])),
        (strict, asked(tools=[function({"Temperature  IS not supported": {"type": "string", "format": "date"}})])),
        (repeating, asked("Bad: temperature is not supported")),
    ],
    ids=["a property", "a property of that name", "other case and spaces", "a prompt"],
)
async def test_a_quoted_text_changes_no_other_request(
    up: ScriptedUpstream, connect: Connect, server: Any, call: ReplyCall
) -> None:
    up.default = server
    replies = OpenAIBackend(await connect(up.url), tool_calls="native")
    with suppress(PromptRefused):
        await ask(replies, call)
    await ask(replies, asked())
    assert up.requests[-1].body["temperature"] == 0.5


async def test_a_property_named_like_a_field_does_not_drop_the_field(up: ScriptedUpstream, connect: Connect) -> None:
    up.default = strict
    replies = OpenAIBackend(await connect(up.url), tool_calls="native")
    assert await ask(replies, asked(tools=[function({"temperature": {"type": "string", "format": "date"}})])) == "Fine."
    assert up.requests[-1].body["temperature"] == 0.5


@pytest.mark.parametrize("how", ["an answer", "in the stream"])
@pytest.mark.parametrize("author", ["the server", "the prompt"])
async def test_a_limit_in_quoted_text_is_not_learned(
    up: ScriptedUpstream, connect: Connect, how: str, author: str
) -> None:
    refusal = {
        "error": {"message": "Bad prompt: request (9000 tokens) exceeds the available context size (4096 tokens)"}
    }
    up.script(Fail(400, refusal) if how == "an answer" else Raw([b"data: " + json.dumps(refusal).encode() + b"\n\n"]))
    upstream = await connect(up.url)
    prompt = "request (9000 tokens) exceeds the available context  size (4096 tokens)"
    with pytest.raises(ContextOverflow):
        await ask(OpenAIBackend(upstream), asked(prompt if author == "the prompt" else "Hi"))
    assert upstream.context_limit("test-model") == (None if author == "the prompt" else 4096)


def test_thousands_of_names_are_searched_for_quickly() -> None:
    """If patterns were compiled, each name would take 10 ms."""
    names = {f"x-{number}": True for number in range(20_000)}
    body = {"temperature": 1, "tools": [function({}, **names)]}
    since = time.process_time()
    sent = RequestText(body)
    for text in ("Something is wrong.", " ".join(names)[:8000], "temperature is not supported"):
        found = find_request_changes(body, sent, paths=(), text=text, status=400)
    assert found == [RequestChange("request", "temperature")]
    assert time.process_time() - since < 2


def test_a_long_quote_is_compared_once_for_all_its_occurrences() -> None:
    prompt = "unknown parameter: stream unsupported parameter: stream_options, " * 60_000
    body = {"messages": [{"role": "user", "content": prompt}], "stream": True, "stream_options": {}}
    since = time.process_time()
    assert find_request_changes(body, RequestText(body), paths=(), text=prompt[:7900], status=422) == []
    assert time.process_time() - since < 2
