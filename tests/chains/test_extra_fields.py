"""Extra fields of a reply with tool calls are sent back to their engine, and to no other."""

import json
from typing import Any

import orjson
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage

from chains import OpenAIBackend, ReplyCall
from chains.extra_fields import EXTRA_FIELDS, MAX_CHARS, ExtraFields
from tests.chains.conftest import Connect
from tests.cpu_time import limit_cpu_time
from tests.upstream import Fail, Raw, Reply, ScriptedUpstream
from wire.errors import PromptRefused

PLACE = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": PLACE}}
SIGNED = {"google": {"thought_signature": "c2ln"}}


def called(arguments: str = '{"place":"Rome"}', **more: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": arguments}, **more}]}


def stream(*deltas: dict[str, Any], finish: str = "tool_calls") -> Raw:
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    return Raw([*(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks), b"data: [DONE]\n\n"])


def whole(message: dict[str, Any]) -> Raw:
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    return Raw([orjson.dumps(body)], content_type="application/json")


def asked(*messages: BaseMessage, **fields: Any) -> ReplyCall:
    return ReplyCall(**{"model": "m", "messages": [HumanMessage("?"), *messages], "tools": [TOOL], **fields})


async def made(replies: OpenAIBackend, call: ReplyCall | None = None) -> AIMessageChunk:
    message = AIMessageChunk(content="")
    async for chunk in replies.stream(call or asked()):
        message += chunk
    return message


def answered(message: AIMessageChunk) -> list[BaseMessage]:
    """Return the round as a run keeps it: in a checkpoint, so it must be JSON."""
    kept = message.additional_kwargs.get(EXTRA_FIELDS)
    beside = {EXTRA_FIELDS: json.loads(json.dumps(kept))} if kept else {}
    outputs = [ToolMessage("20", tool_call_id=str(call["id"])) for call in message.tool_calls]
    return [AIMessage(message.content, tool_calls=message.tool_calls, additional_kwargs=beside), *outputs]


def turn(up: ScriptedUpstream, number: int = -1) -> dict[str, Any]:
    """Return the assistant's turn in a request, without the fields that all turns have."""
    sent = next(message for message in up.requests[number].body["messages"] if message["role"] == "assistant")
    calls = [{name: value for name, value in call.items() if name != "type"} for call in sent["tool_calls"]]
    return {**{name: value for name, value in sent.items() if name not in ("role", "content")}, "tool_calls": calls}


CALL = {"id": "c1", "function": {"name": "f", "arguments": '{"place": "Rome"}'}}
DETAIL = {"type": "reasoning.text", "format": "x-v1", "index": 0}
BACK: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    # name: (the deltas, the fields that are sent back)
    "DeepSeek": (
        [{"content": None, "reasoning_content": "I "}, {"content": "", "reasoning_content": "think"}, called()],
        {"reasoning_content": "I think"},
    ),
    "empty reasoning": ([{"content": "", "reasoning_content": ""}, called()], {"reasoning_content": ""}),
    "null is nothing": ([{"content": "a", "reasoning_content": None, "x": None}, called()], {}),
    "OpenRouter": (
        [
            {"reasoning": "I ", "reasoning_details": [{**DETAIL, "text": "I "}]},
            {"reasoning": "think", "reasoning_details": [{**DETAIL, "text": "think"}]},
            {"reasoning_details": [{**DETAIL, "signature": "sig"}]},
            {"reasoning_details": [{"type": "reasoning.encrypted", "data": "zz", "index": 0}]},
            called(),
        ],
        {
            "reasoning": "I think",
            "reasoning_details": [
                {**DETAIL, "text": "I think", "signature": "sig"},
                {"type": "reasoning.encrypted", "data": "zz", "index": 0},
            ],
        },
    ),
    "blocks by index, interleaved": (
        [
            {"thinking_blocks": [{"index": 0, "thinking": "a"}, {"index": 1, "thinking": "b"}]},
            {"thinking_blocks": [{"index": 1, "thinking": "B"}]},
            {"thinking_blocks": [{"index": 0, "thinking": "A", "signature": "s"}]},
            called(),
        ],
        {"thinking_blocks": [{"index": 0, "thinking": "aA", "signature": "s"}, {"index": 1, "thinking": "bB"}]},
    ),
    "blocks with ids of their own": (
        [
            {"blocks": [{"index": 0, "id": "a", "data": "1"}]},
            {"blocks": [{"index": 0, "id": "b", "data": "2"}]},
            {"blocks": [{"index": 0, "id": None, "data": "3"}]},
            called(),
        ],
        {"blocks": [{"index": 0, "id": "a", "data": "1"}, {"index": 0, "id": "b", "data": "23"}]},
    ),
    "lists without index": ([{"x": ["a"]}, {"x": ["b", {"c": 1}]}, called()], {"x": ["a", "b", {"c": 1}]}),
    "objects and numbers": (
        [
            {"y": {"n": 1, "t": "a", "id": "i", "item_id": "j"}},
            {"y": {"n": 2, "t": "b", "id": "i", "item_id": "j", "m": True}},
            called(),
        ],
        {"y": {"n": 2, "t": "ab", "id": "i", "item_id": "j", "m": True}},
    ),
    "beside text": ([{"content": "Hm", "state": "s1"}, {"content": ".", "state": "s2"}, called()], {"state": "s1s2"}),
    "after the calls": ([called(), {"state": "late"}], {"state": "late"}),
    "OpenAI's own fields": (
        [{"role": "assistant", "refusal": None, "annotations": [{"a": 1}], "audio": {"id": "a"}}, called()],
        {},
    ),
    "on a call": (
        [
            called('{"place":', extra_content=SIGNED),
            {"tool_calls": [{"index": 0, "function": {"arguments": '"Rome"}'}}]},
        ],
        {"tool_calls": [{**CALL, "extra_content": SIGNED}]},
    ),
    "in a call's function": (
        [
            {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": "", "sig": "a"}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": '{"place":"Rome"}', "sig": "b"}}]},
        ],
        {"tool_calls": [{**CALL, "function": {**CALL["function"], "sig": "ab"}}]},  # type: ignore[dict-item]
    ),
}


