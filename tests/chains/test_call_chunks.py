"""The arguments of a model's call are not parsed before they are checked, which takes bounded time."""

import re
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk

from chains import Upstream
from chains.call_chunks import ChunkSum, chunk_of_calls
from chains.reply import chat_model
from tests.cpu_time import limit_cpu_time

HOSTILE = {
    "single quotes": '{"a":[' + "'b'," * 45_000,
    "brackets": "{[" * 20_000,
    "quotes": '{"a":"' + '"' * 40_000,
    "cut off": '{"a":"' + "x" * 190_000,
}
hostile = pytest.mark.parametrize("arguments", HOSTILE.values(), ids=HOSTILE)


@hostile
async def test_a_call_in_one_piece_is_converted_quickly(arguments: str) -> None:
    chat: Any = chat_model(Upstream("http://127.0.0.1:9/v1"))
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    frame = {"id": "x", "model": "m", "choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]}
    found = limit_cpu_time(0.1, lambda: chat._convert_chunk_to_generation_chunk(frame, AIMessageChunk, None))
    assert found.message.tool_call_chunks == [tool_call_chunk(name="f", args=arguments, id="c", index=0)]


@hostile
def test_fragments_are_joined_in_linear_time(arguments: str) -> None:
    fragments = [arguments[start : start + 50] for start in range(0, len(arguments), 50)]

    def join_fragments() -> AIMessageChunk:
        whole = ChunkSum()
        whole.add(AIMessageChunk(content="I call."))
        for number, part in enumerate(fragments):
            first = {"name": "f", "id": "c"} if not number else {"name": None, "id": None}
            whole.add(chunk_of_calls([tool_call_chunk(args=part, index=0, **first)]))
        return whole.chunk()

    found = limit_cpu_time(3, join_fragments)
    assert found.content == "I call."
    assert found.tool_call_chunks == [tool_call_chunk(name="f", args=arguments, id="c", index=0)]


def test_no_module_lets_langchain_parse_arguments() -> None:
    root = Path(__file__).parents[2]
    found = [
        path.name
        for folder in ("chains", "retrieval", "graphs", "api")
        for path in (root / folder).rglob("*.py")
        if re.search(r"AIMessageChunk\([^()]*tool_call_chunks=", path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 1_024, 1_100, 4_000])
def test_chunks_are_added_in_order(count: int) -> None:
    whole = ChunkSum()
    for position in range(count):
        beside = {"reasoning_content": f"({position})"}
        whole.add(AIMessageChunk(content=f"{position},", additional_kwargs=beside))
    found = whole.chunk()
    assert found.content == "".join(f"{position}," for position in range(count))
    assert found.additional_kwargs.get("reasoning_content", "") == "".join(f"({position})" for position in range(count))


def test_long_answers_are_combined_in_linear_time() -> None:
    piece = AIMessageChunk(content="x" * 2_000, additional_kwargs={"reasoning_content": "y" * 2_000})

    def join_fragments() -> AIMessageChunk:
        whole = ChunkSum()
        for _ in range(10_000):
            whole.add(piece)
        return whole.chunk()

    assert len(limit_cpu_time(2, join_fragments).content) == 20_000_000
