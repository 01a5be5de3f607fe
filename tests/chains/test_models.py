"""Names, listings and limits, with a real server's `/models`."""

import asyncio
import time
from typing import Any

import pytest

from chains.models import listed_limit
from tests.chains.conftest import Connect
from tests.upstream import Fail, Hang, Raw, ScriptedUpstream
from wire.errors import PromptRefused, RunError, Unavailable, UpstreamProblem


@pytest.mark.parametrize(
    ("aliases", "asked", "sent"),
    [
        ({"gpt-4o": "qwen"}, "gpt-4o", "qwen"),
        ({"gpt-4o": "qwen"}, "gpt-4", "gpt-4"),
        ({"gpt-4o": "qwen", "*": "llama"}, "gpt-4o", "qwen"),
        ({"gpt-4o": "qwen", "*": "llama"}, "anything", "llama"),
        ({"gpt-4o": "qwen", "*": "llama"}, "qwen", "qwen"),
        ({"gpt-4o": "org/never-listed"}, "gpt-4o", "org/never-listed"),
        ({}, "org/bare", "bare"),
        ({}, "org/whole", "org/whole"),
        ({}, "a/b/bare", "bare"),
        ({}, "org/unknown", "org/unknown"),
        ({}, "unknown", "unknown"),
        ({}, "", "org/whole"),
        ({}, " bare ", "bare"),
    ],
)
async def test_a_name_means_one_model(
    up: ScriptedUpstream, connect: Connect, aliases: dict[str, str], asked: str, sent: str
) -> None:
    up.models = [{"id": "org/whole"}, {"id": "whole"}, {"id": "bare"}]
    upstream = await connect(up.url, aliases=aliases)
    for _ in range(2):
        assert await upstream.resolve(asked) == sent
    assert await upstream.resolve(sent) == sent


async def test_a_name_of_thousands_of_characters_is_refused(up: ScriptedUpstream, connect: Connect) -> None:
    upstream = await connect(up.url, aliases={"gpt-4o": "qwen"})
    assert await upstream.resolve("x" * 256) == "x" * 256
    with pytest.raises(PromptRefused, match="at most 256"):
        await upstream.resolve("x" * 257)


async def test_an_empty_name_means_the_default_before_the_first_listed(up: ScriptedUpstream, connect: Connect) -> None:
    assert await (await connect(up.url, default_model="mine")).resolve("") == "mine"
    assert await (await connect(up.url, default_model="gpt", aliases={"gpt": "qwen"})).resolve("") == "qwen"
    assert await (await connect(up.url)).resolve("") == "test-model"


async def test_without_a_name_and_a_listing_the_error_names_the_setting(up: ScriptedUpstream, connect: Connect) -> None:
    up.models = []
    with pytest.raises(RunError, match="DEFAULT_MODEL"):
        await (await connect(up.url)).resolve("")


async def test_a_name_that_needs_no_listing_never_waits_for_one(up: ScriptedUpstream, connect: Connect) -> None:
    up.models_reply = Hang()
    upstream = await connect(up.url, aliases={"a": "b"})
    started = time.monotonic()
    assert await upstream.resolve("plain") == "plain"
    assert await upstream.resolve("a") == "b"
    assert time.monotonic() - started < 0.1


async def test_a_failing_listing_fails_no_run_and_is_requested_once(up: ScriptedUpstream, connect: Connect) -> None:
    up.models_reply = Fail(500)
    upstream = await connect(up.url)
    for _ in range(20):
        assert await upstream.resolve("org/model") == "org/model"
    assert up.models_asked == 1


async def test_concurrent_callers_share_one_fetch(up: ScriptedUpstream, connect: Connect) -> None:
    upstream = await connect(up.url)
    await asyncio.gather(
        *(upstream.resolve("org/test-model") for _ in range(50)), *(upstream.models() for _ in range(9))
    )
    assert up.models_asked == 1
    await upstream.models()
    await upstream.resolve("org/test-model")
    assert up.models_asked == 1


