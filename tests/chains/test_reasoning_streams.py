"""Answers of reasoning models in every form in use, from a real server: reasoning is kept apart from the text."""

from typing import Any

import orjson
import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage

from chains import OpenAIBackend, ReplyCall, build_chat_chain
from chains.reply import RECLASSIFIED
from tests.chains.conftest import Connect
from tests.upstream import Raw, Reply, ScriptedUpstream


def stream(*deltas: dict[str, Any], finish: bool = True) -> Raw:
    chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    if finish:
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return Raw([*(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks), b"data: [DONE]\n\n"])


async def texts_of(replies: OpenAIBackend) -> tuple[str, str]:
    """Return the text and the reasoning of one reply."""
    text = reasoning = ""
    async for chunk in replies.stream(ReplyCall(model="m", messages=[HumanMessage("6 x 7?")])):
        assert isinstance(chunk, AIMessageChunk)
        if chunk.additional_kwargs.get(RECLASSIFIED):
            text, reasoning = "", reasoning + text
        text += str(chunk.content)
        reasoning += chunk.additional_kwargs.get("reasoning_content") or ""
    return text, reasoning


@pytest.mark.parametrize(
    "reply",
    [
        stream({"reasoning_content": "let "}, {"reasoning_content": "me"}, {"content": "42"}),
        stream({"reasoning": "let me", "content": ""}, {"content": "42"}),
        stream({"content": "<th"}, {"content": "ink>let "}, {"content": "me</think"}, {"content": ">\n\n42"}),
        stream({"content": "<think>let me</think>42"}, finish=False),
        stream(
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "let me"}]}]}, {"content": "42"}
        ),
        Reply(chunks=["<think>let me</think>", "4", "2"]),
    ],
    ids=["reasoning_content", "reasoning", "tags", "no finish reason", "Mistral's parts", "words"],
)
async def test_reasoning_is_kept_apart_from_the_text(up: ScriptedUpstream, connect: Connect, reply: Any) -> None:
    up.script(reply)
    assert await texts_of(OpenAIBackend(await connect(up.url))) == ("42", "let me")


async def test_reasoning_in_a_completion_is_separated_too(up: ScriptedUpstream, connect: Connect) -> None:
    message = {"role": "assistant", "content": "<think>let me</think>\n42"}
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    up.script(Raw([orjson.dumps(whole)], content_type="application/json"))
    assert await texts_of(OpenAIBackend(await connect(up.url))) == ("42", "let me")


async def test_untagged_reasoning_is_retracted_once_and_then_expected(up: ScriptedUpstream, connect: Connect) -> None:
    replies = OpenAIBackend(await connect(up.url))
    up.script(*[stream({"content": "let "}, {"content": "me\n</think>\n\n"}, {"content": "42"})] * 2)
    assert await texts_of(replies) == ("42", "let me\n")
    chunks = [chunk async for chunk in replies.stream(ReplyCall(model="m", messages=[HumanMessage("6 x 7?")]))]
    assert not [chunk for chunk in chunks if RECLASSIFIED in chunk.additional_kwargs]
    assert "".join(str(chunk.content) for chunk in chunks) == "42"
    up.script(stream({"content": "no "}, {"content": "reasoning"}), stream({"content": "none"}))
    assert (await texts_of(replies))[0] == "no reasoning"
    assert await texts_of(replies) == ("none", "")


async def test_an_answer_that_breaks_off_after_reasoning_is_not_retried(up: ScriptedUpstream, connect: Connect) -> None:
    broken = stream({"reasoning_content": "let me"}, finish=False)
    up.script(Raw(broken.parts[:-1], then="drop"))
    with pytest.raises(Exception, match="middle of the answer"):
        await texts_of(OpenAIBackend(await connect(up.url)))
    assert len(up.requests) == 1


async def test_the_chat_chain_returns_only_the_answer(up: ScriptedUpstream, connect: Connect) -> None:
    up.script(
        stream({"content": "<think>let me</think>42"}), stream({"content": "let me\n</think>"}, {"content": "42"})
    )
    chain = build_chat_chain(await connect(up.url))
    assert await chain.ainvoke({"human": "6 x 7?"}) == "42"
    assert await chain.ainvoke({"human": "6 x 7?"}) == "42"


async def test_a_passed_through_answer_is_unchanged(up: ScriptedUpstream, connect: Connect) -> None:
    up.script(Reply("<think>let me</think>42"))
    response = await (await connect(up.url)).pass_through({"messages": []})
    assert b"<think>let me</think>42" in (response.body or b"")
