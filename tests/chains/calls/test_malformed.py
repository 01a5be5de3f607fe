"""Calls that a model's server cannot parse are requested once more, then made in mode schema for a limited time."""

import json
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from chains import OpenAIBackend, ReplyCall
from chains.extra_fields import extra_fields
from tests.chains.calls.test_modes import CALL, CHOSEN, NAMED, PEG, ROME, answered, asked, collect, sent
from tests.chains.conftest import Connect
from tests.upstream import Fail, Raw, Reply, ScriptedUpstream, Step
from wire.errors import MalformedCall, PromptRefused, UpstreamFailed

GROQ = {
    "error": {
        "message": "Failed to call a function. Please adjust your prompt. See 'failed_generation' for more details.",
        "type": "invalid_request_error",
        "code": "tool_use_failed",
        "failed_generation": '<function=getWeather{"place": "Rome"}</function>',
    }
}
OLLAMA = {"error": {"message": 'error parsing tool call: raw=\'{"place": "Rome"\', err=unexpected end of JSON input'}}


def failure(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "api_error", "param": None, "code": None}}


def streamed(body: dict[str, Any]) -> Raw:
    first = b'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}\n\n'
    return Raw([first, b"event: error\ndata: " + json.dumps(body).encode() + b"\n\n"])


WORDINGS: dict[str, Step] = {
    "llama.cpp": Fail(500, PEG),
    "llama.cpp in the stream": streamed(PEG),
    "llama.cpp's other words": Fail(500, failure("Failed to parse input at pos 12: <tool_call>{")),
    "Groq": Fail(400, GROQ),
    "Groq in the stream": streamed({"error": {**GROQ["error"], "status_code": 400}}),
    "Groq, the schema": Fail(400, failure("tool call validation failed: parameters for tool w did not match schema")),
    "Ollama": Fail(500, OLLAMA),
    "Ollama, XML": Fail(500, failure("XML syntax error on line 3: element <function> closed by </parameter>")),
    "LM Studio": streamed(failure("Failed to parse tool call: Unexpected end of content")),
    "vLLM, gpt-oss": Fail(500, failure("unexpected tokens remaining in message header: Some('json')")),
    "OpenRouter": Fail(
        400,
        {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": json.dumps(GROQ)}}},
    ),
    "unknown 1": Fail(422, failure("Could not parse function call arguments")),
    "unknown 2": Fail(502, failure("The model's tool call is not valid JSON")),
    "unknown 3": Fail(400, failure("Model returned malformed tool call")),
    "unknown 4": Fail(500, failure("Failed to parse the model's output")),
    "a JSON reader's 1": Fail(500, failure("json: cannot unmarshal string into Go value of type api.ToolCallFunction")),
    "a JSON reader's 2": Fail(500, failure("Expecting ',' delimiter: line 1 column 20 (char 19)")),
    "Chinese": Fail(400, failure("模型生成的工具调用无法解析")),
    "unknown 5": Fail(400, {"error": {"message": "Try again", "failed_generation": "<function"}}),
    "unknown 6": Fail(502, failure("Model output is not a valid tool call")),
    "unknown 7": Fail(400, failure("Function call generation failed")),
    "Gemini's other finish reason": Reply(finish="UNEXPECTED_TOOL_CALL"),
    "Gemini's finish reason": Reply(finish="function_call_filter: MALFORMED_FUNCTION_CALL"),
}


@pytest.mark.parametrize("broken", WORDINGS.values(), ids=WORDINGS)
async def test_an_unreadable_call_is_requested_once_more(up: ScriptedUpstream, connect: Connect, broken: Step) -> None:
    up.script(broken, Reply(tool_calls=ROME))
    result = await collect(OpenAIBackend(await connect(up.url), tool_calls="native"))
    assert result.calls == ROME
    assert len(up.requests) == 2
    assert up.requests[0].body == up.requests[1].body


@pytest.mark.parametrize("broken", WORDINGS.values(), ids=WORDINGS)
async def test_a_second_unreadable_call_is_made_by_schema(up: ScriptedUpstream, connect: Connect, broken: Step) -> None:
    up.script(broken, broken, CHOSEN, CALL, Reply(tool_calls=ROME))
    replies = OpenAIBackend(await connect(up.url), tool_calls="native")
    assert (await collect(replies)).calls == ROME
    assert len(up.requests) == 4
    assert "tools" not in sent(up)
    assert (await collect(replies)).calls == ROME
    assert "tools" in sent(up)  # a single failure is not remembered


async def test_mode_schema_stays_after_three_unreadable_in_a_row(up: ScriptedUpstream, connect: Connect) -> None:
    replies = OpenAIBackend(await connect(up.url), tool_calls="native")
    for _ in range(3):
        up.script(Fail(500, PEG), Fail(500, PEG), CHOSEN, CALL)
        await collect(replies)
    up.script(CHOSEN, CALL)
    assert (await collect(replies)).calls == ROME
    assert "tools" not in sent(up, -2)


async def test_a_native_success_between_unreadable_keeps_the_mode(up: ScriptedUpstream, connect: Connect) -> None:
    replies = OpenAIBackend(await connect(up.url), tool_calls="native")
    for _ in range(4):
        up.script(Fail(400, GROQ), Fail(400, GROQ), CHOSEN, CALL, Reply(tool_calls=ROME))
        await collect(replies)
        await collect(replies)
        assert "tools" in sent(up)


async def test_a_constrained_request_is_repeated_once_too(up: ScriptedUpstream, connect: Connect) -> None:
    up.script(*[Fail(500, OLLAMA)] * 3, CHOSEN, Fail(500, OLLAMA), CALL)
    assert (await collect(OpenAIBackend(await connect(up.url), tool_calls="native"))).calls == ROME
    assert len(up.requests) == 6


async def test_calls_that_were_already_sent_are_the_reply(up: ScriptedUpstream, connect: Connect) -> None:
    def frame(index: int, name: str, arguments: str) -> bytes:
        call = {"index": index, "id": f"c{index}", "function": {"name": name, "arguments": arguments}}
        return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}).encode() + b"\n\n"

    good, other = frame(0, "getWeather", '{"place": "Rome"}'), frame(1, "getTime", "")
    up.script(Raw([good, other, b"data: " + json.dumps(GROQ).encode() + b"\n\n"]))
    result = await collect(OpenAIBackend(await connect(up.url), tool_calls="native"))
    assert result.calls == ROME
    assert result.last.response_metadata["finish_reason"] == "tool_calls"
    assert len(up.requests) == 1


