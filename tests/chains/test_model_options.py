"""Every model option reaches every kind of upstream."""

from collections.abc import AsyncGenerator, AsyncIterator

import httpx2
import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from chains import OpenAIBackend, Provider, ReplyCall
from chains.completions import open_completion
from chains.engine_requests import fit_request
from chains.forwarding import CHAT
from chains.langchain_model import LangChainBackend
from chains.ports import ChatBackend
from tests.anthropic import ScriptedAnthropic
from tests.chains.conftest import FAST, Connect
from tests.objects import OPTION_VALUES
from tests.upstream import ScriptedUpstream
from wire.model_options import OPTIONS, ModelOptions

EVERY = ModelOptions(**OPTION_VALUES)


@pytest.fixture
async def chat(up: ScriptedUpstream) -> AsyncIterator[ChatOpenAI]:
    async with httpx2.AsyncClient() as http:
        yield ChatOpenAI(
            base_url=up.url,
            api_key=SecretStr("any"),
            model="m",
            max_retries=0,
            stream_usage=True,
            http_async_client=http,
        )


async def sent(backend: ChatBackend, up: ScriptedUpstream, options: ModelOptions) -> dict[str, object]:
    """Return the options in the request for one answer."""
    async for _ in backend.stream(ReplyCall(model="test-model", messages=[HumanMessage("Hi")], options=options)):
        pass
    return {name: value for name, value in up.requests[-1].body.items() if name in OPTIONS}


async def test_an_openai_compatible_upstream_gets_every_option(up: ScriptedUpstream, connect: Connect) -> None:
    replies = OpenAIBackend(await connect(up.url))
    assert await sent(replies, up, EVERY) == OPTION_VALUES
    assert await sent(replies, up, ModelOptions()) == {}


async def test_a_program_s_own_chat_model_gets_every_option(up: ScriptedUpstream, chat: ChatOpenAI) -> None:
    replies = LangChainBackend(chat)
    assert await sent(replies, up, EVERY) == OPTION_VALUES
    assert await sent(replies, up, ModelOptions()) == {}


async def test_a_provider_gets_every_option_that_its_model_has(up: ScriptedUpstream) -> None:
    provider = Provider("named", "openai", url=up.url, api_key="any", models=["test-model"], limits=FAST)
    try:
        assert await sent(provider, up, EVERY) == OPTION_VALUES
        assert await sent(provider, up, ModelOptions()) == {}
    finally:
        await provider.close()


@pytest.mark.parametrize("name", OPTION_VALUES)
async def test_anthropic_gets_the_options_of_its_api(name: str) -> None:
    with ScriptedAnthropic() as up:
        provider = Provider("claude", "anthropic", url=up.url, api_key="any", limits=FAST)
        options = ModelOptions(**{name: OPTION_VALUES[name]})
        async for _ in provider.stream(ReplyCall("claude-test", [HumanMessage("Hi")], options=options)):
            pass
        await provider.close()
        assert {name: value for name, value in up.bodies[0].items() if name in OPTIONS} == (
            {} if name == "reasoning_effort" else options.named()
        )


async def test_the_built_in_engine_accepts_every_option() -> None:
    messages = [{"role": "user", "content": "Hi"}]
    assert await fit_request({"messages": messages, **OPTION_VALUES}, CHAT, context=1_024)


async def test_a_client_s_own_completion_has_every_option() -> None:
    calls: list[ReplyCall] = []

    async def stream(call: ReplyCall) -> AsyncGenerator[AIMessageChunk]:
        calls.append(call)
        yield AIMessageChunk(content="Hello")

    await open_completion(stream, {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **OPTION_VALUES})
    await open_completion(stream, {"model": "m", "messages": [{"role": "user", "content": "Hi"}]})
    assert [call.options for call in calls] == [EVERY, ModelOptions()]
