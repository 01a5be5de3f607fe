"""Tool calls in every form that servers stream: none is lost or invented, and arguments stay complete."""

from collections.abc import Callable
from itertools import product
from typing import Any

import orjson
import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage

from chains import OpenAIBackend, ReplyCall
from chains.chunks import ChunkReader
from chains.fragments import CallFragments, Fragment
from tests.chains.conftest import Connect
from tests.cpu_time import limit_cpu_time
from tests.upstream import Raw, ScriptedUpstream
from wire.errors import UpstreamFailed

ROME = ("get_weather", {"place": "Rome"})
PARIS = ("get_weather", {"place": "Paris"})
ADD = ("add", {"a": 1})
NOW = ("now", {})
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("get_weather", "add", "now", "get")
]


def fragment(name: Any = None, arguments: Any = None, **more: Any) -> dict[str, Any]:
    """Return a tool call's fragment; fields that are given as None are sent as null."""
    function = {key: value for key, value in {"name": name, "arguments": arguments}.items() if value is not None}
    return {"type": "function", **({"function": function} if function else {}), **more}


R, P, A = '{"place":"Rome"}', '{"place":"Paris"}', '{"a":1}'
HEAD, TAIL = '{"place":', '"Rome"}'
f = fragment

SHAPES: dict[str, tuple[list[list[dict[str, Any]]], list[Any]]] = {
    # name: (the deltas' tool_calls, the calls that they mean)
    "OpenAI": (
        [
            [f("get_weather", "", index=0, id="a")],
            [f(arguments=HEAD, index=0)],
            [f(arguments=TAIL, index=0)],
            [f("add", "", index=1, id="b")],
            [f(arguments=A, index=1)],
        ],
        [ROME, ADD],
    ),
    "interleaved": (
        [
            [f("get_weather", HEAD, index=0, id="a"), f("add", '{"a"', index=1, id="b")],
            [f(arguments=":1}", index=1)],
            [f(arguments=TAIL, index=0)],
        ],
        [ROME, ADD],
    ),
    "interleaved, ids and names repeated": (
        [
            [f("get_weather", HEAD, index=0, id="a"), f("get_weather", HEAD, index=1, id="b")],
            [f("get_weather", '"Paris"}', index=1, id="b")],
            [f("get_weather", TAIL, index=0, id="a")],
        ],
        [ROME, PARIS],
    ),
    "whole, no index, empty id": ([[f("get_weather", R, id="")], [f("get_weather", P, id="")]], [ROME, PARIS]),
    "whole, one list, no index": ([[f("get_weather", R, id=""), f("add", A, id="")]], [ROME, ADD]),
    "whole, one list, all indexes 0": ([[f("add", A, index=0), f("add", A, index=0)]], [ADD, ADD]),
    "whole, index 0 in turn, no id": ([[f("get_weather", R, index=0)], [f("add", A, index=0)]], [ROME, ADD]),
    "whole and equal, index 0 in turn": ([[f("add", A, index=0)], [f("add", A, index=0)]], [ADD, ADD]),
    "without arguments, index 0 in turn": ([[f("now", "", index=0)], [f("get", "", index=0)]], [NOW, ("get", {})]),
    "without arguments, one list": ([[f("now", "", index=0), f("now", "", index=0)]], [NOW, NOW]),
    "empty objects, index 0 in turn": ([[f("now", "{}", index=0)], [f("now", "{}", index=0)]], [NOW, NOW]),
    "a new id under the same index": (
        [
            [f("get_weather", HEAD, index=0, id="a")],
            [f(arguments=TAIL, index=0)],
            [f("add", '{"a"', index=0, id="b")],
            [f(arguments=":1}", index=0)],
        ],
        [ROME, ADD],
    ),
    "a new id under the same index, no arguments": (
        [[f("now", "", index=0, id="a")], [f("now", "", index=0, id="b")]],
        [NOW, NOW],
    ),
    "index as a string": (
        [[f("get_weather", HEAD, index="0", id="a")], [f("add", A, index="1")], [f(arguments=TAIL, index="0")]],
        [ROME, ADD],
    ),
    "index null, id in every chunk": (
        [
            [f("get_weather", HEAD, index=None, id="a")],
            [f(arguments=TAIL, index=None, id="a")],
            [f("add", A, index=None, id="b")],
        ],
        [ROME, ADD],
    ),
    "name and id in every chunk": (
        [
            [f("get_weather", "", index=0, id="a")],
            [f("get_weather", HEAD, index=0, id="a")],
            [f("get_weather", TAIL, index=0, id="a")],
            [f("get_weather", "", index=0, id="a")],
        ],
        [ROME],
    ),
    "name in every chunk, no id": (
        [[f("get_weather", HEAD, index=0)], [f("get_weather", TAIL, index=0)], [f("add", A, index=1)]],
        [ROME, ADD],
    ),
    "name in pieces": (
        [[f("get", "", index=0, id="a")], [f("_weather", "", index=0)], [f(arguments=R, index=0)]],
        [ROME],
    ),
    "name growing": ([[f("get_w", "", index=0, id="a")], [f("get_weather", R, index=0)]], [ROME]),
    "id first, name later": (
        [[f(index=0, id="a")], [f("get_weather", "", index=0)], [f(arguments=R, index=0)]],
        [ROME],
    ),
    "name first, id later": (
        [[f("get_weather", index=0)], [f(arguments=HEAD, index=0, id="a")], [f(arguments=TAIL, index=0)]],
        [ROME],
    ),
    "arguments as objects": (
        [[f("get_weather", {"place": "Rome"}, index=0)], [f("add", {"a": 1}, index=0)]],
        [ROME, ADD],
    ),
    "whole at first, then nothing": (
        [[f("get_weather", R, index=0, id="a")], [f(arguments="", index=0)], [f(arguments="", index=0, id="a")]],
        [ROME],
    ),
    "whole, sent twice under its id": (
        [[f("get_weather", R, index=0, id="a")], [f("get_weather", R, index=0, id="a")]],
        [ROME],
    ),
    "one id for two calls": ([[f("get_weather", R, index=0, id="a")], [f("add", A, index=1, id="a")]], [ROME, ADD]),
    "one id for two calls, no index": ([[f("get_weather", R, id="a")], [f("get_weather", P, id="a")]], [ROME, PARIS]),
    "one id for two calls, interleaved": (
        [
            [f("get_weather", "", index=0, id="a"), f("get_weather", "", index=1, id="a")],
            [f(arguments=P, index=1)],
            [f(arguments=R, index=0)],
        ],
        [ROME, PARIS],
    ),
    "indexes from 1, with gaps": (
        [[f("get_weather", HEAD, index=1)], [f("add", A, index=7)], [f(arguments=TAIL, index=1)]],
        [ROME, ADD],
    ),
    "an index that counts chunks": (
        [[f("get_weather", HEAD, index=0, id="a")], [f(arguments=TAIL, index=1, id="a")], [f("add", A, index=2)]],
        [ROME, ADD],
    ),
    "no index, in pieces, in turn": (
        [[f("get_weather", HEAD)], [f(arguments=TAIL)], [f("add", '{"a"')], [f(arguments=":1}")]],
        [ROME, ADD],
    ),
    "no index, two lists by position": (
        [[f("get_weather", HEAD), f("add", '{"a"')], [f(arguments=TAIL), f(arguments=":1}")]],
        [ROME, ADD],
    ),
    "flat": ([[{"id": "a", "name": "get_weather", "arguments": R}], [{"name": "add", "arguments": A}]], [ROME, ADD]),
    "an empty entry": ([[f(index=0)], [f("get_weather", R, index=0, id="a")]], [ROME]),
}


