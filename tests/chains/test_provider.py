"""Anthropic through langchain-anthropic, with a server that has Anthropic's API."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import orjson
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage

from chains import ModelRouter, Provider, ReplyCall, RoutedUpstream, build_chat_chain
from chains.extra_fields import EXTRA_FIELDS
from tests.anthropic import ErrorReply, MessageReply, ScriptedAnthropic
from tests.chains.conftest import FAST
from wire.errors import ContextOverflow, InvalidRequest, NotFound, PromptRefused, RateLimited, RunError, UpstreamFailed
from wire.model_options import ModelOptions

Open = Callable[..., Awaitable[Provider]]

WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"place": {"type": "string"}}}},
}


@pytest.fixture
def up() -> Iterator[ScriptedAnthropic]:
    with ScriptedAnthropic() as up:
        yield up


@pytest.fixture
async def provide(up: ScriptedAnthropic) -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:

        async def provide(provider: str = "anthropic", **settings: Any) -> Provider:
            made = Provider("claude", provider, **{"url": up.url, "api_key": "sk-file", "limits": FAST, **settings})
            stack.push_async_callback(made.close)
            return made

        yield provide


async def ask(provider: Provider, *messages: Any, **fields: Any) -> list[AIMessageChunk]:
    call = ReplyCall(model="claude-test", messages=list(messages) or [HumanMessage("hi")], **fields)
    return [chunk async for chunk in provider.stream(call)]


def whole(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    made = AIMessageChunk(content="")
    for chunk in chunks:
        made += chunk
    return made


@pytest.mark.parametrize("message", ["temperature: Extra inputs are not permitted", "`temperature` is deprecated"])
async def test_a_refused_option_is_left_out_and_remembered(up: ScriptedAnthropic, provide: Open, message: str) -> None:
    up.script(ErrorReply(400, "invalid_request_error", message))
    provider = await provide()
    for _ in range(2):
        assert whole(await ask(provider, options=ModelOptions(temperature=0.5), max_tokens=9)).content == "Hello there"
    assert ["temperature" in body for body in up.bodies] == [True, False, False]
    assert [body["max_tokens"] for body in up.bodies] == [9, 9, 9]


async def test_text_is_streamed_with_finish_and_usage_last(up: ScriptedAnthropic, provide: Open) -> None:
    options = ModelOptions(temperature=1.7, top_p=0.5)
    chunks = await ask(await provide(), SystemMessage("be brief"), HumanMessage("hi"), options=options)
    assert [chunk.content for chunk in chunks] == ["Hello", " there", ""]
    assert chunks[-1].response_metadata["finish_reason"] == "stop"
    assert chunks[-1].usage_metadata is not None
    assert chunks[-1].usage_metadata["input_tokens"] > 0
    assert chunks[-1].usage_metadata["output_tokens"] > 1
    body = up.bodies[0]
    assert (body["model"], body["system"], body["temperature"]) == ("claude-test", "be brief", 1.0)
    assert "top_p" not in body
    assert body["max_tokens"] > 0
    assert "sk-file" in (up.headers[0].get("x-api-key") or up.headers[0]["authorization"])
    await ask(await provide(), max_tokens=7, options=ModelOptions(top_p=0.5))
    assert (up.bodies[1]["max_tokens"], up.bodies[1]["top_p"]) == (7, 0.5)
    assert "temperature" not in up.bodies[1]


async def test_without_a_user_message_the_model_answers_first(up: ScriptedAnthropic, provide: Open) -> None:
    claude = await provide()
    assert whole(await ask(claude, SystemMessage("Greet them."))).content == "Hello there"
    assert (up.bodies[-1]["messages"], "system" in up.bodies[-1]) == (
        [{"role": "user", "content": "Greet them."}],
        False,
    )
    assert len(up.bodies) == 2


async def test_reasoning_is_separate_from_the_text(up: ScriptedAnthropic, provide: Open) -> None:
    up.script(MessageReply("42", reasoning="Let me see"))
    made = whole(await ask(await provide(), tools=[WEATHER]))
    assert made.content == "42"
    assert made.additional_kwargs["reasoning_content"] == "Let me see"


async def test_tool_calls_and_their_outputs_are_passed_on(up: ScriptedAnthropic, provide: Open) -> None:
    up.script(
        MessageReply("Looking", calls=(("weather", {"place": "Pau"}), ("weather", {"place": "Ulm"}))),
        MessageReply("Warm"),
    )
    provider = await provide()
    made = whole(await ask(provider, tools=[WEATHER]))
    assert made.content == "Looking"
    assert made.response_metadata["finish_reason"] == "tool_calls"
    assert [(call["name"], call["args"]) for call in made.tool_calls] == [
        ("weather", {"place": "Pau"}),
        ("weather", {"place": "Ulm"}),
    ]
    turn = AIMessage("Looking", tool_calls=made.tool_calls)
    outputs = [ToolMessage("20 °C", tool_call_id=str(call["id"])) for call in made.tool_calls]
    assert whole(await ask(provider, HumanMessage("hi"), turn, *outputs, tools=[WEATHER])).content == "Warm"
    sent = up.bodies[1]["messages"]
    assert [block["type"] for block in sent[1]["content"]] == ["text", "tool_use", "tool_use"]
    assert [block["tool_use_id"] for block in sent[2]["content"]] == [call["id"] for call in made.tool_calls]


async def test_thinking_blocks_are_sent_back_signed_and_in_order(up: ScriptedAnthropic, provide: Open) -> None:
    calls = (("weather", {"place": "Pau"}), ("weather", {"place": "Ulm"}))
    up.script(
        MessageReply("Looking", calls=calls, reasoning="Let me see", signature="s1gn3d", redacted="b64"),
        MessageReply("Warm"),
    )
    provider = await provide()
    made = whole(await ask(provider, tools=[WEATHER]))
    beside = {EXTRA_FIELDS: made.additional_kwargs[EXTRA_FIELDS]}
    changed = [{**made.tool_calls[0], "args": {"place": "Pau, France"}}, made.tool_calls[1]]
    for turn, kept in (
        (AIMessage("Looking", tool_calls=changed, additional_kwargs=beside), True),  # type: ignore[arg-type]
        (AIMessage("Looking", tool_calls=made.tool_calls), False),
    ):
        outputs = [ToolMessage("20 °C", tool_call_id=str(call["id"])) for call in made.tool_calls]
        await ask(provider, HumanMessage("hi"), turn, *outputs, tools=[WEATHER])
        sent = up.bodies[-1]["messages"][1]["content"]
        own = [
            {"type": "thinking", "thinking": "Let me see", "signature": "s1gn3d"},
            {"type": "redacted_thinking", "data": "b64"},
        ]
        assert sent[: 2 * kept] == own[: 2 * kept]
        assert [block["type"] for block in sent[2 * kept :]] == ["text", "tool_use", "tool_use"]
        assert sent[-2]["input"] == turn.tool_calls[0]["args"]
        assert sent[-2]["id"] == made.tool_calls[0]["id"]
    other = await provide(url=f"{up.url}/")
    alone = AIMessage("Looking", tool_calls=made.tool_calls[:1], additional_kwargs=beside)
    for asked, kinds in (
        (provider, ["thinking", "redacted_thinking", "text", "tool_use"]),
        (other, ["text", "tool_use"]),
    ):
        await ask(asked, HumanMessage("hi"), alone, ToolMessage("20 °C", tool_call_id="x"), tools=[WEATHER])
        assert [block["type"] for block in up.bodies[-1]["messages"][1]["content"]] == kinds


@pytest.mark.parametrize(
    ("choice", "parallel", "sent"),
    [
        (None, None, None),
        ("required", None, {"type": "any"}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
        ({"type": "function", "function": {"name": "weather"}}, None, {"type": "tool", "name": "weather"}),
        ("none", None, {"type": "none"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
    ],
)
async def test_a_tool_choice_has_anthropic_s_form(
    up: ScriptedAnthropic, provide: Open, choice: Any, parallel: bool | None, sent: Any
) -> None:
    await ask(await provide(), tools=[WEATHER], tool_choice=choice, parallel_tool_calls=parallel)
    assert up.bodies[0].get("tool_choice") == sent
    assert up.bodies[0]["tools"][0]["input_schema"]["properties"] == {"place": {"type": "string"}}


async def test_a_schema_is_sent_to_models_that_support_it(up: ScriptedAnthropic, provide: Open) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    provider = await provide()
    await ask(provider, response_format=wanted)
    assert "output_config" not in up.bodies[0]  # LangChain has no profile of claude-test
    call = ReplyCall(model="claude-sonnet-5", messages=[HumanMessage("hi")], response_format=wanted)
    assert [chunk async for chunk in provider.stream(call)]
    assert up.bodies[1]["output_config"]["format"]["schema"]["properties"]["n"]["type"] == "integer"


@pytest.mark.parametrize(
    ("step", "kind", "part"),
    [
        (ErrorReply(429, "rate_limit_error", "slow down"), RateLimited, "slow down"),
        (
            ErrorReply(401, "authentication_error", "invalid x-api-key sk-file"),
            UpstreamFailed,
            "`api_key` of [upstreams.",
        ),
        (ErrorReply(404, "not_found_error", "model: claude-test"), PromptRefused, "does not serve model `claude-test`"),
        (ErrorReply(400, "invalid_request_error", "messages: too odd"), PromptRefused, "too odd"),
        (
            ErrorReply(400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
            ContextOverflow,
            "too long",
        ),
        (ErrorReply(529, "overloaded_error", "Overloaded"), UpstreamFailed, "Overloaded"),
        (MessageReply("half", breaks=True), UpstreamFailed, "Overloaded"),
        (MessageReply("half", cut=True), UpstreamFailed, "ended early"),
    ],
)
async def test_errors_become_run_errors(
    up: ScriptedAnthropic, provide: Open, step: Any, kind: type[RunError], part: str
) -> None:
    up.script(*[step] * (1 + FAST.retry.retries))
    with pytest.raises(kind) as error:
        await ask(await provide())
    assert type(error.value) is kind
    assert part in error.value.message
    assert "sk-file" not in error.value.message
    if isinstance(error.value, ContextOverflow):
        assert (error.value.limit, error.value.used) == (200_000, 210_000)


async def test_an_endless_answer_is_ended_with_advice(
    up: ScriptedAnthropic, provide: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chains.provider_chunks.MAX_ANSWER_BYTES", 1 << 20)
    long = "x" * 1_100_000
    for answer in (
        MessageReply(long),
        MessageReply("So", reasoning=long),
        MessageReply(calls=(("weather", {"place": long[:30_000]}),)),
    ):
        up.script(answer)
        with pytest.raises(UpstreamFailed, match=r"`claude` \(anthropic\) sent more than 1 MiB.*MAX_REPLY_TOKENS"):
            await ask(await provide(), tools=[WEATHER])
    up.script(MessageReply("x" * 900_000))
    assert len(str(whole(await ask(await provide())).content)) == 900_000


async def test_an_answer_without_a_limit_gets_the_server_s(up: ScriptedAnthropic, provide: Open) -> None:
    provider = await provide(max_reply_tokens=55)
    await ask(provider)
    await ask(provider, max_tokens=7)
    assert [body["max_tokens"] for body in up.bodies] == [55, 7]


async def test_pings_count_as_silence(up: ScriptedAnthropic, provide: Open) -> None:
    up.script(MessageReply("one two", pings=True))
    async with asyncio.timeout(5):
        with pytest.raises(UpstreamFailed, match="silent for too long") as caught:
            await ask(await provide(limits=replace(FAST, idle_s=0.3)))
    assert caught.value.kind == "silent"


async def test_an_unavailable_server_is_reported(provide: Open) -> None:
    with ScriptedAnthropic() as gone:
        url = gone.url
    with pytest.raises(UpstreamFailed, match="cannot be reached"):
        await ask(await provide(url=url))
    assert "cannot be reached" in str(await (await provide(url=url)).check())


async def test_leaving_closes_the_connection(up: ScriptedAnthropic, provide: Open) -> None:
    up.script(MessageReply("one two", hang=True), MessageReply("one two", hang=True))
    provider = await provide()
    stream: Any = provider.stream(ReplyCall(model="claude-test", messages=[HumanMessage("hi")]))
    assert (await anext(stream)).content == "one"
    await stream.aclose()
    task = asyncio.create_task(ask(provider))
    async with asyncio.timeout(5):
        while up.open_streams + up.closed_early < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        task.cancel()
        while up.closed_early < 2:
            await asyncio.sleep(0.01)


async def test_no_key_is_taken_from_the_environment(
    up: ScriptedAnthropic, provide: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "sk-environment")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "x-secret: sk-environment")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    await ask(await provide())
    assert "sk-environment" not in str(up.headers)
    for provider in ("anthropic", "openai"):
        with pytest.raises(UpstreamFailed, match=r"Set `api_key` in \[upstreams\.claude\]"):
            await ask(await provide(provider, api_key=None))


async def test_listed_models_are_known(up: ScriptedAnthropic, provide: Open) -> None:
    up.models[0]["max_input_tokens"] = 200_000  # type: ignore[assignment]
    provider = await provide()
    assert [entry["id"] for entry in await provider.models()] == ["claude-test"]
    assert provider.names() == ["claude-test"]
    assert provider.context_limit("claude-test") == 200_000
    assert await provider.check() is None


async def test_a_provider_unknown_to_langchain_is_reported(provide: Open) -> None:
    reason = str(await (await provide("skynet", models=["t800"])).check())
    assert "skynet" in reason
    assert "anthropic" in reason


def test_a_missing_package_is_reported_with_the_install_command() -> None:
    program = """
