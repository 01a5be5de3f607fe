"""Long prompts of one owner and the answers of others, with the real engine."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import orjson
import pytest
import pytest_asyncio

from chains import Builtin, EngineConfig, Upstream
from chains.engine_prompts import split_prompts
from chains.forwarding import CHAT, COMPLETIONS
from chains.read_ahead import read_ahead
from telemetry.context import set_current_owner
from tests.upstream import ScriptedUpstream

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(360), pytest.mark.xdist_group("engine")]

LONG = " ".join(f"word{number % 97}" for number in range(215)) + " Say hello."
WORDS = " ".join(f"word{number % 97}" for number in range(100))
TOKENS = [1_000 + number * 37 % 30_000 for number in range(290)]
EMOJI = "".join(chr(0x1F300 + number * 11 % 500) for number in range(150))


def chat(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


SPELLINGS: dict[str, dict[str, Any]] = {
    "a message": chat(WORDS),
    "parts": chat([{"type": "text", "text": word} for word in WORDS.split(" ")]),
    "many tokens in few characters": chat(EMOJI),
    "uncached": {**chat(WORDS), "cache_prompt": False},
    "a text": {"prompt": WORDS},
    "a list of one text": {"prompt": [WORDS]},
    "tokens": {"prompt": TOKENS},
    "a list of one list of tokens": {"prompt": [TOKENS]},
    "streamed texts": {"prompt": [WORDS, f"2. {WORDS}"], "stream": True},
    "a streamed text and tokens": {"prompt": [WORDS, TOKENS], "stream": True},
}
"""Prompts of 256 to 512 tokens, so that one slice of each is read ahead."""

QUICK = ("a message",)
"""The spellings that the real engine reads in every run of the tests: each token costs 4 ms of a processor."""

READ = [
    pytest.param(body, id=name, marks=() if name in QUICK else pytest.mark.soak) for name, body in SPELLINGS.items()
]


async def answer(builtin: Builtin, owner: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the usages of an answer's parts."""
    set_current_owner(owner)
    response = await builtin.pass_through(
        {"max_tokens": 4, "stream_options": {"include_usage": True}, **body}, COMPLETIONS if "prompt" in body else CHAT
    )
    assert response.status == 200, response.body
    if not body.get("stream"):
        return [orjson.loads(response.body or b"")["usage"]]
    with contextlib.closing(response):
        text = b"".join([block async for block in response.blocks()]).decode()
    chunks = [orjson.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    return [chunk["usage"] for chunk in chunks if chunk.get("usage")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def builtin() -> AsyncIterator[Builtin]:
    engine = Builtin(None, config=EngineConfig(context_size=2048, parallel=3, threads=1), is_shared=True)
    await engine.open()
    yield engine
    await engine.close()


@pytest.mark.soak
async def test_others_are_answered_while_a_long_prompt_is_read(builtin: Builtin) -> None:
    await asyncio.create_task(answer(builtin, "bob", chat("Hi")))
    long = asyncio.create_task(answer(builtin, "ann", chat(LONG)))
    answers = 0
    while not long.done():
        await asyncio.create_task(answer(builtin, "bob", chat(f"Say {answers}.")))
        answers += 1
    assert answers >= 4  # one or two if the prompt were read without a pause
    (usage,) = await long
    assert usage["prompt_tokens"] > 600


@pytest.fixture
def llama() -> Iterator[ScriptedUpstream]:
    """A llama.cpp that counts each character as a token."""
    with ScriptedUpstream() as up:
        up.extra["/apply-template"] = lambda body: {"prompt": text_of(body["messages"][0]["content"])}
        up.extra["/tokenize"] = lambda body: {"tokens": list(map(ord, body["content"]))}
        yield up


def text_of(content: Any) -> str:
    return content if isinstance(content, str) else " ".join(part["text"] for part in content)


@pytest.mark.parametrize("body", SPELLINGS.values(), ids=SPELLINGS)
async def test_each_slice_of_a_prompt_is_cached_before_its_request(
    llama: ScriptedUpstream, body: dict[str, Any]
) -> None:
    slices: list[list[int]] = []
    llama.extra["/completion"] = lambda asked: slices.append(asked["prompt"]) or {"timings": {"prompt_n": 256}}
    upstream = Upstream(llama.url)
    await upstream.open()
    try:
        path = COMPLETIONS if "prompt" in body else CHAT
        count = await read_ahead(upstream.require_transport(), body, path, context=2048, has_other_owners=lambda: False)
    finally:
        await upstream.close()
    prompts = split_prompts(body["prompt"]) if "prompt" in body else [text_of(body["messages"][0]["content"])]
    tokens = [list(map(ord, prompt)) if isinstance(prompt, str) else prompt for prompt in prompts]
    assert slices == [each[:end] for each in tokens for end in range(256, len(each), 256)]
    assert count == 256 * len(slices)


@pytest.mark.parametrize("body", READ)
async def test_a_long_prompt_is_read_ahead_in_any_form(body: dict[str, Any]) -> None:
    builtin = Builtin(None, config=EngineConfig(context_size=1024, parallel=3, threads=1), is_shared=True)
    await builtin.open()
    try:
        async with builtin._engines.asking(await builtin.resolve("")) as engine:
            count = await engine.read_ahead(body, COMPLETIONS if "prompt" in body else CHAT, lambda: False)
        usages = await answer(builtin, "ann", body)
    finally:
        await builtin.close()
    assert usages
    assert all(usage["prompt_tokens"] > 256 for usage in usages)
    assert 0 <= sum(usage["prompt_tokens"] for usage in usages) - count <= 256 * len(usages)


async def test_only_tokens_cached_before_a_request_are_reported() -> None:
    body = {**chat(WORDS), "max_tokens": 2}
    builtin = Builtin(None, config=EngineConfig(context_size=1024, parallel=2, threads=1), is_shared=True)
    await builtin.open()
    try:
        (whole,) = await answer(builtin, "ann", body)
        (streamed,) = await answer(builtin, "ann", {**body, "stream": True})
    finally:
        await builtin.close()
    assert whole["prompt_tokens_details"]["cached_tokens"] == 0
    assert 200 <= streamed["prompt_tokens_details"]["cached_tokens"] <= streamed["prompt_tokens"]


async def test_a_short_prompt_is_not_split(builtin: Builtin) -> None:
    (usage,) = await answer(builtin, "carol", {"prompt": TOKENS[:100]})
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0


async def test_a_prompt_that_does_not_fit_is_refused_unread() -> None:
    builtin = Builtin(None, config=EngineConfig(context_size=512, parallel=2, threads=1), is_shared=True)
    await builtin.open()
    try:
        response = await builtin.pass_through(chat(LONG))
        assert response.status == 400
        assert orjson.loads(response.body or b"")["error"]["code"] == "context_length_exceeded"
    finally:
        await builtin.close()