class Result:
    """Assembles the calls as a client does."""

    def __init__(self) -> None:
        self.ids: dict[int, str] = {}
        self.names: dict[int, str] = {}
        self.arguments: dict[int, str] = {}
        self.text = ""

    def take(self, chunk: dict[str, Any] | None) -> None:
        for choice in (chunk or {"choices": []})["choices"]:
            self.text += choice["delta"]["content"]
            for call in choice["delta"].get("tool_calls") or ():
                index = call["index"]
                assert not (call["id"] and index in self.ids)
                if call["id"]:
                    self.ids[index] = call["id"]
                self.names[index] = self.names.get(index, "") + (call["function"]["name"] or "")
                self.arguments[index] = self.arguments.get(index, "") + call["function"]["arguments"]

    @property
    def calls(self) -> list[tuple[str, Any]]:
        assert list(self.names) == list(range(len(self.names)))
        assert sorted(self.ids) == list(self.names)
        assert len(set(self.ids.values())) == len(self.ids)
        return [(name, orjson.loads(self.arguments[index] or "{}")) for index, name in self.names.items()]


def read(*choices: dict[str, Any]) -> Result:
    reader = ChunkReader(
        host="h", model="m", learn_limit=lambda *_: None, offered=[tool["function"]["name"] for tool in TOOLS]
    )
    result = Result()
    for choice in choices:
        result.take(reader.read(orjson.dumps({"choices": [{"index": 0, **choice}]})))
    return result


