"""Replies with functions, from servers of every kind: requests, results, and what is remembered."""

import asyncio
import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from chains import OpenAIBackend, Prompts, ReplyCall, Upstream
from tests.chains.conftest import Connect
from tests.process import free_port
from tests.upstream import Fail, Hang, Raw, Reply, ScriptedUpstream, Step
from wire.errors import PromptRefused, RunError, ThreadholdError, UpstreamFailed
from wire.model_options import ModelOptions

PLACE = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {"name": "getWeather", "description": "Weather of a place", "parameters": PLACE},
}
TIME: dict[str, Any] = {"type": "function", "function": {"name": "getTime", "description": "The time"}}
NAMED = {"type": "function", "function": {"name": "getWeather"}}
ROME = [("getWeather", {"place": "Rome"})]

CHOSEN = Reply('{"function": "getWeather", "calls": 1}')
NONE = Reply('{"function": "none", "calls": 0}')
CALL = Reply('{"name": "getWeather", "arguments": {"place": "Rome"}}')
PEG = {
    "error": {"code": 500, "message": "The model produced output that does not match the expected peg-native format"}
}


def asked(**fields: Any) -> ReplyCall:
    messages = [SystemMessage("Be brief."), HumanMessage("Weather in Rome?")]
    return ReplyCall(**{"model": "test-model", "messages": messages, "tools": [WEATHER, TIME], **fields})


def answered(*outputs: str, place: str = "Rome") -> list[BaseMessage]:
    messages: list[BaseMessage] = [SystemMessage("Be brief."), HumanMessage("Weather in Rome?")]
    for number, output in enumerate(outputs):
        call = {"name": "getWeather", "args": {"place": place}, "id": f"c{number}", "type": "tool_call"}
        messages += [AIMessage("", tool_calls=[call]), ToolMessage(output, tool_call_id=f"c{number}")]  # type: ignore[list-item]
    return messages


class Result:
    """The result of a reply."""

    def __init__(self, chunks: list[AIMessageChunk]) -> None:
        self.pieces = [str(chunk.content) for chunk in chunks if chunk.content]
        self.wrong = [
            (call["name"], call["error"]) for chunk in chunks for call in chunk.invalid_tool_calls if call["error"]
        ]
        self.fragments = [
            fragment for chunk in chunks if not self._is_wrong(chunk) for fragment in chunk.tool_call_chunks
        ]
        self.last = chunks[-1]

    @staticmethod
    def _is_wrong(chunk: AIMessageChunk) -> bool:
        return any(call["error"] for call in chunk.invalid_tool_calls)

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def calls(self) -> list[tuple[str, Any]]:
        """Return name and arguments, assembled as a client does."""
        names: dict[Any, str] = {}
        arguments: dict[Any, str] = {}
        for fragment in self.fragments:
            index = fragment["index"]
            names[index] = names.get(index, "") + (fragment["name"] or "")
            arguments[index] = arguments.get(index, "") + (fragment["args"] or "")
        return [(names[index], json.loads(arguments[index] or "{}")) for index in names]

    @property
    def requests(self) -> int:
        count: int = self.last.response_metadata["requests"]
        return count


async def collect(replies: OpenAIBackend, call: ReplyCall | None = None) -> Result:
    return Result([chunk async for chunk in replies.stream(call or asked())])


async def reply(
    up: ScriptedUpstream, connect: Connect, mode: Any, *steps: Step, call: ReplyCall | None = None
) -> Result:
    up.script(*steps)
    return await collect(OpenAIBackend(await connect(up.url), tool_calls=mode), call)


def sent(up: ScriptedUpstream, number: int = -1) -> dict[str, Any]:
    return up.requests[number].body


def roles(up: ScriptedUpstream, number: int = -1) -> list[str]:
    return [message["role"] for message in sent(up, number)["messages"]]


# --- native -----------------------------------------------------------------------------------------------------------