@pytest.mark.parametrize(("deltas", "back"), BACK.values(), ids=BACK)
async def test_unknown_fields_are_sent_back_at_their_position(
    up: ScriptedUpstream, connect: Connect, deltas: Any, back: Any
) -> None:
    replies = OpenAIBackend(await connect(up.url), tool_calls="native")
    up.script(stream(*deltas))
    message = await made(replies)
    await made(replies, asked(*answered(message)))
    assert turn(up) == {"tool_calls": [CALL], **back}


async def test_an_answer_that_is_not_streamed_is_kept_too(up: ScriptedUpstream, connect: Connect) -> None:
    replies = OpenAIBackend(await connect(up.url), tool_calls="native")
    up.script(whole({"content": None, "reasoning_content": "I think", **called(extra_content=SIGNED)}))
    await made(replies, asked(*answered(await made(replies))))
    assert turn(up) == {"reasoning_content": "I think", "tool_calls": [{**CALL, "extra_content": SIGNED}]}


async def test_a_complete_message_after_its_stream_doubles_nothing(up: ScriptedUpstream, connect: Connect) -> None:
    replies = OpenAIBackend(await connect(up.url), tool_calls="native")
    *parts, _, done = stream({"reasoning_content": "I "}, {"reasoning_content": "think"}, called()).parts
    message = {"reasoning_content": "I think", "x": "new", **called(extra_content=SIGNED)}
    last = {"choices": [{"index": 0, "delta": {}, "message": message, "finish_reason": "tool_calls"}]}
    up.script(Raw([*parts, b"data: " + orjson.dumps(last) + b"\n\n", done]))
    await made(replies, asked(*answered(await made(replies))))
    back = {"reasoning_content": "I think", "x": "new", "tool_calls": [{**CALL, "extra_content": SIGNED}]}
    assert turn(up) == back


