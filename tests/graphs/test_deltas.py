"""LangChain's chunks become parts: order, indexes, ids, and the errors of upstreams."""

from typing import Any

from langchain_core.messages import AIMessageChunk

from chains.reply import RECLASSIFIED
from graphs.machine.deltas import NO_USAGE, ReplyParts, text_parts
from graphs.machine.stream_parts import (
    CallDelta,
    CallsMade,
    CallsOpened,
    Citation,
    MessageClosed,
    MessageOpened,
    ReasoningDelta,
    StreamPart,
    TextDeltas,
    Usage,
)
from retrieval.grounding import Source
from wire.ids import derive_id

SOURCES = {"0:0": Source(file_id="file-a", text="Owls hoot by night.", asked="")}
USAGE = Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5)


def call(
    index: int | None = 0, *, id: str | None = None, name: str | None = None, args: str | None = None
) -> AIMessageChunk:
    fragment: Any = {"index": index, "id": id, "name": name, "args": args, "type": "tool_call_chunk"}
    return AIMessageChunk(content="", tool_call_chunks=[fragment])


def feed(*chunks: AIMessageChunk, offered: tuple[str, ...] = ("f", "g")) -> tuple[ReplyParts, list[StreamPart]]:
    reply = ReplyParts("run_1", 0, offered)
    parts = [part for chunk in chunks for part in reply.feed(chunk)]
    return reply, [*parts, *reply.close(USAGE)]


def text(content: str) -> AIMessageChunk:
    return AIMessageChunk(content=content)


def finish(reason: str) -> AIMessageChunk:
    return AIMessageChunk(content="", response_metadata={"finish_reason": reason})


def shown(parts: list[StreamPart]) -> list[tuple[int, str | None, str]]:
    return [(part.index, part.name, part.arguments) for part in parts if isinstance(part, CallDelta)]


def test_text_opens_a_message_once_and_closes_it_with_the_usage() -> None:
    reply, parts = feed(text("Hel"), text("lo"), finish("stop"))
    assert [type(part) for part in parts] == [MessageOpened, TextDeltas, TextDeltas, MessageClosed]
    assert reply.text == "Hello"
    assert parts[-1] == MessageClosed(reply.message_step, reply.message_id, USAGE, reason=None)


def test_an_empty_answer_is_still_a_message() -> None:
    _, parts = feed(finish("stop"))
    assert [type(part) for part in parts] == [MessageOpened, MessageClosed]


def test_a_length_limit_makes_the_message_incomplete() -> None:
    _, parts = feed(text("x"), finish("length"))
    assert isinstance(parts[-1], MessageClosed)
    assert parts[-1].reason == "max_tokens"


def test_the_content_filter_makes_the_message_incomplete() -> None:
    _, parts = feed(text("x"), finish("content_filter"))
    assert isinstance(parts[-1], MessageClosed)
    assert parts[-1].reason == "content_filter"


def test_a_message_is_closed_before_calls_open() -> None:
    _, parts = feed(text("Let me see."), call(id="a", name="f", args="{}"))
    assert [type(part) for part in parts] == [
        MessageOpened, TextDeltas, MessageClosed, CallsOpened, CallDelta, CallsMade,
    ]  # fmt: skip
    assert parts[2].usage == NO_USAGE  # type: ignore[union-attr]
    assert parts[-1].usage == USAGE  # type: ignore[union-attr]


def test_text_after_calls_is_kept_in_the_reply_only() -> None:
    reply, parts = feed(call(id="a", name="f", args="{}"), text("late"))
    assert not any(isinstance(part, MessageOpened | TextDeltas) for part in parts)
    assert reply.text == "late"


def test_id_and_name_are_sent_once_and_arguments_in_fragments() -> None:
    reply, parts = feed(call(id="a", name="f", args='{"x"'), call(args=": 1"), call(args="}"))
    first, *rest = [part for part in parts if isinstance(part, CallDelta)]
    assert (first.call_id, first.name) == (derive_id("call", "run_1", 0, 0), "f")
    assert all(part.call_id is None and part.name is None for part in rest)
    assert reply.calls()[0]["arguments"] == '{"x": 1}'


def test_a_split_name_is_complete_before_it_is_shown() -> None:
    _, parts = feed(call(id="a", name="get"), call(name="Weather"), call(args="{}"), offered=("getWeather",))
    assert shown(parts) == [(0, "getWeather", "{}")]


def test_a_call_without_arguments_ends_with_an_empty_object() -> None:
    reply, parts = feed(call(id="a", name="f"))
    assert shown(parts) == [(0, "f", "")]
    assert reply.calls()[0]["arguments"] == "{}"


def test_parallel_calls_with_indexes_stay_separate() -> None:
    reply, parts = feed(
        call(0, id="a", name="f", args="{"), call(1, id="b", name="g", args="[1"), call(0, args="}"), call(1, args="]")
    )
    assert shown(parts) == [(0, "f", "{"), (1, "g", "[1"), (0, None, "}"), (1, None, "]")]
    assert [one["arguments"] for one in reply.calls()] == ["{}", "[1]"]


def test_calls_that_all_have_index_zero_are_separated_by_id() -> None:
    reply, parts = feed(call(0, id="a", name="f", args="{}"), call(0, id="b", name="g", args="{}"))
    assert shown(parts) == [(0, "f", "{}"), (1, "g", "{}")]
    assert [one["upstream_id"] for one in reply.calls()] == ["a", "b"]


def test_calls_without_an_index_are_separated_by_order() -> None:
    _, parts = feed(
        call(None, id="a", name="f", args="{"), call(None, args="}"), call(None, id="b", name="g", args="{}")
    )
    assert shown(parts) == [(0, "f", "{"), (0, None, "}"), (1, "g", "{}")]