async def test_a_valid_call_keeps_its_own_fragments(up: ScriptedUpstream, connect: Connect) -> None:
    result = await reply(up, connect, "native", Reply(tool_calls=[("getWeather", '{"place": "Rome, Italy"}', "up1")]))
    assert result.calls == [("getWeather", {"place": "Rome, Italy"})]
    assert len(result.fragments) == 4
    assert result.fragments[0]["id"] == "up1"
    assert result.last.response_metadata["finish_reason"] == "tool_calls"


def in_pieces(pieces: list[str], name: list[str], finish: str) -> Raw:
    """Return a stream of one call whose arguments and name are split into these pieces."""
    names = name + [""] * (len(pieces) - len(name))
    functions = [{"arguments": piece, "name": part} for piece, part in zip(pieces, names, strict=True)]
    deltas: list[Any] = [{"tool_calls": [{"index": 0, "function": function}]} for function in functions]
    deltas[0]["tool_calls"][0]["id"] = "up1"
    events = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    return Raw([b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in events), b"data: [DONE]\n\n"])


@pytest.mark.parametrize("finish", ["tool_calls", "length"])
@pytest.mark.parametrize("name", [["getWeather"], ["get", "Weather"]], ids=["name", "name in two"])
async def test_a_call_in_thousands_of_pieces_is_sent_in_few(
    up: ScriptedUpstream, connect: Connect, name: list[str], finish: str
) -> None:
    arguments = json.dumps({"place": "Rome, Italy " * 500})
    result = await reply(up, connect, "native", in_pieces(["", "", *arguments], name, finish))
    assert result.calls == [("getWeather", json.loads(arguments))]
    assert result.fragments[0]["id"] == "up1"
    assert [piece["args"] for piece in result.fragments if piece["args"]][:9] == list(arguments[:9])
    assert len(result.fragments) < 260


async def test_a_call_is_held_until_complete_and_text_is_not(up: ScriptedUpstream, connect: Connect) -> None:
    up.script(Reply(chunks=["Let", " me"], tool_calls=[*ROME, ("getTime", {})], pause_after=6))
    replies = OpenAIBackend(await connect(up.url), tool_calls="native")
    result: list[AIMessageChunk] = []

    async def collect_text() -> None:
        async for chunk in replies.stream(asked()):
            result.append(chunk)  # noqa: PERF401 - the list is checked meanwhile

    task = asyncio.create_task(collect_text())
    await up.eventually(lambda _: Result(result).text == "Let me" if result else False)
    await asyncio.sleep(0.05)
    assert Result(result).text == "Let me"
    assert not Result(result).fragments
    up.release()
    await task
    assert Result(result).calls == [*ROME, ("getTime", {})]


async def test_an_invalid_call_is_requested_once_more(up: ScriptedUpstream, connect: Connect) -> None:
    wrong = Reply(tool_calls=[("getWeather", {"city": "Rome"}, "up1"), ("getTime", {})])
    result = await reply(up, connect, "native", wrong, Reply(tool_calls=ROME))
    assert sorted(result.calls) == [("getTime", {}), *ROME]
    assert not result.wrong
    assert result.requests == 2
    assert result.last.usage_metadata is not None
    assert result.last.usage_metadata["output_tokens"] == 3
    body = sent(up)
    assert body["tool_choice"] == "required"
    assert [tool["function"]["name"] for tool in body["tools"]] == ["getWeather"]
    assert "'place' is a required property" in body["messages"][-1]["content"]


@pytest.mark.parametrize(
    "second", [Reply(tool_calls=[("getWeather", {})]), Reply("Sorry."), Fail(400, {"error": {"message": "no"}})]
)
async def test_a_call_that_stays_invalid_is_reported_and_not_made(
    up: ScriptedUpstream, connect: Connect, second: Step
) -> None:
    result = await reply(up, connect, "native", Reply(tool_calls=[("getWeather", {"city": "Rome"})]), second)
    assert result.calls == []
    ((name, error),) = result.wrong
    assert name == "getWeather"
    assert "'place' is a required property" in error


async def test_an_unknown_function_is_reported_and_not_requested_again(up: ScriptedUpstream, connect: Connect) -> None:
    result = await reply(up, connect, "native", Reply(tool_calls=[("fly", {"to": "Rome"})]))
    assert result.calls == []
    assert result.wrong == [("fly", "There is no function named `fly`; there is `getWeather`, `getTime`.")]
    assert len(up.requests) == 1


