"""Assistant turns of other LangChain models are joined in linear time, and kept only if that is possible."""

from typing import Any

import orjson
import pytest
from langchain_core.messages import AIMessageChunk

from chains.native_replies import NativeReply
from tests.cpu_time import limit_cpu_time


def spelled(chunks: list[AIMessageChunk]) -> str:
    reply = NativeReply("s", "m")
    for chunk in chunks:
        reply.add(chunk)
    return reply.to_json()


def block(index: int | None, text: str = "x") -> AIMessageChunk:
    at = {} if index is None else {"index": index}
    return AIMessageChunk(content=[{"type": "thinking", "thinking": text, **at}])


@pytest.mark.parametrize("count", [2, 32, 33, 1_100])
def test_blocks_are_merged_by_index_in_order(count: int) -> None:
    kept = spelled([*(block(0, f"({number})") for number in range(count)), *(block(1, "y") for _ in range(count))])
    blocks = orjson.loads(kept)["content"]
    assert [each["thinking"] for each in blocks] == ["".join(f"({n})" for n in range(count)), "y" * count]


MANY: dict[str, list[AIMessageChunk]] = {
    "distinct indexes": [
        AIMessageChunk(content=[{"type": "thinking", "index": position} for position in range(40_000)])
    ]
    * 2,
    "no index": [AIMessageChunk(content=[{"type": "thinking"}] * 40_000), block(0)],
    "one block each": [block(position) for position in range(4_000)],
    "long reasoning": [block(0, "x" * 2_000) for _ in range(2_000)],
    "long fields": [AIMessageChunk(content="", additional_kwargs={"x": "y" * 2_000}) for _ in range(2_000)],
}


@pytest.mark.parametrize("chunks", MANY.values(), ids=MANY)
def test_a_turn_of_many_items_is_joined_quickly(chunks: list[Any]) -> None:
    limit_cpu_time(1, lambda: spelled(chunks))