async def test_a_cancelled_caller_does_not_end_the_fetch_of_others(up: ScriptedUpstream, connect: Connect) -> None:
    up.models_reply = Hang()
    upstream = await connect(up.url)
    first, second = (asyncio.create_task(upstream.models()) for _ in range(2))
    await up.eventually(lambda up: up.models_asked == 1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    up.models_reply = Fail(503)
    up.release()
    with pytest.raises(UpstreamProblem, match="503"):
        await second


async def test_closing_ends_a_running_fetch(up: ScriptedUpstream, connect: Connect) -> None:
    up.models_reply = Hang()
    upstream = await connect(up.url)
    await upstream.resolve("plain")
    await up.eventually(lambda up: up.models_asked == 1)
    started = time.monotonic()
    await upstream.close()
    assert time.monotonic() - started < 0.5


@pytest.mark.parametrize(
    "body",
    [
        b'{"data": [{"id": "a", "x": 1}, {"no": "id"}, 3]}',
        b'{"models": [{"name": "a", "x": 1}]}',
        b'[{"id": "a", "x": 1}]',
    ],
    ids=["openai", "models and name", "bare list"],
)
async def test_every_shape_of_listing_is_accepted(up: ScriptedUpstream, connect: Connect, body: bytes) -> None:
    up.models_reply = Raw([body], content_type="application/json")
    assert [(m["id"], m["x"]) for m in await (await connect(up.url)).models()] == [("a", 1)]


@pytest.mark.parametrize("body", [b"<html>", b"3", b"null", b'{"data": 3}', b'{"data": null}'])
async def test_any_listing_can_be_answered(up: ScriptedUpstream, connect: Connect, body: bytes) -> None:
    up.models_reply = Raw([body], content_type="application/json")
    upstream = await connect(up.url)
    if body == b"<html>":
        with pytest.raises(UpstreamProblem, match="did not answer `/models` with JSON"):
            await upstream.models()
    else:
        assert await upstream.models() == []


async def test_models_without_an_upstream_are_an_error(connect: Connect) -> None:
    with pytest.raises(Unavailable, match="Set MODEL_URL"):
        await (await connect(None)).models()
    with ScriptedUpstream() as gone:
        url = gone.url
    with pytest.raises(UpstreamProblem, match="cannot be reached"):
        await (await connect(url)).models()


async def test_check_returns_the_reason_or_none(up: ScriptedUpstream, connect: Connect) -> None:
    assert await (await connect(up.url)).check() is None
    up.models_reply = Fail(404)
    assert await (await connect(up.url)).check() is None
    for reply, part in [(Fail(401), "MODEL_API_KEY"), (Fail(500), "failed (500)"), (Fail(429), "429")]:
        up.models_reply = reply
        assert part in str(await (await connect(up.url)).check())
    assert "Set MODEL_URL" in str(await (await connect(None)).check())


@pytest.mark.parametrize(
    ("entry", "limit"),
    [
        ({"max_model_len": 4096}, 4096),
        ({"max_context_length": 8192, "loaded_context_length": 2048}, 2048),
        ({"context_length": 1000}, 1000),
        ({"context_window": 1000}, 1000),
        ({"meta": {"n_ctx": 512, "n_ctx_train": 8192}}, 512),
        ({"max_model_len": None, "meta": None}, None),
        ({"max_model_len": "many", "context_length": -1}, None),
        ({"context_length": True}, None),
        ({}, None),
    ],
)
def test_context_limits_are_read_from_entries(entry: dict[str, Any], limit: int | None) -> None:
    assert listed_limit(entry) == limit


async def test_a_learned_limit_outranks_the_listed_one(up: ScriptedUpstream, connect: Connect) -> None:
    up.models = [{"id": "m", "max_context_length": 32768}]
    upstream = await connect(up.url)
    assert upstream.context_limit("m") is None
    await upstream.models()
    assert upstream.context_limit("m") == 32768
    upstream.learn_limit("m", 4096)
    assert upstream.context_limit("m") == 4096
    upstream.learn_limit("m", 3)  # what old vLLM's context leaves after max_tokens
    assert upstream.context_limit("m") == 4096
    assert upstream.context_limit("other") is None