@pytest.mark.parametrize(
    "arguments", ['{"place": "Rome",}', "{'place': 'Rome'}", '{"place": "Rome"', '```{"place":"Rome"}```']
)
async def test_almost_valid_json_arguments_are_repaired(up: ScriptedUpstream, connect: Connect, arguments: str) -> None:
    result = await reply(up, connect, "native", Reply(tool_calls=[("getWeather", arguments)]))
    assert result.calls == ROME
    assert result.requests == 1


async def test_an_empty_object_before_the_arguments_is_ignored(up: ScriptedUpstream, connect: Connect) -> None:
    result = await reply(up, connect, "native", Reply(tool_calls=[("getWeather", '{}{"place": "Rome"}')]))
    assert result.calls == ROME
    assert result.requests == 1


@pytest.mark.parametrize("mode", ["native", "schema", "prompt"])
async def test_only_lenient_functions_in_native_mode_accept_invalid_calls(
    up: ScriptedUpstream, connect: Connect, mode: Any
) -> None:
    wrong = {"native": Reply(tool_calls=[("getWeather", {"place": None})])}
    spelled = Reply('{"name": "getWeather", "arguments": {"place": null}}')
    steps = [wrong.get(mode, spelled)] * 2
    call = asked(tool_choice=NAMED, lenient=frozenset({"getWeather"}))
    result = await reply(up, connect, mode, *steps, call=call)
    assert result.calls == ([("getWeather", {"place": None})] if mode == "native" else [])
    assert len(result.wrong) == (mode != "native")


@pytest.mark.parametrize("arguments", ["", "null", "{}"])
async def test_a_function_without_arguments_gets_an_empty_object(
    up: ScriptedUpstream, connect: Connect, arguments: str
) -> None:
    result = await reply(up, connect, "native", Reply(tool_calls=[("getTime", arguments)]))
    assert result.calls == [("getTime", {})]
    assert not result.wrong


async def test_a_truncated_call_is_sent_unchanged(up: ScriptedUpstream, connect: Connect) -> None:
    result = await reply(up, connect, "native", Reply(tool_calls=[("getWeather", '{"pla')], finish="length"))
    assert "".join(fragment["args"] or "" for fragment in result.fragments) == '{"pla'
    assert result.last.response_metadata["finish_reason"] == "length"
    assert len(up.requests) == 1


async def test_after_text_only_the_call_is_made_by_schema(up: ScriptedUpstream, connect: Connect) -> None:
    words = b'data: {"choices": [{"index": 0, "delta": {"content": "Let me see."}}]}\n\n'
    broken = Raw([words, b"data: " + json.dumps(PEG).encode() + b"\n\n"])
    result = await reply(up, connect, "native", broken, CHOSEN, CALL)
    assert result.text == "Let me see."
    assert result.calls == ROME
    assert sent(up, 1)["response_format"]["json_schema"]["schema"]["properties"]["function"]["enum"] == [
        "getWeather",
        "getTime",
    ]


async def test_a_looping_model_is_offered_no_functions(up: ScriptedUpstream, connect: Connect) -> None:
    replies = OpenAIBackend(await connect(up.url), tool_calls="native")
    up.default = lambda _: Reply("It is 68.", tool_calls=ROME)
    result = await collect(replies, asked(messages=answered("68", "68")))
    assert (result.text, result.calls) == ("It is 68.", [])
    assert "tools" not in sent(up)
    # Functions whose output changes can be called again, and one repetition is no loop.
    for messages in (answered("68", "69"), answered("68")):
        assert (await collect(replies, asked(messages=messages))).calls == ROME


# --- schema -----------------------------------------------------------------------------------------------------------


async def test_auto_chooses_then_calls_under_a_schema(up: ScriptedUpstream, connect: Connect) -> None:
    result = await reply(up, connect, "schema", CHOSEN, CALL)
    assert result.calls == ROME
    assert result.last.response_metadata["finish_reason"] == "tool_calls"
    for body in (sent(up, 0), sent(up, 1)):
        assert "tools" not in body
        assert body["response_format"]["type"] == "json_schema"
    assert sent(up, 0)["temperature"] == 0
    shape = sent(up, 1)["response_format"]["json_schema"]["schema"]
    assert shape["properties"]["name"] == {"const": "getWeather"}
    assert shape["properties"]["arguments"]["properties"]["place"]["maxLength"] > 0