import asyncio, sys
sys.modules["langchain_anthropic"] = None
from chains import Provider
print(asyncio.run(Provider("claude", "anthropic", api_key="k").check()))
print(asyncio.run(Provider("g", "groq", api_key="k", models=["m"]).check()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=15)
    assert "pip install langchain-anthropic" in done.stdout
    assert "pip install langchain-groq" in done.stdout


async def test_chat_completions_are_answered_in_openai_s_shape(up: ScriptedAnthropic, provide: Open) -> None:
    provider = await provide()
    router = ModelRouter([RoutedUpstream("claude", provider, provider)])
    asked = {"model": "claude/claude-test", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
    whole = orjson.loads((await router.pass_through(asked)).body or b"")
    assert whole["choices"][0]["message"] == {"role": "assistant", "content": "Hello there", "refusal": None}
    assert whole["choices"][0]["finish_reason"] == "stop"
    assert whole["usage"]["total_tokens"] > 2
    assert up.bodies[0]["max_tokens"] == 9
    up.script(MessageReply("So", calls=(("weather", {"place": "Pau"}),)))
    more = {"stream": True, "tools": [WEATHER], "stream_options": {"include_usage": True}}
    response = await router.pass_through({**asked, **more})
    frames = b"".join([block async for block in response.blocks()]).decode().split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    chunks = [orjson.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]
    calls = [call for chunk in chunks for choice in chunk["choices"] for call in choice["delta"].get("tool_calls", [])]
    assert calls[0]["id"]
    assert calls[0]["function"]["name"] == "weather"
    assert orjson.loads("".join(call["function"]["arguments"] for call in calls)) == {"place": "Pau"}
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert chunks[-1]["usage"]["prompt_tokens"] > 0
    up.script(ErrorReply(400, "invalid_request_error", "no"))
    with pytest.raises(InvalidRequest, match="no"):
        await router.pass_through({**asked, "stream": True})
    with pytest.raises(InvalidRequest, match="`messages`"):
        await router.pass_through({**asked, "messages": [{"role": "wizard"}]})


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_an_overflow_of_chat_completions_is_openai_s(up: ScriptedAnthropic, provide: Open, stream: bool) -> None:
    provider = await provide()
    up.script(ErrorReply(400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"))
    asked = {"model": "claude-test", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    with pytest.raises(InvalidRequest, match=r"context length is 200000 tokens.*resulted in 210000 tokens") as caught:
        await provider.pass_through(asked)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")


async def test_a_provider_serves_no_other_path(provide: Open) -> None:
    provider = await provide()
    for path in ("/completions", "/embeddings", "/audio/speech"):
        with pytest.raises(NotFound, match=rf"`claude` \(anthropic\) does not serve `{path}`"):
            await provider.pass_through({"model": "claude-test"}, path)


async def test_the_chat_chain_uses_the_provider_too(up: ScriptedAnthropic, provide: Open) -> None:
    provider = await provide()
    chain = build_chat_chain(ModelRouter([RoutedUpstream("claude", provider, provider)]))
    configured: Any = {"configurable": {"model": "claude-test", "max_tokens": 5}}
    assert await chain.ainvoke({"system": "be brief", "human": "hi"}, configured) == "Hello there"
    assert (up.bodies[0]["system"], up.bodies[0]["max_tokens"]) == ("be brief", 5)