async def test_valid_calls_after_those_already_sent_are_sent_too(up: ScriptedUpstream, connect: Connect) -> None:
    def frame(number: str) -> bytes:  # without index and id
        call = {"function": {"name": "getWeather", "arguments": json.dumps({"place": number})}}
        return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}).encode() + b"\n\n"

    up.script(Raw([frame("Rome"), frame("Oslo"), b"data: " + json.dumps(GROQ).encode() + b"\n\n"]))
    result = await collect(OpenAIBackend(await connect(up.url), tool_calls="native"))
    assert [arguments for _, arguments in result.calls] == [{"place": "Rome"}, {"place": "Oslo"}]


@pytest.mark.parametrize("tries", [1, 2])
async def test_fields_to_send_back_of_a_broken_reply_are_not_emitted(
    up: ScriptedUpstream, connect: Connect, tries: int
) -> None:
    frames = [
        ({"reasoning_content": "no"}, None),
        ({"tool_calls": [{"id": "x", "function": {"name": "g"}}]}, "MALFORMED"),
    ]
    chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} for delta, finish in frames]
    broken = Raw([b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks])
    up.script(*[broken] * tries, *([CHOSEN, CALL] if tries == 2 else [Reply(tool_calls=ROME)]))
    chunks_heard = OpenAIBackend(await connect(up.url), tool_calls="native").stream(asked())
    assert not [chunk async for chunk in chunks_heard if extra_fields(chunk)]


async def test_without_functions_the_reply_fails_after_two_attempts(up: ScriptedUpstream, connect: Connect) -> None:
    up.script(Fail(500, PEG), Fail(500, PEG))
    with pytest.raises(MalformedCall):
        await collect(
            OpenAIBackend(await connect(up.url), tool_calls="native"), asked(tools=[], messages=answered("68"))
        )
    assert len(up.requests) == 2


async def test_a_plain_reply_is_requested_once_more(up: ScriptedUpstream, connect: Connect) -> None:
    up.script(Fail(400, GROQ), Reply("Fine."))
    stream = OpenAIBackend(await connect(up.url)).stream(ReplyCall("test-model", [HumanMessage("Hi")]))
    assert "".join([str(chunk.content) async for chunk in stream]) == "Fine."


@pytest.mark.parametrize(
    "message",
    [
        "Invalid tool call id",
        "Invalid tool_call_id: x",
        "messages[2].tool_calls[0].function.arguments must be valid JSON",
        "Invalid parameter: messages with role 'tool' must be a response to a preceding message with 'tool_calls'.",
        "Invalid schema for function 'w'",
        "Function calling is not supported by this model",
        "tool_choice is invalid",
        "We could not parse the JSON body of your request.",
        "Failed to parse the model name",
    ],
)
async def test_an_invalid_request_is_not_an_unreadable_call(
    up: ScriptedUpstream, connect: Connect, message: str
) -> None:
    up.default = lambda _: Fail(400, failure(message))
    with pytest.raises((PromptRefused, UpstreamFailed)) as caught:
        await collect(OpenAIBackend(await connect(up.url), tool_calls="native"), asked(tool_choice=NAMED))
    assert not isinstance(caught.value, MalformedCall)
    assert all("response_format" not in seen.body for seen in up.requests)