async def test_auto_can_answer_with_streamed_text(up: ScriptedUpstream, connect: Connect) -> None:
    wanted = {"type": "json_object"}
    asks = asked(response_format=wanted, options=ModelOptions(top_p=0.5))
    result = await reply(up, connect, "schema", NONE, Reply('{"a": 1 }'), call=asks)
    assert result.pieces == ['{"a":', " 1", " }"]
    assert result.calls == []
    body = sent(up)
    assert (body["response_format"], body["top_p"]) == (wanted, 0.5)
    assert [message["content"] for message in body["messages"]] == ["Be brief.", "Weather in Rome?"]


async def test_required_always_calls(up: ScriptedUpstream, connect: Connect) -> None:
    result = await reply(up, connect, "schema", CHOSEN, CALL, call=asked(tool_choice="required"))
    assert result.calls == ROME
    choices = sent(up, 0)["response_format"]["json_schema"]["schema"]["properties"]["function"]["enum"]
    assert choices == ["getWeather", "getTime"]


@pytest.mark.parametrize(
    "fields", [{"tool_choice": NAMED}, {"tool_choice": "required", "tools": [WEATHER], "parallel_tool_calls": False}]
)
async def test_without_a_choice_one_request_is_enough(
    up: ScriptedUpstream, connect: Connect, fields: dict[str, Any]
) -> None:
    result = await reply(up, connect, "schema", CALL, call=asked(**fields))
    assert result.calls == ROME
    assert result.requests == 1


async def test_none_is_a_plain_reply(up: ScriptedUpstream, connect: Connect) -> None:
    for mode in ("schema", "prompt"):
        result = await reply(up, connect, mode, Reply("Plain."), call=asked(tool_choice="none"))
        assert result.text == "Plain."
        assert "getWeather" not in json.dumps(sent(up))


async def test_several_calls_are_counted_with_the_choice(up: ScriptedUpstream, connect: Connect) -> None:
    one, other = ({"name": "getWeather", "arguments": {"place": place}} for place in ("Rome", "Paris"))
    chosen = Reply('{"function": "getWeather", "calls": 2}')
    result = await reply(up, connect, "schema", chosen, Reply(json.dumps({"calls": [one, other]})))
    assert result.calls == [*ROME, ("getWeather", {"place": "Paris"})]
    assert len({fragment["index"] for fragment in result.fragments}) == 2
    calls = sent(up)["response_format"]["json_schema"]["schema"]["properties"]["calls"]
    assert (calls["minItems"], calls["maxItems"]) == (2, 2)
    result = await reply(up, connect, "schema", chosen, CALL, call=asked(parallel_tool_calls=False))
    assert len(result.calls) == 1


async def test_a_duplicate_call_is_made_once(up: ScriptedUpstream, connect: Connect) -> None:
    one = {"name": "getWeather", "arguments": {"place": "Rome"}}
    chosen = Reply('{"function": "getWeather", "calls": 2}')
    assert (await reply(up, connect, "schema", chosen, Reply(json.dumps({"calls": [one, one]})))).calls == ROME


@pytest.mark.parametrize("mode", ["schema", "prompt"])
async def test_a_repeated_answered_call_makes_the_reply_text(up: ScriptedUpstream, connect: Connect, mode: Any) -> None:
    steps = [CHOSEN, CALL] if mode == "schema" else [CALL]
    result = await reply(up, connect, mode, *steps, Reply("It is 68."), call=asked(messages=answered("68")))
    assert (result.text, result.calls) == ("It is 68.", [])
    assert roles(up) == ["system", "user"]
    assert "Result of getWeather" in sent(up)["messages"][-1]["content"]
    assert "68" in sent(up)["messages"][-1]["content"]
    steps = [CHOSEN, CALL] if mode == "schema" else [CALL]
    other = await reply(up, connect, mode, *steps, call=asked(messages=answered("68", place="Oslo")))
    assert other.calls == ROME


