"""OpenAI's `/chat/completions`, answered by a model that speaks otherwise: body in, Passage out."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final, cast
from uuid import uuid4

import orjson
from langchain_core.messages import AIMessageChunk, BaseMessage, convert_to_messages

from chains.call_chunks import Whole
from chains.passage import Passage
from chains.refusals import Refusal, overflow_body
from chains.reply import ReplyCall
from wire.errors import ContextOverflow, InvalidRequest, Problem, PromptRefused, RateLimited, RunError, UpstreamProblem

__all__ = ["open_completion"]

_JSON: Final = "application/json"
_SSE: Final = "text/event-stream; charset=utf-8"
_TAKEN: Final = ("tool_choice", "parallel_tool_calls", "response_format", "temperature", "top_p", "reasoning_effort")


async def open_completion(
    stream: Callable[[ReplyCall], AsyncIterator[AIMessageChunk]], body: dict[str, Any]
) -> Passage:
    """Ask, and return the answer: whole, or as a stream whose first chunk has come. Raises Problem.

    Fields that ReplyCall has no place for are not sent on.
    """
    call = _call(body)
    chunks: Any = stream(call)
    shape = _Shape(call.model)
    try:
        if body.get("stream"):
            first = await anext(chunks, None)
            usage = bool((body.get("stream_options") or {}).get("include_usage"))
            return _Streamed(200, _SSE, _frames=_frames(first, chunks, shape, usage=usage))
        async with aclosing(chunks):
            whole = Whole()
            async for chunk in chunks:
                whole.add(chunk)
    except RunError as error:
        raise _problem(error) from error
    return Passage(200, _JSON, body=orjson.dumps(shape.whole(whole.chunk())))


@dataclass(frozen=True, slots=True)
class _Streamed(Passage):
    """A passage that is made here; closing its blocks closes what they come from."""

    _frames: AsyncGenerator[bytes] | None = field(default=None)

    async def blocks(self) -> AsyncIterator[bytes]:
        """Yield the frames as they come."""
        if self._frames is not None:
            async with aclosing(self._frames) as frames:
                async for frame in frames:
                    yield frame


class _Shape:
    """Chunks and completions in OpenAI's shape."""

    def __init__(self, model: str) -> None:
        self._head: dict[str, Any] = {"id": f"chatcmpl-{uuid4().hex}", "created": int(time.time()), "model": model}
        self._places: dict[Any, int] = {}

    def chunk(self, chunk: AIMessageChunk) -> dict[str, Any]:
        delta: dict[str, Any] = {"role": "assistant", "content": chunk.content}
        if thoughts := chunk.additional_kwargs.get("reasoning_content"):
            delta["reasoning_content"] = thoughts
        if chunk.tool_call_chunks:
            delta["tool_calls"] = [self._fragment(fragment) for fragment in chunk.tool_call_chunks]
        finish = chunk.response_metadata.get("finish_reason")
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}

    def usage(self, chunk: AIMessageChunk) -> dict[str, Any]:
        return {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": _usage(chunk)}

    def whole(self, whole: AIMessageChunk) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": whole.content or None, "refusal": None}
        if thoughts := whole.additional_kwargs.get("reasoning_content"):
            message["reasoning_content"] = thoughts
        if calls := [self._fragment(fragment) for fragment in whole.tool_call_chunks]:
            message["tool_calls"] = [{name: call[name] for name in ("id", "type", "function")} for call in calls]
        finish = whole.response_metadata.get("finish_reason")
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": _usage(whole)}

    def _fragment(self, fragment: Any) -> dict[str, Any]:
        place = self._places.setdefault(fragment.get("index"), len(self._places))
        function = {"name": fragment.get("name"), "arguments": fragment.get("args") or ""}
        told = {"index": place, "type": "function", "function": function}
        return {**told, "id": fragment["id"]} if fragment.get("id") else told


async def _frames(first: AIMessageChunk | None, rest: Any, shape: _Shape, *, usage: bool) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        last = first
        try:
            if first is not None:
                yield _frame(shape.chunk(first))
            async for chunk in rest:
                last = chunk
                yield _frame(shape.chunk(chunk))
            if usage and last is not None:
                yield _frame(shape.usage(last))
        except RunError as error:
            told = {"message": error.message, "type": "upstream_error", "param": None, "code": None}
            yield _frame({"error": told})
        yield b"data: [DONE]\n\n"


def _frame(data: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


def _usage(chunk: AIMessageChunk) -> dict[str, int] | None:
    told = chunk.usage_metadata
    if told is None:
        return None
    return {
        "prompt_tokens": told["input_tokens"],
        "completion_tokens": told["output_tokens"],
        "total_tokens": told["total_tokens"],
    }


def _call(body: dict[str, Any]) -> ReplyCall:
    try:
        messages: list[BaseMessage] = convert_to_messages(body.get("messages") or [])
    except (ValueError, NotImplementedError, KeyError, TypeError) as error:
        raise InvalidRequest(f"`messages` cannot be read: {error}", param="messages") from error
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    return ReplyCall(
        model=body["model"],
        messages=messages,
        tools=list(body.get("tools") or ()),
        max_tokens=limit if type(limit) is int and limit > 0 else None,
        **cast(dict[str, Any], {name: body.get(name) for name in _TAKEN}),
    )


def _problem(error: RunError) -> Problem:
    match error:
        case RateLimited():
            return UpstreamProblem(error.message, http_status=429)
        case ContextOverflow():
            counted = Refusal(error.quote or error.message, limit=error.limit, room=error.limit, used=error.used)
            told = overflow_body(counted, param="messages")["error"]
            return InvalidRequest(told["message"], param="messages", code=told["code"])
        case PromptRefused():
            return InvalidRequest(error.message)
        case _:
            status = 400 if error.code == "invalid_prompt" else 502
            return UpstreamProblem(error.message, http_status=status)
