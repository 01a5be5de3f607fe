"""OpenAI's `/chat/completions`, answered by a model with another protocol: body in, UpstreamResponse out."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final, cast
from uuid import uuid4

import orjson
from langchain_core.messages import AIMessageChunk, BaseMessage, convert_to_messages
from langchain_core.messages.tool import ToolCallChunk

from chains.call_chunks import ChunkSum
from chains.chat_types import (
    Answer,
    AnswerChoice,
    AnswerChunk,
    AnswerDelta,
    AnswerHead,
    AnswerMessage,
    CallDelta,
    CallFunction,
    TokenCounts,
)
from chains.error_responses import ErrorResponse, overflow_body
from chains.reply import ReplyCall
from chains.upstream_response import UpstreamResponse
from wire.errors import ContextOverflow, InvalidRequest, Problem, PromptRefused, RateLimited, RunError, UpstreamProblem
from wire.model_options import OPTIONS, ModelOptions

__all__ = ["open_completion"]

_JSON: Final = "application/json"
_SSE: Final = "text/event-stream; charset=utf-8"
_PASSED_ON: Final = ("tool_choice", "parallel_tool_calls", "response_format")


async def open_completion(
    stream: Callable[[ReplyCall], AsyncGenerator[AIMessageChunk]], body: dict[str, object]
) -> UpstreamResponse:
    """Make a request, and return the answer: whole, or as a stream whose first chunk has arrived. Raises Problem.

    Fields that ReplyCall does not have are dropped.
    """
    call = _call(body)
    chunks = stream(call)
    builder = _AnswerBuilder(call.model)
    try:
        if body.get("stream"):
            first = await anext(chunks, None)
            options = body.get("stream_options")
            usage = isinstance(options, dict) and bool(options.get("include_usage"))
            return _Streamed(200, _SSE, _frames=_frames(first, chunks, builder, usage=usage))
        async with aclosing(chunks):
            whole = ChunkSum()
            async for chunk in chunks:
                whole.add(chunk)
    except RunError as error:
        raise _problem(error) from error
    return UpstreamResponse(200, _JSON, body=orjson.dumps(builder.whole(whole.chunk())))


@dataclass(frozen=True, slots=True)
class _Streamed(UpstreamResponse):
    """A response that is generated here; closing its blocks closes their source."""

    _frames: AsyncGenerator[bytes] | None = field(default=None)

    async def blocks(self) -> AsyncIterator[bytes]:
        """Yield the frames as they arrive."""
        if self._frames is not None:
            async with aclosing(self._frames) as frames:
                async for frame in frames:
                    yield frame


class _AnswerBuilder:
    """Builds chunks and completions in OpenAI's shape."""

    def __init__(self, model: str) -> None:
        self._head: AnswerHead = {"id": f"chatcmpl-{uuid4().hex}", "created": int(time.time()), "model": model}
        self._indexes: dict[int | None, int] = {}

    def chunk(self, chunk: AIMessageChunk) -> AnswerChunk:
        delta: AnswerDelta = {"role": "assistant", "content": chunk.content}
        if reasoning := chunk.additional_kwargs.get("reasoning_content"):
            delta["reasoning_content"] = reasoning
        if chunk.tool_call_chunks:
            delta["tool_calls"] = [self._fragment(fragment) for fragment in chunk.tool_call_chunks]
        finish = chunk.response_metadata.get("finish_reason")
        choice: AnswerChoice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}

    def usage(self, chunk: AIMessageChunk) -> Answer:
        return {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": _usage(chunk)}

    def whole(self, whole: AIMessageChunk) -> Answer:
        message: AnswerMessage = {"role": "assistant", "content": whole.content or None, "refusal": None}
        if reasoning := whole.additional_kwargs.get("reasoning_content"):
            message["reasoning_content"] = reasoning
        if calls := [self._fragment(fragment) for fragment in whole.tool_call_chunks]:
            message["tool_calls"] = [
                {"id": call["id"], "type": call["type"], "function": call["function"]} for call in calls
            ]
        finish = whole.response_metadata.get("finish_reason")
        choice: AnswerChoice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": _usage(whole)}

    def _fragment(self, fragment: ToolCallChunk) -> CallDelta:
        index = self._indexes.setdefault(fragment.get("index"), len(self._indexes))
        function: CallFunction = {"name": fragment.get("name"), "arguments": fragment.get("args") or ""}
        call: CallDelta = {"index": index, "type": "function", "function": function}
        return {**call, "id": fragment["id"]} if fragment.get("id") else call


async def _frames(
    first: AIMessageChunk | None, rest: AsyncGenerator[AIMessageChunk], builder: _AnswerBuilder, *, usage: bool
) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        last = first
        try:
            if first is not None:
                yield _frame(builder.chunk(first))
            async for chunk in rest:
                last = chunk
                yield _frame(builder.chunk(chunk))
            if usage and last is not None:
                yield _frame(builder.usage(last))
        except RunError as error:
            details = {"message": error.message, "type": "upstream_error", "param": None, "code": None}
            yield _frame({"error": details})
        yield b"data: [DONE]\n\n"


def _frame(data: Mapping[str, object]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


def _usage(chunk: AIMessageChunk) -> TokenCounts | None:
    reported = chunk.usage_metadata
    if reported is None:
        return None
    return {
        "prompt_tokens": reported["input_tokens"],
        "completion_tokens": reported["output_tokens"],
        "total_tokens": reported["total_tokens"],
    }


def _call(body: dict[str, Any]) -> ReplyCall:  # a client's own request: LangChain and the provider check its members
    try:
        messages: list[BaseMessage] = convert_to_messages(body.get("messages") or [])
    except (ValueError, NotImplementedError, KeyError, TypeError) as error:
        raise InvalidRequest(f"`messages` cannot be read: {error}", param="messages") from error
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    return ReplyCall(
        model=body["model"],
        messages=messages,
        tools=list(body.get("tools") or ()),
        options=ModelOptions(**{name: body.get(name) for name in OPTIONS}),
        max_tokens=limit if type(limit) is int and limit > 0 else None,
        **cast(dict[str, Any], {name: body.get(name) for name in _PASSED_ON}),
    )


def _problem(error: RunError) -> Problem:
    match error:
        case RateLimited():
            return UpstreamProblem(error.message, http_status=429)
        case ContextOverflow():
            counted = ErrorResponse(
                error.quote or error.message, limit=error.limit, prompt_limit=error.limit, used=error.used
            )
            overflow = overflow_body(counted, param="messages")["error"]
            return InvalidRequest(overflow["message"], param="messages", code=overflow["code"])
        case PromptRefused():
            return InvalidRequest(error.message)
        case _:
            status = 400 if error.code == "invalid_prompt" else 502
            return UpstreamProblem(error.message, http_status=status)