@pytest.mark.parametrize(("mode", "steps"), [("schema", [CHOSEN]), ("prompt", [])])
async def test_an_invalid_call_is_repaired_once_or_reported(
    up: ScriptedUpstream, connect: Connect, mode: Any, steps: list[Step]
) -> None:
    wrong = Reply('{"name": "getWeather", "arguments": {"place": 5}}')
    assert (await reply(up, connect, mode, *steps, wrong, CALL)).calls == ROME
    assert "5 is not of type 'string'" in sent(up)["messages"][-1]["content"]
    result = await reply(up, connect, mode, *steps, wrong, wrong)
    assert result.calls == []
    assert "5 is not of type 'string'" in result.wrong[0][1]


async def test_a_truncated_call_is_repeated_with_a_tighter_schema(up: ScriptedUpstream, connect: Connect) -> None:
    ramble = Reply('{"name": "getWeather", "arguments": {"place": "Rome Rome Rome', finish="length")
    result = await reply(up, connect, "schema", ramble, CALL, call=asked(tool_choice=NAMED, max_tokens=100))
    assert result.calls == ROME
    assert sent(up, 0)["max_tokens"] == 50
    tight = sent(up)["response_format"]["json_schema"]["schema"]["properties"]["arguments"]["properties"]["place"]
    assert tight["maxLength"] < 100
    result = await reply(up, connect, "schema", ramble, ramble, call=asked(tool_choice=NAMED))
    assert result.calls == []
    assert result.last.response_metadata["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ({}, [4_096, 4_096]),
        ({"max_reply_tokens": 60}, [60, 60]),
        ({"max_reply_tokens": 6_000}, [6_000, 6_000]),
        ({"max_tokens": 100}, [50, 50]),
        ({"max_tokens": 5_000}, [4_488, 512]),
        ({"max_tokens": 9_000, "max_reply_tokens": 60}, [8_488, 512]),
        ({"max_tokens": 1}, [1]),
    ],
    ids=["no limit", "setting", "large setting", "run", "large run", "run before setting", "one token"],
)
async def test_a_call_uses_the_limit_and_no_more(
    up: ScriptedUpstream, given: dict[str, int], limits: list[int]
) -> None:
    def ramble(body: dict[str, Any]) -> Reply:
        usage = {"prompt_tokens": 9, "completion_tokens": body["max_tokens"], "total_tokens": 9 + body["max_tokens"]}
        return Reply('{"name": "getWeather", "arguments": {"place": "Rome Rome', finish="length", usage=usage)

    up.default = ramble
    upstream = Upstream(up.url, max_reply_tokens=given.get("max_reply_tokens"))
    await upstream.open()
    try:
        call = asked(tool_choice=NAMED, max_tokens=given.get("max_tokens"))
        result = await collect(OpenAIBackend(upstream, tool_calls="schema"), call)
    finally:
        await upstream.close()
    assert [request.body["max_tokens"] for request in up.requests] == limits
    assert result.last.response_metadata["finish_reason"] == "length"


@pytest.mark.parametrize("name", ["getWeather", "none"], ids=["call", "words"])
async def test_no_request_follows_when_the_choice_used_up_the_limit(
    up: ScriptedUpstream, connect: Connect, name: str
) -> None:
    spent = {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}
    choice = Reply(json.dumps({"function": name, "calls": 1}), usage=spent)
    result = await reply(up, connect, "schema", choice, call=asked(max_tokens=12))
    assert len(up.requests) == 1
    assert (result.text, result.calls) == ("", [])
    assert result.last.response_metadata["finish_reason"] == "length"


# --- servers with fewer capabilities
# -------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", ["auto", "required"])
async def test_a_choice_truncated_by_the_run_s_limit_is_not_learned(
    up: ScriptedUpstream, connect: Connect, choice: str
) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
    up.default = lambda body: Reply('{"fu', finish="length", usage=usage)
    replies = OpenAIBackend(await connect(up.url), tool_calls="schema")
    result = await collect(replies, asked(max_tokens=1, tool_choice=choice, tools=[WEATHER, TIME]))
    assert result.last.response_metadata["finish_reason"] == "length"
    assert len(up.requests) == 1
    assert replies._modes._capabilities.form("test-model") == "json_schema"


