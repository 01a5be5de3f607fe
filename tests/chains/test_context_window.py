"""Exact contexts and counts from engines in their own protocols: requested once, in limited time, without delaying
runs."""

import time
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from chains import OpenAIBackend, Prompt, build_prompt
from chains.fitting import tokens_for_answer
from tests.chains.conftest import Connect
from tests.upstream import Hang, ScriptedUpstream

AUTO = {"type": "auto", "last_messages": None}
ASKED = [HumanMessage("hi")]


def prompt(turns: int, size: int = 100, tools: Any = ()) -> Prompt:
    history = [
        {"role": role, "content": f"{turn} {'x' * size}"} for turn in range(turns) for role in ("user", "assistant")
    ]
    newest = {"role": "user", "content": "now?"}
    return build_prompt(instructions="brief", history=[*history, newest], exchange=(), truncation=AUTO, tools=tools)


def serve_llama(up: ScriptedUpstream, n_ctx: int, *, chars_per_token: int = 1) -> None:
    """Serve as a llama.cpp that counts characters."""

    def template(body: Any) -> dict[str, Any]:
        tools = str(body.get("tools", ""))
        return {"prompt": tools + "".join(f"<|{one['role']}|>{one['content']}" for one in body["messages"])}

    up.extra["/props"] = lambda _: {"default_generation_settings": {"n_ctx": n_ctx}, "total_slots": 4}
    up.extra["/apply-template"] = template
    up.extra["/tokenize"] = lambda body: {"tokens": list(range(len(body["content"]) // chars_per_token))}


def vllm(up: ScriptedUpstream) -> None:
    up.models = [{"id": "m", "max_model_len": 4096, "owned_by": "vllm"}]
    up.extra["/tokenize"] = lambda body: {"count": 7, "max_model_len": 4096, "tokens": []} if body["model"] else None


def lm_studio(up: ScriptedUpstream) -> None:
    up.extra["/api/v0/models/m"] = lambda _: {"id": "m", "max_context_length": 32768, "loaded_context_length": 4096}


def lm_studio_unloaded(up: ScriptedUpstream) -> None:
    up.extra["/api/v0/models/m"] = lambda _: {"id": "m", "state": "not-loaded", "max_context_length": 4096}


def ollama(up: ScriptedUpstream) -> None:
    up.extra["/api/ps"] = lambda _: {"models": [{"name": "m:latest", "context_length": 4096}]}
    up.extra["/api/show"] = lambda _: {"parameters": "num_ctx 32768"}


def ollama_unloaded(up: ScriptedUpstream) -> None:
    up.extra["/api/ps"] = lambda _: {"models": []}
    up.extra["/api/show"] = lambda _: {
        "parameters": "stop  x\nnum_ctx   4096",
        "model_info": {"a.context_length": 131072},
    }


def llama(up: ScriptedUpstream) -> None:
    up.models = [{"id": "m", "meta": {"n_ctx_train": 131072, "n_ctx": 16384}}]
    serve_llama(up, 4096)


def openrouter(up: ScriptedUpstream) -> None:
    up.models = [{"id": "m", "context_length": 4096}]


ENGINES = [llama, vllm, lm_studio, lm_studio_unloaded, ollama, ollama_unloaded, openrouter]


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.__name__)
async def test_an_engine_reports_its_context_and_is_asked_once(
    up: ScriptedUpstream, connect: Connect, engine: Any
) -> None:
    engine(up)
    upstream = await connect(up.url)
    assert upstream.context_limit("m") is None  # reading the known value does not wait
    assert await upstream.ask_limit("m") == 4096
    asked = len(up.extra_asked)
    for _ in range(5):
        assert await upstream.ask_limit("m") == upstream.context_limit("m") == 4096
    assert len(up.extra_asked) == asked
    upstream.learn_limit("m", 2048)
    assert upstream.context_limit("m") == 2048


async def test_an_engine_that_reports_nothing_fails_no_run(up: ScriptedUpstream, connect: Connect) -> None:
    upstream = await connect(up.url)
    assert await upstream.ask_limit("m") is None
    assert await upstream.count_tokens("m", ASKED, ()) is None
    asked = len(up.extra_asked)
    assert await upstream.ask_limit("m") is None
    assert len(up.extra_asked) == asked
    assert not up.requests
    assert dict(upstream.outcomes) == {("ok",): 1}, "probes are no refusals"


@pytest.mark.parametrize("model", ["../../secret", "a/../../../secret", "..", "./secret", "a//secret", "/secret"])
async def test_a_models_name_reaches_no_other_path(up: ScriptedUpstream, connect: Connect, model: str) -> None:
    upstream = await connect(up.url)
    await upstream.ask_limit(model)
    assert {path.partition("?")[0] for path in up.extra_asked} <= {"/props", "/api/ps", "/api/show"}


async def test_an_engine_that_hangs_is_waited_for_briefly_and_once(up: ScriptedUpstream, connect: Connect) -> None:
    for path in ("/props", "/tokenize", "/apply-template"):
        up.extra[path] = lambda _: Hang()
    upstream = await connect(up.url)
    started = time.monotonic()
    assert await upstream.ask_limit("m") is None
    assert time.monotonic() - started < 5
    replies, small = OpenAIBackend(upstream), prompt(2)
    started = time.monotonic()
    assert await upstream.ask_limit("m") is None
    assert await replies.fit("m", small, answer=None) is small
    assert time.monotonic() - started < 0.3


async def test_a_small_prompt_asks_and_waits_for_nothing(up: ScriptedUpstream, connect: Connect) -> None:
    serve_llama(up, 8192)
    up.extra["/props"] = lambda _: Hang()
    replies = OpenAIBackend(await connect(up.url))
    small = prompt(4)
    started = time.monotonic()
    assert await replies.fit("m", small, answer=None) is small
    assert time.monotonic() - started < 0.3
    assert "/tokenize" not in up.extra_asked


async def test_tokens_are_counted_by_the_engine_with_the_tools(up: ScriptedUpstream, connect: Connect) -> None:
    serve_llama(up, 4096)
    upstream = await connect(up.url)
    assert await upstream.count_tokens("m", ASKED, ()) is None  # nothing is known about the engine so far
    await upstream.ask_limit("m")
    bare = await upstream.count_tokens("m", ASKED, ())
    assert bare == len("<|user|>hi")
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert await upstream.count_tokens("m", ASKED, tools) == bare + len(str(tools))
    up.extra.clear()
    assert await upstream.count_tokens("m", ASKED, ()) is None
    asked = len(up.extra_asked)
    assert await upstream.count_tokens("m", ASKED, ()) is None
    assert len(up.extra_asked) == asked  # an engine that stopped counting is not asked for a while


async def test_vllm_counts_messages(up: ScriptedUpstream, connect: Connect) -> None:
    vllm(up)
    upstream = await connect(up.url)
    await upstream.ask_limit("m")
    assert await upstream.count_tokens("m", ASKED, ()) == 7


async def test_the_engine_s_count_outranks_the_estimate(up: ScriptedUpstream, connect: Connect) -> None:
    long = prompt(40, 200)
    serve_llama(up, 4096, chars_per_token=10)
    replies = OpenAIBackend(await connect(up.url))
    assert long.tokens(replies.tokens_per_char("m")) > 4096  # by the estimate it would not fit
    assert await replies.fit("m", long, answer=None) is long
    serve_llama(up, 4096, chars_per_token=1)
    fitted = await replies.fit("m", long, answer=None)
    assert fitted.dropped > 0
    count = await replies.upstream.count_tokens("m", fitted.messages(), ())
    assert count is not None
    assert 2500 < count <= 4096 - tokens_for_answer(4096, None)
    more = await replies.fit("m", long, answer=100)
    assert more.dropped < fitted.dropped  # a short answer needs fewer tokens


def test_tools_count_in_the_estimate() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "d" * 4000}}]
    assert prompt(1, tools=tools).chars > prompt(1).chars + 4000


@pytest.mark.parametrize(
    ("limit", "wanted", "prompt_limit"),
    [(2048, None, 512), (2048, 100, 100), (512, None, 128), (131072, None, 16384), (3, 0, 1)],
)
def test_tokens_are_reserved_for_the_answer(limit: int, wanted: int | None, prompt_limit: int) -> None:
    assert tokens_for_answer(limit, wanted) == prompt_limit
