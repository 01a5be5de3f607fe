"""Requests with fields that their upstream refuses: sent again without them, remembered for the model, logged once."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tracers import BaseTracer

from chains import OpenAIBackend, ReplyCall, build_chat_chain
from tests.chains.conftest import Connect
from tests.upstream import Fail, Raw, Reply, ScriptedUpstream, Step
from wire.errors import PromptRefused
from wire.model_options import ModelOptions

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {"name": "w", "strict": True, "parameters": {"type": "object", "properties": {}}},
}
CALLED: list[BaseMessage] = [
    HumanMessage("Weather?"),
    AIMessage("", tool_calls=[{"name": "w", "args": {}, "id": "c", "type": "tool_call"}]),
    ToolMessage("68", tool_call_id="c"),
]


def asked(**fields: Any) -> ReplyCall:
    return ReplyCall(**{"model": "test-model", "messages": [HumanMessage("Hi")], **fields})


async def ask(replies: OpenAIBackend, call: ReplyCall | None = None) -> str:
    return "".join([str(chunk.content) async for chunk in replies.stream(call or asked())])


def error(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None, **more}}


def as_status(body: dict[str, Any]) -> Step:
    return Fail(400, body)


def in_stream(body: dict[str, Any]) -> Step:
    return Raw([b"data: " + json.dumps(body).encode() + b"\n\n"])


def as_json(body: dict[str, Any]) -> Step:
    return Raw([json.dumps(body).encode()], content_type="application/json")


def picky(*names: str, how: Callable[[dict[str, Any]], Step] = as_status) -> Callable[[dict[str, Any]], Step]:
    """Make a server that refuses these fields, one after another."""

    def answer(body: dict[str, Any]) -> Step:
        sent = [name for name in names if name in body]
        return how(error(f"Unrecognized request argument supplied: {sent[0]}")) if sent else Reply("Fine.")

    return answer


@pytest.mark.parametrize("how", [as_status, in_stream, as_json])
async def test_a_refused_field_is_left_out_remembered_and_logged_once(
    up: ScriptedUpstream, connect: Connect, how: Callable[[dict[str, Any]], Step], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "threadhold.chains")
    up.default = picky("stream_options", how=how)
    replies = OpenAIBackend(await connect(up.url))
    for _ in range(3):
        assert await ask(replies) == "Fine."
    assert len(up.requests) == 4
    assert sum("stream_options" in record.getMessage() for record in caplog.records) == 1
    assert await ask(replies, asked(model="other")) == "Fine."
    assert len(up.requests) == 6


async def test_several_refused_fields_are_left_out_one_by_one(up: ScriptedUpstream, connect: Connect) -> None:
    up.default = picky("stream_options", "temperature", "top_p", "reasoning_effort")
    call = asked(options=ModelOptions(temperature=0.5, top_p=0.5, reasoning_effort="low"), max_tokens=9)
    assert await ask(OpenAIBackend(await connect(up.url)), call) == "Fine."
    assert len(up.requests) == 5
    assert up.requests[-1].body.keys() == {"model", "messages", "stream", "max_tokens"}


async def test_a_field_that_stays_refused_fails_with_the_first_refusal(up: ScriptedUpstream, connect: Connect) -> None:
    numbers = iter(range(100))
    up.default = lambda _: Fail(400, error(f"stream_options is not supported, time {next(numbers)}"))
    with pytest.raises(PromptRefused, match="time 0"):
        await ask(OpenAIBackend(await connect(up.url)))
    assert len(up.requests) == 2


async def test_a_change_that_did_not_help_is_not_remembered(up: ScriptedUpstream, connect: Connect) -> None:
    replies = OpenAIBackend(await connect(up.url))
    up.script(Fail(400, error("stream_options is not supported")), Fail(400, error("No.")), Reply("Fine."))
    with pytest.raises(PromptRefused):
        await ask(replies)
    assert await ask(replies) == "Fine."
    assert "stream_options" in up.requests[-1].body


async def test_nothing_is_resent_after_the_first_token(up: ScriptedUpstream, connect: Connect) -> None:
    words = b'data: {"choices": [{"index": 0, "delta": {"content": "Well"}}]}\n\n'
    up.script(Raw([words, b"data: " + json.dumps(error("stream_options is not supported")).encode() + b"\n\n"]))
    with pytest.raises(Exception, match="stream_options"):
        await ask(OpenAIBackend(await connect(up.url)))
    assert len(up.requests) == 1


async def test_a_refused_limit_is_renamed_and_never_left_out(up: ScriptedUpstream, connect: Connect) -> None:
    refusal = Fail(400, error("'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."))
    up.default = lambda body: refusal if "max_tokens" in body else Reply("Fine.")
    replies = OpenAIBackend(await connect(up.url))
    for _ in range(2):
        assert await ask(replies, asked(max_tokens=7)) == "Fine."
    assert [seen.body.get("max_completion_tokens") for seen in up.requests] == [None, 7, 7]
    up.default = picky("max_tokens", "max_completion_tokens")
    with pytest.raises(PromptRefused, match="max_"):
        await ask(OpenAIBackend(await connect(up.url)), asked(max_tokens=7))


async def test_a_refused_value_is_left_out_and_others_are_sent(up: ScriptedUpstream, connect: Connect) -> None:
    message = "'temperature' does not support 0.2 with this model. Only the default (1) value is supported."
    refusal = Fail(400, error(message, param="temperature", code="unsupported_value"))
    up.default = lambda body: refusal if body.get("temperature") == 0.2 else Reply("Fine.")
    replies = OpenAIBackend(await connect(up.url))
    for temperature in (0.2, 0.2, 1.0):
        assert await ask(replies, asked(options=ModelOptions(temperature=temperature))) == "Fine."
    assert [seen.body.get("temperature") for seen in up.requests] == [0.2, None, None, 1.0]


@pytest.mark.parametrize("absent", [False, True])
async def test_null_content_with_calls_is_sent_as_servers_accept_it(
    up: ScriptedUpstream, connect: Connect, absent: bool
) -> None:
    def refuse_null(body: dict[str, Any]) -> Step:
        content = body["messages"][1].get("content", "absent")
        good = content == ("absent" if absent else "")
        return Reply("Fine.") if good else Fail(422, error("messages.1.content: must be a non-empty string"))

    up.default = refuse_null
    replies = OpenAIBackend(await connect(up.url), tool_calls="native")
    assert await ask(replies, asked(messages=CALLED, tools=[WEATHER])) == "Fine."
    before = len(up.requests)
    assert await ask(replies, asked(messages=CALLED, tools=[WEATHER])) == "Fine."
    assert len(up.requests) == before + 1


async def test_functions_lose_only_their_refused_fields(up: ScriptedUpstream, connect: Connect) -> None:
    refusal = Fail(400, error("'strict' is not a recognized parameter"))
    up.default = lambda body: refusal if "strict" in body["tools"][0]["function"] else Reply("Fine.")
    assert await ask(OpenAIBackend(await connect(up.url), tool_calls="native"), asked(tools=[WEATHER])) == "Fine."
    assert up.requests[-1].body["tools"][0]["function"].keys() == {"name", "parameters"}


async def test_a_refused_required_tool_choice_is_weakened(up: ScriptedUpstream, connect: Connect) -> None:
    refusal = Fail(400, error("tool_choice 'required' is not supported"))
    call = Reply(tool_calls=[("w", {})])
    up.default = lambda body: refusal if body.get("tool_choice") not in (None, "auto") else call
    replies = OpenAIBackend(await connect(up.url), tool_calls="native")
    for choice in ("required", {"type": "function", "function": {"name": "w"}}):
        chunks = [chunk async for chunk in replies.stream(asked(tools=[WEATHER], tool_choice=choice))]
        assert any(chunk.tool_call_chunks for chunk in chunks)


async def test_a_refused_format_fails_and_is_named(up: ScriptedUpstream, connect: Connect) -> None:
    up.formats = ()
    with pytest.raises(PromptRefused, match="response_format"):
        await ask(OpenAIBackend(await connect(up.url)), asked(response_format={"type": "json_object"}))
    assert len(up.requests) == 1


class _Watcher(BaseTracer):
    def _persist_run(self, run: Any) -> None:
        del run


async def test_traced_chains_are_resent_too(up: ScriptedUpstream, connect: Connect) -> None:
    up.default = picky("stream_options")
    chain = build_chat_chain(await connect(up.url))
    assert await chain.ainvoke({"human": "Hi"}, {"callbacks": [_Watcher()]}) == "Fine."


async def test_requests_of_clients_pass_unchanged(up: ScriptedUpstream, connect: Connect) -> None:
    up.default = picky("stream_options")
    upstream = await connect(up.url)
    assert await ask(OpenAIBackend(upstream)) == "Fine."
    body = {"model": "test-model", "messages": [], "stream": True, "stream_options": {"include_usage": True}}
    response = await upstream.pass_through(body)
    assert response.status == 400
    assert up.requests[-1].body == body