async def test_json_object_is_used_and_remembered_if_nothing_else_works(up: ScriptedUpstream, connect: Connect) -> None:
    up.formats = ("json_object",)
    up.script(CHOSEN, CALL, CHOSEN, CALL)
    replies = OpenAIBackend(await connect(up.url), tool_calls="schema")
    for _ in range(2):
        assert (await collect(replies)).calls == ROME
    assert [seen.body["response_format"]["type"] for seen in up.requests] == ["json_schema"] + ["json_object"] * 4


@pytest.mark.parametrize("refuses", [True, False], ids=["refuses", "ignores"])
async def test_a_server_without_formats_is_prompted_and_remembered(
    up: ScriptedUpstream, connect: Connect, refuses: bool
) -> None:
    up.formats = () if refuses else up.formats
    up.script(*([] if refuses else [Reply("Well, I think"), Reply("I would")]), CALL, CALL)
    replies = OpenAIBackend(await connect(up.url), tool_calls="schema")
    for _ in range(2):
        assert (await collect(replies)).calls == ROME
    assert len(up.requests) == 4
    assert "response_format" not in sent(up, 2)
    assert "response_format" not in sent(up, 3)


async def test_an_unrelated_refusal_is_reported_and_not_remembered(up: ScriptedUpstream, connect: Connect) -> None:
    up.script(*[Fail(400, {"error": {"message": "the image is broken"}})] * 3, CHOSEN, CALL)
    replies = OpenAIBackend(await connect(up.url), tool_calls="schema")
    with pytest.raises(PromptRefused, match="the image is broken"):
        await collect(replies)
    assert (await collect(replies)).calls == ROME
    assert sent(up)["response_format"]["type"] == "json_schema"


async def test_a_call_in_prose_is_found_and_preceding_prose_streamed(up: ScriptedUpstream, connect: Connect) -> None:
    text = Reply('Sure, let me look: ```json\n{"name": "getWeather", "arguments": {"place": "Rome"\n``` There.')
    result = await reply(up, connect, "prompt", text)
    assert result.calls == ROME
    assert result.pieces[:3] == ["Sure,", " let", " me"]
    assert result.text.strip() == "Sure, let me look:"


async def test_text_and_unrelated_braces_are_streamed_immediately(up: ScriptedUpstream, connect: Connect) -> None:
    result = await reply(up, connect, "prompt", Reply('Write {"age": 3} or `x = {1}`, no more.'))
    assert result.text == 'Write {"age": 3} or `x = {1}`, no more.'
    assert result.pieces[0] == "Write"
    assert len(result.pieces) > 5


@pytest.mark.parametrize("mode", ["native", "prompt"])
async def test_reasoning_is_streamed(up: ScriptedUpstream, connect: Connect, mode: Any) -> None:
    reasoning = b'data: {"choices": [{"index": 0, "delta": {"reasoning_content": "Hm."}}]}\n\n'
    answer = b'data: {"choices": [{"index": 0, "delta": {"content": "Hi."}, "finish_reason": "stop"}]}\n\n'
    up.script(Raw([reasoning, answer]))
    replies = OpenAIBackend(await connect(up.url), tool_calls=mode)
    chunks = [chunk async for chunk in replies.stream(asked())]
    assert chunks[0].additional_kwargs.get("reasoning_content") == "Hm."
    assert "".join(str(chunk.content) for chunk in chunks) == "Hi."


async def test_text_that_resembles_a_call_stays_text(up: ScriptedUpstream, connect: Connect) -> None:
    result = await reply(up, connect, "prompt", Reply('{"name": "Bob", "age": 3}'))
    assert (result.text, result.calls) == ('{"name": "Bob", "age": 3}', [])


