"""Long prompts of one owner and the answers of others, with the real engine."""

import asyncio
from typing import Any

import orjson
import pytest

from chains import Builtin, Shape
from telemetry.context import act_for

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("engine")]

LONG = " ".join(f"word{number % 97}" for number in range(500)) + " Say hello."


async def answer(builtin: Builtin, owner: str, text: str, path: str = "/chat/completions") -> dict[str, Any]:
    act_for(owner)
    prompt = {"messages": [{"role": "user", "content": text}]} if path == "/chat/completions" else {"prompt": text}
    passage = await builtin.pass_through({**prompt, "max_tokens": 4}, path)
    assert passage.status == 200, passage.body
    found: dict[str, Any] = orjson.loads(passage.body or b"")
    return found


@pytest.mark.parametrize("path", ["/chat/completions", "/completions"])
async def test_others_are_answered_while_a_long_prompt_is_read(path: str) -> None:
    shape = Shape(context_size=2048, parallel=2, threads=1)
    builtin = Builtin(None, shape=shape, is_shared=True)
    await builtin.open()
    try:
        await asyncio.create_task(answer(builtin, "bob", "Hi"))
        long = asyncio.create_task(answer(builtin, "ann", LONG, path))
        answers = 0
        while not long.done():
            await asyncio.create_task(answer(builtin, "bob", f"Say {answers}."))
            answers += 1
        assert answers >= 4  # one or two if the whole prompt were read at once
        usage = (await long)["usage"]
        assert usage["prompt_tokens"] > 1_200
        assert usage["prompt_tokens_details"]["cached_tokens"] <= 64  # the template's, of the first request
    finally:
        await builtin.close()


async def test_only_tokens_cached_before_a_request_are_reported() -> None:
    body = {"messages": [{"role": "user", "content": LONG}], "max_tokens": 2}
    streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
    builtin = Builtin(None, shape=Shape(context_size=2048, parallel=2, threads=1), is_shared=True)
    await builtin.open()
    try:
        passage = await builtin.pass_through(body)
        counts = [orjson.loads(passage.body or b"")["usage"]["prompt_tokens_details"]["cached_tokens"]]
        stream = await builtin.pass_through(streamed)
        events = b"".join([block async for block in stream.blocks()]).split(b"\n\n")
        (usage,) = [orjson.loads(event[6:])["usage"] for event in events if b'"usage"' in event]
        counts.append(usage["prompt_tokens_details"]["cached_tokens"])
    finally:
        await builtin.close()
    assert counts[0] == 0
    assert 200 <= counts[1] <= usage["prompt_tokens"]


async def test_a_prompt_that_does_not_fit_is_refused_unread() -> None:
    builtin = Builtin(None, shape=Shape(context_size=512, parallel=2, threads=1), is_shared=True)
    await builtin.open()
    try:
        body = {"messages": [{"role": "user", "content": LONG}]}
        passage = await builtin.pass_through(body)
        assert passage.status == 400
        assert orjson.loads(passage.body or b"")["error"]["code"] == "context_length_exceeded"
    finally:
        await builtin.close()