def streamed(deltas: list[list[dict[str, Any]]], *, with_last: bool = False) -> Result:
    choices: list[dict[str, Any]] = [{"delta": {"tool_calls": calls}} for calls in deltas]
    if with_last:
        choices[-1]["finish_reason"] = "tool_calls"
        return read(*choices)
    return read(*choices, {"delta": {}, "finish_reason": "stop"})


@pytest.mark.parametrize("with_last", [False, True], ids=["finish alone", "finish with the last"])
@pytest.mark.parametrize(("deltas", "calls"), SHAPES.values(), ids=SHAPES)
def test_calls_are_distinguished(deltas: Any, calls: Any, with_last: bool) -> None:
    assert streamed(deltas, with_last=with_last).calls == calls


DEEP = orjson.dumps({"place": 'a "b}" \\', "more": [{"x": "{[", "y": {}}, "é\\"]}).decode()


@pytest.mark.parametrize("by", ["index", "id", "name", "nothing"])
def test_arguments_can_be_split_anywhere(by: str) -> None:
    def piece(arguments: str, number: int, *, first: bool) -> dict[str, Any]:
        name = "get_weather" if first or by == "name" else None
        marks = {"index": {"index": number}, "id": {"id": f"c{number}"}, "name": {"index": 0}, "nothing": {}}
        return fragment(name, arguments, **marks[by])

    expected = [("get_weather", orjson.loads(DEEP))] * 2
    for one, other in product(range(len(DEEP) + 1), (0, 7, len(DEEP) - 1)):
        deltas = [
            [piece(DEEP[:one], 0, first=True)],
            [piece(DEEP[one:], 0, first=False)],
            [piece(DEEP[:other], 1, first=True)],
            [piece(DEEP[other:], 1, first=False)],
        ]
        assert streamed(deltas).calls == expected, (one, other)


def test_a_complete_final_message_adds_only_what_is_missing() -> None:
    whole = {"role": "assistant", "content": "Hm.", "tool_calls": [f("get_weather", R, id="a"), f("add", A, id="b")]}
    for streamed_before in (
        [],
        [{"content": "Hm."}],
        [{"content": "Hm."}, {"tool_calls": [f("get_weather", HEAD, index=0, id="a")]}],
        [{"content": "Hm."}, {"tool_calls": [f("get_weather", '{"place": "Rome"}', index=0, id="a")]}],
        [{"tool_calls": [f("get_weather", R, index=0)]}, {"content": "Hm."}, {"tool_calls": [f("add", A, index=1)]}],
    ):
        choices = [{"delta": delta} for delta in streamed_before]
        result = read(*choices, {"delta": {}, "message": whole, "finish_reason": "tool_calls"})
        assert result.calls == [ROME, ADD]
        assert result.text == "Hm."