async def test_a_missing_required_call_is_demanded_once(up: ScriptedUpstream, connect: Connect) -> None:
    result = await reply(up, connect, "prompt", Reply("No."), CALL, call=asked(tool_choice="required"))
    assert (result.text, result.calls) == ("", ROME)
    result = await reply(up, connect, "prompt", Reply("No."), Reply("Never."), call=asked(tool_choice=NAMED))
    assert (result.text, result.calls) == ("No.", [])


async def test_bare_arguments_belong_to_the_named_function(up: ScriptedUpstream, connect: Connect) -> None:
    assert (await reply(up, connect, "prompt", Reply('{"place": "Rome"}'), call=asked(tool_choice=NAMED))).calls == ROME


@pytest.mark.parametrize("mode", ["schema", "prompt"])
async def test_strict_turns_are_sent_where_required_and_remembered(
    up: ScriptedUpstream, connect: Connect, mode: Any
) -> None:
    up.strict_turns = True
    replies = OpenAIBackend(await connect(up.url), tool_calls=mode)
    up.script(*([CHOSEN, CALL] if mode == "schema" else [CALL]))
    assert (await collect(replies)).calls == ROME
    refused = len(up.requests)
    up.script(*([NONE] if mode == "schema" else []), Reply("It is 68."))
    assert (await collect(replies, asked(messages=answered("68")))).text == "It is 68."
    assert len(up.requests) - refused == (2 if mode == "schema" else 1)
    assert roles(up) == ["user"]
    up.script(Reply("Plain."))
    assert (await stream_user_turns(replies)).startswith("Plain.")


@pytest.mark.parametrize("refusal", [(400, "No user query found in messages."), (500, "Jinja Exception: no user")])
async def test_a_prompt_without_user_message_is_resent_as_the_user_s(
    up: ScriptedUpstream, connect: Connect, refusal: tuple[int, str]
) -> None:
    status, message = refusal
    up.script(Fail(status, {"error": {"message": message}}), Reply("Welcome!"))
    replies = OpenAIBackend(await connect(up.url))
    call = ReplyCall("test-model", [SystemMessage("Greet them.")])
    assert "".join([str(chunk.content) async for chunk in replies.stream(call)]) == "Welcome!"
    assert up.requests[0].body["messages"] == [{"role": "system", "content": "Greet them."}]
    assert up.requests[-1].body["messages"] == [{"role": "user", "content": "Greet them."}]


async def stream_user_turns(replies: OpenAIBackend) -> str:
    call = ReplyCall("test-model", [SystemMessage("S"), HumanMessage("a"), HumanMessage("b")])
    return "".join([str(chunk.content) async for chunk in replies.stream(call)])


# --- auto -------------------------------------------------------------------------------------------------------------


async def test_one_probe_decides_and_is_remembered(up: ScriptedUpstream, connect: Connect) -> None:
    up.script(Reply(tool_calls=ROME), Reply(tool_calls=ROME), Reply(tool_calls=ROME))
    replies = OpenAIBackend(await connect(up.url))
    await stream_without_functions(replies)
    assert up.probes == 0
    for result in await asyncio.gather(collect(replies), collect(replies)):
        assert result.calls == ROME
    assert up.probes == 1


async def stream_without_functions(replies: OpenAIBackend) -> None:
    _ = [chunk async for chunk in replies.stream(asked(tools=[]))]


@pytest.mark.parametrize("kind", ["ignored", "refused"])
async def test_a_server_that_ignores_or_refuses_tools_gets_schemas(
    up: ScriptedUpstream, connect: Connect, kind: Any
) -> None:
    up.tools = kind
    result = await reply(up, connect, "auto", CHOSEN, CALL)
    assert result.calls == ROME
    assert up.probes == 1
    assert "tools" not in sent(up)


@pytest.mark.parametrize("supported", [True, False])
async def test_llama_cpp_is_trusted_without_a_probe(up: ScriptedUpstream, connect: Connect, supported: bool) -> None:
    up.props = {"chat_template_caps": {"supports_tools": supported}}
    result = await reply(up, connect, "auto", *([Reply(tool_calls=ROME)] if supported else [CHOSEN, CALL]))
    assert result.calls == ROME
    assert up.probes == 0
    assert ("tools" in sent(up)) is supported


