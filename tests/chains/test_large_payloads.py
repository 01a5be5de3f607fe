"""Large pieces of an upstream's answer: decoded in a thread, passed on in small chunks, and limited."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk, HumanMessage

from chains import OpenAIBackend, ReplyCall
from chains.chunks import ChunkReader, split_chunk
from tests.chains.conftest import Connect
from tests.upstream import Raw, ScriptedUpstream
from wire.errors import UpstreamFailed

MAX_CHARS = 4096

TEXTS = {
    "plain": "word " * 60_000,
    "tags": "\n<think></think>" * 60_000,
    "brackets": "<" * 300_000,
    "surrogates": "\ud83d a" * 60_000,
}


def whole(text: str, **fields: Any) -> Raw:
    message = {"role": "assistant", "content": text, **fields}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return Raw([_json(body)], content_type="application/json")


def streamed(text: str) -> Raw:
    events = [{"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return Raw([*(b"data: " + _json(event) + b"\n\n" for event in events), b"data: [DONE]\n\n"])


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # half a surrogate pair, which orjson refuses
        return json.dumps(value).encode()


@asynccontextmanager
async def longest_pause() -> AsyncIterator[list[float]]:
    """Measure the longest time in seconds that the event loop does not run other tasks."""
    pauses = [0.0]

    async def watch() -> None:
        while True:
            since = time.monotonic()
            await asyncio.sleep(0.001)
            pauses[0] = max(pauses[0], time.monotonic() - since)

    watching = asyncio.create_task(watch())
    try:
        yield pauses
    finally:
        watching.cancel()


async def read(replies: OpenAIBackend) -> tuple[str, int]:
    """Return the text, and the length of the longest chunk."""
    texts = []
    async for chunk in replies.stream(ReplyCall(model="m", messages=[HumanMessage("hi")])):
        assert isinstance(chunk, AIMessageChunk)
        texts.append(str(chunk.content))
    return "".join(texts), max(map(len, texts))


@pytest.mark.parametrize("form", [whole, streamed], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", TEXTS)
async def test_a_large_text_arrives_in_small_chunks(
    up: ScriptedUpstream, connect: Connect, name: str, form: Any
) -> None:
    up.script(form(TEXTS[name]))
    text, longest = await read(OpenAIBackend(await connect(up.url)))
    assert longest <= MAX_CHARS
    if name == "plain":
        assert text == TEXTS[name]


async def test_a_large_answer_does_not_stop_the_event_loop(up: ScriptedUpstream, connect: Connect) -> None:
    """Splitting this answer takes over a second of processor time."""
    up.script(whole("\n<think></think>" * 400_000))
    replies = OpenAIBackend(await connect(up.url))
    async with longest_pause() as pauses:
        await read(replies)
    assert pauses[0] < 0.5


async def test_an_answer_without_an_end_is_refused(up: ScriptedUpstream, connect: Connect) -> None:
    for reply in (whole("x" * 9_000_000), streamed("x" * 9_000_000)):
        up.script(reply)
        with pytest.raises(UpstreamFailed, match="8"):
            await read(OpenAIBackend(await connect(up.url)))


def reader() -> ChunkReader:
    return ChunkReader(host="h", model="m", learn_limit=lambda _model, _tokens: None)


@given(
    st.integers(0, 3 * MAX_CHARS),
    st.integers(0, 3 * MAX_CHARS),
    st.booleans(),
    st.booleans(),
)
def test_pieces_of_a_chunk_add_up_to_it(text: int, reasoning: int, has_call: bool, ends: bool) -> None:
    delta: dict[str, Any] = {"content": "ab " * (text // 3), "reasoning_content": "xy" * (reasoning // 2)}
    if has_call:
        delta["tool_calls"] = [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]
    choice = {"index": 0, "delta": delta, "finish_reason": "stop" if ends else None}
    chunk = reader().read(orjson.dumps({"choices": [choice], "usage": {"total_tokens": 3}}))
    assert chunk is not None
    pieces = list(split_chunk(chunk))
    deltas = [piece["choices"][0]["delta"] for piece in pieces]
    whole_delta = chunk["choices"][0]["delta"]
    assert "".join(str(each["content"]) for each in deltas) == whole_delta["content"]
    assert "".join(each.get("reasoning_content", "") for each in deltas) == whole_delta.get("reasoning_content", "")
    assert [each.get("tool_calls") for each in deltas[:-1]] == [None] * (len(deltas) - 1)
    assert deltas[-1].get("tool_calls") == whole_delta.get("tool_calls")
    assert pieces[-1]["choices"][0]["finish_reason"] == ("stop" if ends else None)
    assert dict(pieces[-1]).get("usage") == dict(chunk).get("usage")
    if len(pieces) > 1:
        assert max(len(str(each["content"])) + len(each.get("reasoning_content", "")) for each in deltas) <= MAX_CHARS