def test_a_deprecated_function_call_is_a_call() -> None:
    old = [{"delta": {"function_call": {"name": "get_weather", "arguments": HEAD}}}]
    old += [{"delta": {"function_call": {"arguments": TAIL}}}, {"delta": {}, "finish_reason": "function_call"}]
    assert read(*old).calls == [ROME]
    message = {"content": None, "function_call": {"name": "get_weather", "arguments": R}}
    assert read({"message": message, "finish_reason": "function_call"}).calls == [ROME]


def test_split_names_need_no_offer_and_are_never_doubled() -> None:
    calls = CallFragments()
    fragments = [Fragment(0, "a", "get_"), Fragment(0, "", "weather"), Fragment(0, "a", "get_weather", "{")]
    pieces = [piece for one in fragments for piece in calls.feed([one])[0]]
    assert "".join(piece.name for piece in pieces) == "get_weather"


async def test_calls_of_both_kinds_of_answers_reach_the_client(up: ScriptedUpstream, connect: Connect) -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [f("get_weather", R, id=""), f("add", A, id="")]}
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    delta = {"choices": [{"index": 0, "delta": message, "finish_reason": "stop"}]}
    up.script(
        Raw([orjson.dumps(whole)], content_type="application/json"),
        Raw([b"data: " + orjson.dumps(delta) + b"\n\n", b"data: [DONE]\n\n"]),
    )
    replies = OpenAIBackend(await connect(up.url), tool_calls="native")
    for _ in range(2):
        made = AIMessageChunk(content="")
        async for chunk in replies.stream(ReplyCall(model="m", messages=[HumanMessage("?")], tools=TOOLS)):
            made += chunk
        assert [(call["name"], call["args"]) for call in made.tool_calls] == [ROME, ADD]
        assert len({call["id"] for call in made.tool_calls} - {None, ""}) == 2


def many(count: int, **fields: Any) -> list[dict[str, Any]]:
    """Return calls of one function, each with its index in these fields."""
    return [f("add", A, **{name: form(position) for name, form in fields.items()}) for position in range(count)]


def each(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"delta": {"tool_calls": [call]}} for call in calls]


def long(position: int, blank: str) -> str:
    return '{"a":' + blank + '"' + "x" * 9_000 + f'{position}"}}'


NUMBERED = {"index": int, "id": "c{}".format}
TOO_MANY: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "one delta": lambda: [{"delta": {"tool_calls": many(20_000, **NUMBERED)}}],
    "one delta each": lambda: each(many(20_000, **NUMBERED)),
    "a whole message": lambda: [{"message": {"tool_calls": many(20_000, **NUMBERED)}, "finish_reason": "tool_calls"}],
    "without ids": lambda: [{"delta": {"tool_calls": many(20_000)}}],
    "without ids, whole": lambda: [{"message": {"tool_calls": many(20_000)}, "finish_reason": "tool_calls"}],
    "one id": lambda: each(many(20_000, index=int, id=lambda _: "c")),
    "one index": lambda: each(many(20_000, index=lambda _: 0)),
    "huge indexes": lambda: each(many(20_000, index=lambda position: 2**60 + position)),
    "negative indexes": lambda: each(many(20_000, index=lambda position: -position)),
    "sparse indexes": lambda: each(many(20_000, index=lambda position: 1_000_003 * position)),
    "indexes beyond 64 bits": lambda: each(many(20_000, index=lambda position: float(2**70 + 2**30 * position))),
    "whole messages again and again": lambda: [
        {"message": {"tool_calls": many(128 + position)}} for position in range(3)
    ],
    "names only": lambda: [{"delta": {"tool_calls": [f("add")] * 20_000}}],
    "names that no function has": lambda: each([f(f"f{position}", "{}") for position in range(20_000)]),
}