async def test_a_named_choice_is_enforced_by_offering_one_function(up: ScriptedUpstream, connect: Connect) -> None:
    up.props = {"chat_template_caps": {"supports_tools": True}}
    refusal = Fail(400, {"error": "Invalid tool_choice type: 'object'. Supported string values: none, auto, required"})
    for mode, steps in (("auto", [Reply(tool_calls=ROME)]), ("native", [refusal, Reply(tool_calls=ROME)])):
        assert (await reply(up, connect, mode, *steps, call=asked(tool_choice=NAMED))).calls == ROME
        assert [tool["function"]["name"] for tool in sent(up)["tools"]] == ["getWeather"]
        assert sent(up)["tool_choice"] == "required"


async def test_known_hosts_are_native_without_a_probe(
    up: ScriptedUpstream, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{up.port}")  # the upstream itself is the proxy
    up.script(Reply(tool_calls=ROME))
    assert (await collect(OpenAIBackend(await connect("http://api.openai.com/v1")))).calls == ROME
    assert up.probes == 0


async def test_a_probe_that_fails_by_the_network_decides_nothing(connect: Connect) -> None:
    port = free_port()
    upstream = await connect(f"http://127.0.0.1:{port}/v1")
    replies = OpenAIBackend(upstream)
    with pytest.raises(UpstreamFailed):
        await collect(replies)
    replies._modes._capabilities._undecided.forget("test-model")  # a minute later
    with ScriptedUpstream(port=port) as again:
        again.tools = "ignored"
        again.script(CHOSEN, CALL)
        assert (await collect(replies)).calls == ROME
        assert again.probes == 1


async def test_a_late_refusal_of_tools_is_remembered_under_auto(up: ScriptedUpstream, connect: Connect) -> None:
    up.props = {"chat_template_caps": {"supports_tools": True}}
    up.tools = "refused"
    assert (await reply(up, connect, "auto", CHOSEN, CALL)).calls == ROME
    with pytest.raises(PromptRefused, match="does not support tools"):
        await reply(up, connect, "native")


# --- other ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["native", "schema", "prompt"])
async def test_leaving_stops_the_upstream_in_every_mode(up: ScriptedUpstream, connect: Connect, mode: Any) -> None:
    up.script(Hang())
    replies = OpenAIBackend(await connect(up.url), tool_calls=mode)
    task = asyncio.create_task(collect(replies))
    await up.eventually(lambda seen: seen.open_streams == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await up.eventually(lambda seen: seen.open_streams == 0 and seen.closed_early == 1)


@pytest.mark.parametrize("mode", ["native", "schema", "prompt"])
async def test_only_run_errors_are_raised(up: ScriptedUpstream, connect: Connect, mode: Any) -> None:
    up.context = 5
    with pytest.raises(RunError):
        await reply(up, connect, mode)


async def test_prompts_can_be_replaced_and_unknown_names_are_reported(up: ScriptedUpstream, connect: Connect) -> None:
    prompts = Prompts.changed({"offer": "FUNCTIONS: {functions} {other}"})
    up.script(CALL)
    await collect(OpenAIBackend(await connect(up.url), tool_calls="prompt", prompts=prompts))
    system = sent(up)["messages"][0]["content"]
    assert "FUNCTIONS: {" in system
    assert "{other}" in system
    with pytest.raises(ThreadholdError, match="`ofer`"):
        Prompts.changed({"ofer": "x"})


async def test_a_budget_is_shared_by_all_requests_of_a_reply(up: ScriptedUpstream, connect: Connect) -> None:
    wrong = Reply(
        tool_calls=[("getWeather", {})], usage={"prompt_tokens": 1, "completion_tokens": 30, "total_tokens": 31}
    )
    await reply(up, connect, "native", wrong, Reply(tool_calls=ROME), call=asked(max_tokens=100))
    assert sent(up)["max_tokens"] == 70
    up.requests.clear()
    result = await reply(up, connect, "native", wrong, call=asked(max_tokens=30))
    assert result.wrong
    assert len(up.requests) == 1


def test_the_upstream_has_what_capabilities_need() -> None:
    from chains.calls.capabilities import UpstreamInfo

    _: UpstreamInfo = Upstream(None)