def test_a_missing_upstream_id_gets_a_stable_one() -> None:
    one, _ = feed(call(name="f", args="{}"))
    other, _ = feed(call(name="f", args="{}"))
    assert one.calls() == other.calls()
    assert one.calls()[0]["upstream_id"].startswith("call_")


def test_a_function_that_was_not_offered_is_never_shown() -> None:
    reply, parts = feed(call(0, id="a", name="invented", args="{}"), call(1, id="b", name="f", args="{}"))
    assert shown(parts) == [(0, "f", "{}")]
    made = parts[-1]
    assert isinstance(made, CallsMade)
    assert [one["name"] for one in made.calls] == ["f"]
    assert [one["name"] for one in reply.calls()] == ["invented", "f"]


def test_an_invalid_call_is_never_shown_and_its_error_kept() -> None:
    wrong: Any = {"type": "invalid_tool_call", "id": "a", "name": "f", "args": '{"x"', "error": "x is missing"}
    reply, parts = feed(AIMessageChunk(content="", invalid_tool_calls=[wrong]), call(1, id="b", name="g", args="{}"))
    assert shown(parts) == [(0, "g", "{}")]
    first, second = reply.calls()
    assert (first["name"], first["arguments"], first["upstream_id"]) == ("f", '{"x"', "a")
    assert reply.faults() == {first["id"]: "x is missing"}
    assert second["id"] == derive_id("call", "run_1", 0, 0)


def test_a_reply_with_only_invalid_calls_opens_nothing() -> None:
    wrong: Any = {"type": "invalid_tool_call", "id": None, "name": "f", "args": "", "error": "no"}
    reply, parts = feed(AIMessageChunk(content="", invalid_tool_calls=[wrong]), finish("tool_calls"))
    assert parts == []
    assert list(reply.faults().values()) == ["no"]


def test_ids_depend_on_the_position_in_the_run_only() -> None:
    one, _ = feed(text("a"))
    other, _ = feed(call(id="zzz", name="f", args="{}"))
    assert (one.message_id, one.calls_step) == (other.message_id, other.calls_step)
    assert ReplyParts("run_1", 1, ()).message_id != one.message_id


def test_calls_truncated_by_a_limit_are_marked() -> None:
    _, parts = feed(call(id="a", name="f", args='{"x'), finish("length"))
    assert isinstance(parts[-1], CallsMade)
    assert parts[-1].cut_off


def test_usage_reported_by_the_upstream_is_kept() -> None:
    usage: Any = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    reply, _ = feed(text("a"), AIMessageChunk(content="", usage_metadata=usage))
    assert reply.usage == USAGE


def test_markers_become_citations_and_held_text_is_released() -> None:
    parts = ReplyParts("run_1", 0, (), sources=SOURCES)
    parts_seen = [part for text in ("a 【0:", "0】 b", " 【1") for part in parts.feed(AIMessageChunk(content=text))]
    parts_seen += parts.close(NO_USAGE)
    assert parts_seen[1:-1] == [
        TextDeltas(parts.message_id, ["a "]),
        Citation(parts.message_id, "【0:0】", "file-a"),
        TextDeltas(parts.message_id, [" b"]),
        TextDeltas(parts.message_id, [" "]),
        TextDeltas(parts.message_id, ["【1"]),
    ]
    assert parts.text == "a 【0:0】 b 【1"


def test_text_reclassified_as_reasoning_leaves_no_partial_marker() -> None:
    parts = ReplyParts("run_1", 0, (), sources=SOURCES)
    list(parts.feed(AIMessageChunk(content="Look at 【0:")))
    (reasoning,) = parts.feed(
        AIMessageChunk(content="", additional_kwargs={RECLASSIFIED: True, "reasoning_content": "0】?"})
    )
    assert reasoning == ReasoningDelta(parts.message_id, "Look at 【0:0】?", True)
    assert [part for part in parts.close(NO_USAGE) if not isinstance(part, MessageClosed)] == []


def test_fragments_of_a_search_have_its_type() -> None:
    parts = ReplyParts("run_1", 0, ("find",), step_types={"find": "file_search"})
    call = {"name": "find", "args": '{"query"', "id": "x", "index": 0}
    parts_seen = list(parts.feed(AIMessageChunk(content="", tool_call_chunks=[call])))  # type: ignore[list-item]
    assert [part.kind for part in parts_seen if isinstance(part, CallDelta)] == ["file_search"]
    assert [call.get("kind") for call in parts.calls()] == ["file_search"]


def test_only_an_answer_gets_citations() -> None:
    parts = ReplyParts("run_1", 0, ("f",), sources=SOURCES)
    parts_seen = list(parts.feed(AIMessageChunk(content="Owls hoot by night.")))
    cited = [part for part in parts.close(NO_USAGE) if isinstance(part, Citation)]
    assert [(part.marker, part.file_id) for part in cited] == [("【0:0†source】", "file-a")]
    assert parts.text == "Owls hoot by night."
    whole = text_parts(parts.message_id, parts.text, SOURCES, is_answer=True)
    assert whole == [parts_seen[1], *cited]
    before = ReplyParts("run_1", 0, ("f",), sources=SOURCES)
    _, spoken = before.feed(AIMessageChunk(content="Owls hoot by night."))
    call = {"name": "f", "args": "{}", "id": "x", "index": 0}
    shown = [*before.feed(AIMessageChunk(content="", tool_call_chunks=[call])), *before.close(NO_USAGE)]  # type: ignore[list-item]
    assert not [part for part in shown if isinstance(part, Citation)]
    assert text_parts(before.message_id, before.text, SOURCES, is_answer=False) == [spoken]