@pytest.mark.parametrize("make", TOO_MANY.values(), ids=TOO_MANY)
def test_too_many_calls_end_the_reply_quickly(make: Callable[[], list[dict[str, Any]]]) -> None:
    choices = make()

    def fail() -> None:
        with pytest.raises(UpstreamFailed, match="more than 128 function calls"):
            read(*choices)

    limit_cpu_time(0.25, fail)


HEAVY: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "a name in pieces": lambda: each([f("x", index=0)] * 20_000),
    "an id again and again": lambda: each(
        [f("add", '{"a":', index=0, id="a"), *[f("add", "1", index=0, id="a")] * 20_000]
    ),
    "entries without anything": lambda: [
        {"delta": {"tool_calls": [{"index": position} for position in range(50_000)]}}
    ],
    "indexes that count chunks": lambda: each([f(arguments="1", index=position, id="a") for position in range(20_000)]),
    "deltas after the end": lambda: [
        {"delta": {"tool_calls": many(128, **NUMBERED)}, "finish_reason": "tool_calls"},
        *[{"delta": {}, "finish_reason": "tool_calls"}] * 5_000,
    ],
    "long calls, and the whole message": lambda: [
        {"delta": {"tool_calls": [f("add", long(position, " ")) for position in range(128)]}},
        {"message": {"tool_calls": [f("add", long(position, "")) for position in reversed(range(128))]}},
    ],
    "choices": lambda: [{"delta": {"content": "x"}}] * 20_000,
    "parts of content": lambda: [{"delta": {"content": [{"type": "text", "text": "x"}] * 100_000}}],
    "parts of reasoning": lambda: [
        {"delta": {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "x"}] * 100_000}]}}
    ],
    "annotations": lambda: [{"delta": {"content": "x", "annotations": [{"index": n} for n in range(50_000)]}}],
    "keys": lambda: [{"delta": {"content": "x", **{f"k{n}": n for n in range(50_000)}}}],
}


@pytest.mark.parametrize("make", HEAVY.values(), ids=HEAVY)
def test_replies_of_many_items_are_read_in_linear_time(make: Callable[[], list[dict[str, Any]]]) -> None:
    choices = make()
    limit_cpu_time(1, lambda: read(*choices))


async def test_a_reply_with_the_maximum_number_of_calls_is_complete(up: ScriptedUpstream, connect: Connect) -> None:
    delta = {"choices": [{"index": 0, "delta": {"tool_calls": many(128, **NUMBERED)}, "finish_reason": "tool_calls"}]}
    up.script(Raw([b"data: " + orjson.dumps(delta) + b"\n\n", b"data: [DONE]\n\n"]))
    replies = OpenAIBackend(await connect(up.url), tool_calls="native")
    ids = [
        call["id"]
        async for chunk in replies.stream(ReplyCall(model="m", messages=[HumanMessage("?")], tools=TOOLS))
        for call in chunk.tool_call_chunks
    ]
    assert ids == [f"c{position}" for position in range(128)]


@pytest.mark.parametrize("name", ["one delta", "one delta each"])
async def test_too_many_calls_fail_the_run_once(up: ScriptedUpstream, connect: Connect, name: str) -> None:
    choices = TOO_MANY[name]()
    frames = [b"data: " + orjson.dumps({"choices": [{"index": 0, **choice}]}) + b"\n\n" for choice in choices]
    up.script(Raw([b"".join(frames)]))
    replies = OpenAIBackend(await connect(up.url), tool_calls="native")
    with pytest.raises(UpstreamFailed, match="more than 128 function calls"):
        async for _ in replies.stream(ReplyCall(model="m", messages=[HumanMessage("?")], tools=TOOLS)):
            pass
    assert len(up.requests) == 1
