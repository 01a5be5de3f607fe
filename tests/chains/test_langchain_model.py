"""LangChain chat models as the graph's model: a real one, and ones that cannot stream or do not support tools."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from chains.extra_fields import EXTRA_FIELDS
from chains.langchain_model import LangChainBackend
from chains.reply import ReplyCall
from tests.upstream import Fail, Reply, ScriptedUpstream
from wire.errors import PromptRefused, UpstreamFailed
from wire.model_options import ModelOptions

TOOLS: Any = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}]


def call(**fields: Any) -> ReplyCall:
    return ReplyCall(model="", messages=[HumanMessage("hello there")], **fields)


async def whole(chat: Any, asked: ReplyCall) -> AIMessageChunk:
    made = AIMessageChunk(content="")
    async for chunk in LangChainBackend(chat).stream(asked):
        assert isinstance(chunk, AIMessageChunk)
        made += chunk
    return made


@pytest.fixture
async def openai(up: ScriptedUpstream) -> AsyncIterator[ChatOpenAI]:
    """A model with its own connections, which end with the test: LangChain keeps its connections for the process."""
    async with httpx2.AsyncClient() as http:
        yield ChatOpenAI(
            base_url=up.url,
            api_key=SecretStr("any"),
            model="their-model",
            max_retries=0,
            stream_usage=True,
            http_async_client=http,
        )


async def test_the_model_keeps_its_name_and_gets_only_given_options(up: ScriptedUpstream, openai: ChatOpenAI) -> None:
    made = await whole(openai, call(options=ModelOptions(temperature=0.5)))
    assert made.content == "Echo: hello there"
    assert made.usage_metadata is not None
    body = up.requests[-1].body
    assert [body["model"], body["temperature"]] == ["their-model", 0.5]
    assert not {"tools", "top_p", "max_tokens", "response_format"} & body.keys()


@pytest.mark.parametrize(
    ("choice", "sent"),
    [("required", "required"), ({"type": "function", "function": {"name": "now"}}, "now"), (None, None)],
    ids=["required", "named", "free"],
)
async def test_tools_and_their_choice_are_bound(
    up: ScriptedUpstream, openai: ChatOpenAI, choice: Any, sent: Any
) -> None:
    up.script(Reply(tool_calls=[("now", {"a": 1})]))
    made = await whole(openai, call(tools=TOOLS, tool_choice=choice))
    assert [each["args"] for each in made.tool_calls] == [{"a": 1}]
    received = up.requests[-1].body.get("tool_choice")
    assert (received["function"]["name"] if isinstance(received, dict) else received) == sent
    assert up.requests[-1].body["tools"][0]["function"]["name"] == "now"


async def test_every_error_of_a_model_becomes_a_run_error(up: ScriptedUpstream, openai: ChatOpenAI) -> None:
    up.script(Fail(400, {"error": {"message": "no such thing"}}))
    with pytest.raises(UpstreamFailed, match=r"ChatOpenAI failed: \w+: .*no such thing"):
        await whole(openai, call())
    with pytest.raises(PromptRefused, match="does not support tools"):
        await whole(FakeListChatModel(responses=["x"]), call(tools=TOOLS))


class Whole(BaseChatModel):
    """A model that cannot stream."""

    message: AIMessage
    _llm_type = "whole"

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:  # noqa: ARG002
        return ChatResult(generations=[ChatGeneration(message=self.message)])


async def test_a_model_that_cannot_stream_gives_one_chunk() -> None:
    calls: Any = [{"name": "now", "args": {"a": 1}, "id": "c1", "type": "tool_call"}]
    made = await whole(Whole(message=AIMessage("Well.", tool_calls=calls)), call())
    assert made.content == "Well."
    assert [(each["name"], each["args"], each["id"]) for each in made.tool_calls] == [("now", {"a": 1}, "c1")]


async def test_an_endless_answer_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chains.provider_chunks.MAX_ANSWER_BYTES", 1 << 20)
    with pytest.raises(UpstreamFailed, match="FakeListChatModel sent more than 1 MiB"):
        await whole(FakeListChatModel(responses=["x" * 4_000]), call())


async def test_calls_without_an_index_are_distinguished() -> None:
    class Unnumbered(FakeListChatModel):
        """Streams complete calls without an index, as Google's model and others do."""

        def bind_tools(self, tools: Any, **kwargs: Any) -> Any:  # noqa: ARG002
            return self

        async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
            for id in ("a", "b"):
                made = {"name": "now", "args": "{}", "id": id, "index": None, "type": "tool_call_chunk"}
                yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[made]))  # type: ignore[list-item]

    made = await whole(Unnumbered(responses=["unused"]), call(tools=TOOLS))
    assert [(made["name"], made["id"]) for made in made.tool_calls] == [("now", "a"), ("now", "b")]


@pytest.mark.parametrize("additional", [{"signatures": {"a": "c2ln"}}, {"odd": object()}], ids=["JSON", "no JSON"])
async def test_the_library_s_own_fields_are_sent_back_with_the_calls(additional: Any) -> None:
    asked: list[Any] = []

    class Signing(FakeListChatModel):
        def bind_tools(self, tools: Any, **kwargs: Any) -> Any:  # noqa: ARG002
            return self

        async def _astream(self, messages: Any, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
            asked.append(messages)
            made = {"name": "now", "args": "{}", "id": "a", "index": 0, "type": "tool_call_chunk"}
            for text in ("I think", "."):
                block = {"type": "thinking", "thinking": text, "index": 0}
                yield ChatGenerationChunk(message=AIMessageChunk(content=[block]))  # type: ignore[list-item]
            message = AIMessageChunk(content="", additional_kwargs=additional, tool_call_chunks=[made])  # type: ignore[list-item]
            yield ChatGenerationChunk(message=message)

    chat = Signing(responses=["unused"])
    made = await whole(chat, call(tools=TOOLS))
    kept = {EXTRA_FIELDS: made.additional_kwargs[EXTRA_FIELDS]} if EXTRA_FIELDS in made.additional_kwargs else {}
    turn = AIMessage("", tool_calls=made.tool_calls, additional_kwargs=kept)
    messages = [HumanMessage("hello there"), turn, ToolMessage("noon", tool_call_id="a")]
    await whole(chat, ReplyCall(model="", messages=messages, tools=TOOLS))
    back = asked[-1][1]
    if "odd" in additional:
        assert (back.content, back.additional_kwargs) == ("", {})
    else:
        assert back.content == [{"type": "thinking", "thinking": "I think.", "index": 0}]
        assert back.additional_kwargs == additional
    assert back.tool_calls == made.tool_calls


class Looping(FakeListChatModel):
    """Calls a function in every reply."""

    def bind_tools(self, tools: Any, **_: Any) -> Any:  # noqa: ARG002
        return self

    async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        for index in range(20_000):
            call: Any = {"name": "now", "args": "{}", "id": f"c{index}", "index": index, "type": "tool_call_chunk"}
            yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[call]))


async def test_too_many_calls_fail_the_run() -> None:
    with pytest.raises(UpstreamFailed, match="more than 128 function calls"):
        await whole(Looping(responses=[]), call(tools=TOOLS))