async def test_fields_are_yielded_once_and_last_if_a_stream_finishes_twice(
    up: ScriptedUpstream, connect: Connect
) -> None:
    deltas = [({"reasoning_content": "a"}, None), (called(), "tool_calls"), ({"reasoning_content": "b"}, "tool_calls")]
    chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} for delta, finish in deltas]
    up.script(Raw([b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks]))
    replies = OpenAIBackend(await connect(up.url), tool_calls="native")
    await made(replies, asked(*answered(await made(replies))))
    assert turn(up)["reasoning_content"] == "ab"


async def test_each_parallel_call_gets_its_own_fields_back(up: ScriptedUpstream, connect: Connect) -> None:
    """Gemini's calls have neither index nor id, and only the first one is signed."""
    replies = OpenAIBackend(await connect(up.url), tool_calls="native")
    calls = [{"id": "", "function": {"name": "f", "arguments": f'{{"place":"{city}"}}'}} for city in ("Rome", "Pau")]
    up.script(stream({"tool_calls": [{**calls[0], "extra_content": SIGNED}]}, {"tool_calls": [calls[1]]}))
    message = await made(replies)
    await made(replies, asked(*answered(message)))
    first, second = turn(up)["tool_calls"]
    assert (first["extra_content"], "extra_content" in second) == (SIGNED, False)
    assert [json.loads(call["function"]["arguments"])["place"] for call in (first, second)] == ["Rome", "Pau"]


async def test_only_the_same_engine_and_model_get_the_fields_back(up: ScriptedUpstream, connect: Connect) -> None:
    replies = OpenAIBackend(await connect(up.url), tool_calls="native")
    up.script(stream({"reasoning_content": "I think"}, called(extra_content=SIGNED)))
    messages = answered(await made(replies))
    await made(replies, asked(*messages, model="other"))
    assert turn(up) == {"tool_calls": [CALL]}
    with ScriptedUpstream() as elsewhere:
        await made(OpenAIBackend(await connect(elsewhere.url), tool_calls="native"), asked(*messages))
        assert turn(elsewhere) == {"tool_calls": [CALL]}


async def test_replies_without_calls_or_without_functions_keep_nothing(up: ScriptedUpstream, connect: Connect) -> None:
    replies = OpenAIBackend(await connect(up.url), tool_calls="native")
    up.script(stream({"reasoning_details": [1]}, {"content": "20"}, finish="stop"), stream({"x": 1}, called()))
    assert EXTRA_FIELDS not in (await made(replies)).additional_kwargs
    assert EXTRA_FIELDS not in (await made(replies, asked(tools=[]))).additional_kwargs


async def test_a_repair_request_has_the_fields_and_adds_its_own(up: ScriptedUpstream, connect: Connect) -> None:
    replies = OpenAIBackend(await connect(up.url), tool_calls="native")
    up.script(stream({"reasoning_content": "I think"}, called("{}", extra_content=SIGNED)))
    up.script(stream({"reasoning_content": "Oh"}, called(extra_content={"google": {"thought_signature": "bmV3"}})))
    message = AIMessageChunk(content="")
    async for chunk in replies.stream(asked()):
        if EXTRA_FIELDS in chunk.additional_kwargs:
            message.additional_kwargs[EXTRA_FIELDS] = chunk.additional_kwargs[EXTRA_FIELDS]  # the latest applies
        message += chunk.model_copy(update={"additional_kwargs": {}})
    repair = turn(up)
    assert (repair["reasoning_content"], repair["tool_calls"][0]["extra_content"]) == ("I think", SIGNED)
    await made(replies, asked(*answered(message)))
    back = turn(up)
    assert back["reasoning_content"] == "I think"
    assert back["tool_calls"] == [{**CALL, "extra_content": {"google": {"thought_signature": "bmV3"}}}]


