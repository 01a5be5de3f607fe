"""Logs and events of a chat: their size, and how far the model is ahead of the reader."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import reduce
from operator import add
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.tracers import RunLogPatch

from chains import build_chat_chain
from chains.backpressure import grow_pieces
from tests.chains.conftest import Connect
from tests.upstream import Raw, Reply, ScriptedUpstream

pytestmark = pytest.mark.filterwarnings("ignore:astream_log is deprecated")

ASKED = {"human": "Tell me everything."}
WAYS: dict[str, dict[str, Any]] = {
    "log": {},
    "log without tags": {"exclude_tags": ["seq:step:3"]},
    "log of models": {"include_types": ["llm"]},
    "events": {"version": "v2"},
    "events of models": {"version": "v2", "include_types": ["chat_model"]},
}


def follow(chain: Any, way: str) -> AsyncIterator[Any]:
    """Start the log or the events."""
    call = chain.astream_log if way.startswith("log") else chain.astream_events
    found: AsyncIterator[Any] = call(ASKED, **WAYS[way])
    return found


@pytest.mark.parametrize("size", [1, 5, 400], ids=["characters", "tokens", "lines"])
async def test_a_log_repeats_an_answer_a_bounded_number_of_times(
    up: ScriptedUpstream, connect: Connect, size: int
) -> None:
    text = "".join(f"{n:x} " for n in range(2000 * size))[: 2000 * size]
    up.script(Reply(chunks=[text[at : at + size] for at in range(0, len(text), size)]))
    chain = build_chat_chain(await connect(up.url))
    log = [patch async for patch in chain.astream_log(ASKED, include_types=["nothing"])]
    ops = [op for patch in log for op in patch.ops]
    emitted = [op["value"] for op in ops if op["path"] == "/final_output"]
    assert sum(map(len, emitted)) < 40 * len(text)
    assert len(emitted) > 100, "the answer is not split into many pieces"
    state = reduce(add, log).state  # type: ignore[attr-defined]
    assert state["final_output"] == "".join(state["streamed_output"]) == text


async def test_only_a_small_part_of_the_text_is_held_back() -> None:
    async def letters() -> AsyncIterator[str]:
        nonlocal given
        for given in range(1, 1001):  # noqa: B007
            yield "x"

    given = emitted = 0
    async for piece in grow_pieces(letters()):
        assert given - emitted - len(piece) == 0
        assert len(piece) <= 1 + emitted / 32
        emitted += len(piece)
    assert emitted == 1000


def count_queued() -> int:
    """Return how many chunks and log patches exist."""
    gc.collect()
    return sum(type(each) in (AIMessageChunk, RunLogPatch) for each in gc.get_objects())


@pytest.mark.parametrize("way", WAYS)
async def test_a_paused_reader_fills_no_queue(up: ScriptedUpstream, connect: Connect, way: str) -> None:
    chain = build_chat_chain(await connect(up.url))
    texts = [f"{n} " for n in range(300)]
    up.script(Reply(chunks=texts))
    seen = ""
    before = count_queued()  # other tests have created some
    async with aclosing(follow(chain, way)) as items:  # type: ignore[type-var]
        async for item in items:
            seen += str(item)
            if "'20 '" in seen:
                break
        await asyncio.sleep(0.3)
        assert count_queued() < before + 50
        async for item in items:
            seen += str(item)
    assert "'299 '" in seen
    assert up.finished == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cancelled", [True, False], ids=["cancelled", "closed"])
async def test_leaving_between_two_items_closes_the_upstream(
    up: ScriptedUpstream, connect: Connect, way: str, cancelled: bool
) -> None:
    up.script(Raw([b'data: {"choices":[{"index":0,"delta":{"content":"%d"}}]}\n\n' % n for n in range(9)], then="hang"))
    chain = build_chat_chain(await connect(up.url))
    items = follow(chain, way)
    paused = asyncio.Event()

    async def read() -> None:
        async for item in items:
            if "'4'" in str(item):
                paused.set()
                await asyncio.sleep(60 if cancelled else 0)
                break

    reading = asyncio.create_task(read())
    await paused.wait()
    if cancelled:
        reading.cancel()
    await asyncio.wait([reading])
    await up.eventually(lambda up: up.closed_early == 1)