REFUSALS = {
    "by name": {"error": {"message": "property 'channel' is unsupported", "type": "invalid_request_error"}},
    "FastAPI's": {"detail": [{"loc": ["body", "messages", 1, "channel"], "msg": "Extra inputs are not permitted"}]},
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
async def test_a_field_its_own_engine_refuses_is_left_out_later(
    up: ScriptedUpstream, connect: Connect, refusal: Any
) -> None:
    replies = OpenAIBackend(await connect(up.url), tool_calls="native")
    up.script(stream({"reasoning": "I", "channel": "analysis"}, {"reasoning": "!", "channel": "analysis"}, called()))
    messages = answered(await made(replies))
    up.script(Fail(400, refusal))
    await made(replies, asked(*messages))
    assert turn(up, -2) == {"reasoning": "I!", "channel": "analysis", "tool_calls": [CALL]}
    assert turn(up) == {"reasoning": "I!", "tool_calls": [CALL]}
    await made(replies, asked(*messages))
    assert turn(up) == {"reasoning": "I!", "tool_calls": [CALL]}
    assert len(up.requests) == 4


UNNAMED = (
    "Extra inputs are not permitted",
    "Additional properties are not allowed",
    "Unexpected field in messages.1",
    "Invalid property in the request",
    "messages.1: unknown keys",
)


@pytest.mark.parametrize("words", UNNAMED)
async def test_a_refusal_that_names_no_field_removes_all(up: ScriptedUpstream, connect: Connect, words: str) -> None:
    replies = OpenAIBackend(await connect(up.url), tool_calls="native")
    up.script(stream({"a": "1"}, called(b={"c": 1})))
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}
    messages = [*answered(await made(replies)), HumanMessage([image])]
    up.script(Fail(422, {"error": {"message": words}}))
    await made(replies, asked(*messages))
    assert turn(up, -2) == {"a": "1", "tool_calls": [{**CALL, "b": {"c": 1}}]}
    assert turn(up) == {"tool_calls": [CALL]}
    assert up.requests[-1].body["messages"][-1]["content"] == [image]
    await made(replies, asked(*messages))
    assert turn(up) == {"tool_calls": [CALL]}
    assert len(up.requests) == 4


async def test_own_fields_stay_if_a_refusal_does_not_refuse_them(up: ScriptedUpstream, connect: Connect) -> None:
    replies = OpenAIBackend(await connect(up.url), tool_calls="native")
    up.script(stream({"thought": "I"}, called(b=1)))
    messages = answered(await made(replies))
    up.script(Fail(400, {"error": {"message": "Invalid property order: thought comes before content"}}))
    with pytest.raises(PromptRefused):
        await made(replies, asked(*messages))
    assert len(up.requests) == 2


async def test_a_repeated_refusal_is_reported_and_not_remembered(up: ScriptedUpstream, connect: Connect) -> None:
    replies = OpenAIBackend(await connect(up.url), tool_calls="native")
    up.script(stream({"reasoning_content": "I"}, called()))
    messages = answered(await made(replies))
    must = Fail(400, {"error": {"message": "The `reasoning_content` must be passed back to the API."}})
    usual, up.default = up.default, lambda _: must
    with pytest.raises(PromptRefused, match="must be passed back"):
        await made(replies, asked(*messages))
    assert len(up.requests) == 2, "the request was repeated without the fields"
    up.default = usual
    await made(replies, asked(*messages))
    assert turn(up)["reasoning_content"] == "I"


@pytest.mark.parametrize(
    "deltas",
    [
        [{"x": "a" * 1_000_000}, {"x": "b" * 1_000_000}],
        [{"x": [{"index": 0, "y": "a" * 600_000}]}, {"x": [{"index": 0, "y": "b" * 600_000}]}],
        [{"x": [{"index": 0}]}, {"x": [{"index": index} for index in range(10_001)]}],
    ],
    ids=["a string", "pieces", "entries"],
)
async def test_fields_beyond_the_limit_are_not_kept_and_the_run_continues(
    up: ScriptedUpstream, connect: Connect, deltas: Any, caplog: pytest.LogCaptureFixture
) -> None:
    replies = OpenAIBackend(await connect(up.url), tool_calls="native")
    up.script(stream(*deltas, called()))
    await made(replies, asked(*answered(await made(replies))))
    assert turn(up) == {"tool_calls": [CALL]}
    assert [str(MAX_CHARS) in record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        True
    ]


async def test_modes_without_native_calls_send_no_fields_back(up: ScriptedUpstream, connect: Connect) -> None:
    up.script(Reply('{"name": "f", "arguments": {"place": "Rome"}}'))
    beside = {EXTRA_FIELDS: json.dumps({"source": "s", "message": {"x": 1}, "calls": {}})}
    call = {"name": "f", "args": {"place": "Rome"}, "id": "c1", "type": "tool_call"}
    turn = AIMessage("", tool_calls=[call], additional_kwargs=beside)  # type: ignore[list-item]
    replies = OpenAIBackend(await connect(up.url), tool_calls="prompt")
    await made(replies, asked(turn, ToolMessage("20", tool_call_id="c1")))
    assert "x" not in str(up.requests[-1].body["messages"][-2:])


def test_many_small_pieces_are_merged_quickly() -> None:
    extra = ExtraFields("http://h", "m")
    for _ in range(100_000):
        extra.add({"reasoning_content": "word ", "role": "assistant"})
    kept = extra.to_json(["c1"])
    assert kept is not None
    assert len(orjson.loads(kept)["message"]["reasoning_content"]) == 500_000


ENTRIES: dict[str, list[dict[str, Any]]] = {
    "distinct indexes": [{"x": [{"index": 0}]}, {"x": [{"index": index} for index in range(1, 40_000)]}],
    "one index": [{"x": [{"index": 0}]}, {"x": [{"index": 0}] * 40_000}],
    "one index, distinct ids": [{"x": [{"index": 0, "id": f"{index}"} for index in range(n)]} for n in (1, 30_000)],
    "one index, long ids": [{"x": [{"index": 0, "id": "a" * 9_000 + f"{index:04}"}]} for index in range(100)],
    "one index, distinct types": [{"x": [{"index": 0, "type": f"{index}"}]} for index in range(4_000)],
    "one delta each": [{"x": [{"index": index}]} for index in range(4_000)],
    "nested lists": [{"x": [{"index": 0, "y": [{"index": index} for index in range(n)]}]} for n in (1, 40_000)],
    "fields": [{f"f{index}": 1} for index in range(9_000)],
    "keys": [{"x": {f"f{index}": 1 for index in range(n)}} for n in (1, 40_000)],
    "numbers": [{"x": [0]}, {"x": [1] * 100_000}],
}


@pytest.mark.parametrize("deltas", ENTRIES.values(), ids=ENTRIES)
def test_many_items_are_merged_quickly(deltas: list[dict[str, Any]]) -> None:
    def merge() -> None:
        extra = ExtraFields("http://h", "m")
        for delta in deltas:
            extra.add(delta)
            extra.add_call(0, delta)
        extra.to_json(["c1"])

    limit_cpu_time(0.25, merge)


def test_entries_are_merged_by_index_type_and_id() -> None:
    extra = ExtraFields("http://h", "m")
    extra.add({"x": [{"index": 0, "type": "a", "t": "1"}, {"index": 0, "type": "b", "t": "2"}, {"t": "no index"}]})
    extra.add({"x": [{"index": 0, "type": "a", "t": "3"}, {"index": 1, "t": "4"}, {"index": 0, "t": "5"}]})
    assert orjson.loads(extra.to_json(["c1"]) or "")["message"]["x"] == [
        {"index": 0, "type": "a", "t": "13"},
        {"index": 0, "type": "b", "t": "25"},
        {"t": "no index"},
        {"index": 1, "t": "4"},
    ]


def test_deltas_after_the_end_do_not_serialize_the_fields_again() -> None:
    extra = ExtraFields("http://h", "m")
    extra.add({"x": "a" * 1_000_000})
    assert extra.to_json(["c1"])
    assert limit_cpu_time(0.1, lambda: [extra.to_json(["c1"]) for _ in range(1_000)]) == [None] * 1_000
    spelled = 0
    for _ in range(1_000):
        extra.add({"x": "a"})
        spelled += extra.to_json(["c1"]) is not None
    assert spelled < 20
