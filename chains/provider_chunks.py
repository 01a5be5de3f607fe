"""Converts what other providers' LangChain models return to one form: chunks, finish reasons, errors. Pure.

Invariants: content blocks become text; reasoning is kept apart from the text; usage is summed and sent once, at the
end; whatever a provider's library raises becomes a RunError that names the upstream; an answer's length is limited.
"""

from collections.abc import Collection, Iterator
from typing import Final

from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelInvalidRequestError,
    ModelNotFoundError,
    ModelPermissionDeniedError,
    ModelRateLimitError,
    ModelTimeoutError,
)
from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import UsageMetadata, add_usage

from chains.blocks import MAX_ANSWER_BYTES, SHORTER_ANSWERS, too_long
from chains.call_chunks import chunk_of_calls
from chains.error_responses import ErrorResponse, explain, read_error_response
from chains.extra_fields import EXTRA_FIELDS
from chains.fragments import CallFragments, number_calls
from chains.native_replies import NativeReply
from wire.errors import ContextOverflow, RunError, UpstreamFailed

__all__ = ["AnswerSize", "ChunkConverter", "explain_provider_error"]

_FINISHES: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "complete": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "safety": "content_filter",
    "guardrail_intervened": "content_filter",
}
"""Providers' finish reasons → OpenAI's."""

_STATUSES: Final = (
    (ModelAuthenticationError, 401),
    (ModelPermissionDeniedError, 403),
    (ModelNotFoundError, 404),
    (ModelRateLimitError, 429),
    (ModelInvalidRequestError, 400),
)


_CHUNK_BYTES: Final = 300
"""Added to each chunk's size, about its overhead on the wire: thus a stream of empty chunks also reaches the limit."""


class AnswerSize:
    """The size of one answer so far, estimated from its chunks: the library does not report the bytes received."""

    def __init__(self, host: str, advice: str = SHORTER_ANSWERS) -> None:
        self._host = host
        self._advice = advice
        self._bytes = 0

    def add(self, chunk: AIMessageChunk) -> None:
        """Count a chunk. Raises UpstreamFailed if the answer exceeds `MAX_ANSWER_BYTES`."""
        text, reasoning = _texts(chunk)
        calls = sum(len(call.get("args") or "") + len(call.get("name") or "") for call in chunk.tool_call_chunks)
        self._bytes += _CHUNK_BYTES + len(text) + len(reasoning) + calls
        if self._bytes > MAX_ANSWER_BYTES:
            raise too_long(self._host, MAX_ANSWER_BYTES, self._advice)


class ChunkConverter:
    """Converts one stream's chunks; `finish` is the finish reason, None until it arrives."""

    def __init__(self, host: str, offered: Collection[str] = (), reply: NativeReply | None = None) -> None:
        """`offered` are the names of the request's functions; `reply` keeps what is sent back with calls."""
        self._reply = reply
        self.finish: str | None = None
        self._calls = CallFragments(offered)
        self._usage: UsageMetadata | None = None
        self._size = AnswerSize(host)

    def convert(self, chunk: AIMessageChunk) -> AIMessageChunk | None:
        """Return the chunk with text, reasoning and calls only; None if it has none of them.

        Raises UpstreamFailed if the answer exceeds `MAX_ANSWER_BYTES`.
        """
        self._size.add(chunk)
        if self._reply is not None:
            self._reply.add(chunk)
        metadata = chunk.response_metadata
        reason = metadata.get("stop_reason") or metadata.get("finish_reason") or metadata.get("done_reason")
        if reason:
            normalized = str(reason).lower()
            self.finish = _FINISHES.get(normalized, normalized)
        if chunk.usage_metadata:
            self._usage = add_usage(self._usage, chunk.usage_metadata)
        text, reasoning = _texts(chunk)
        calls = number_calls(self._calls, chunk).tool_call_chunks
        if not (text or reasoning or calls):
            return None
        additional = {"reasoning_content": reasoning} if reasoning else {}
        return chunk_of_calls(calls, content=text, additional_kwargs=additional)

    def end(self) -> AIMessageChunk:
        """Return the last chunk: the finish reason, the whole usage, and what is sent back with the calls."""
        kept = self._reply.to_json() if self._reply is not None and self._calls else ""
        return AIMessageChunk(
            content="",
            additional_kwargs={EXTRA_FIELDS: kept} if kept else {},
            response_metadata={"finish_reason": self.finish or "stop"},
            usage_metadata=self._usage,
        )


def _texts(chunk: AIMessageChunk) -> tuple[str, str]:
    reasoning = str(chunk.additional_kwargs.get("reasoning_content") or "")
    if isinstance(chunk.content, str):
        return chunk.content, reasoning
    text = ""
    for block in chunk.content:
        if isinstance(block, str):
            text += block
        elif block.get("type") == "text":
            text += block.get("text") or ""
        elif block.get("type") in ("thinking", "reasoning"):
            reasoning += block.get("thinking") or block.get("reasoning") or ""
    return text, reasoning


def explain_provider_error(error: Exception, *, host: str, model: str, key: str) -> RunError:
    """Return the RunError for what a provider's library raised; `key` is the setting that holds the key."""
    error_response = _error_response(error)
    if isinstance(error, ContextOverflowError) or (error_response is not None and error_response.overflow):
        overflowed = error_response or ErrorResponse(_message_of(error))
        overflow = ContextOverflow(f"{host}: {overflowed.message}", limit=overflowed.prompt_limit, used=overflowed.used)
        overflow.error_response = overflowed
        return overflow
    if error_response is not None:
        return explain(error_response, host=host, model=model, key=key)
    if isinstance(error, ModelTimeoutError | TimeoutError):
        return UpstreamFailed(
            f"{host} was silent for too long. See its status, or raise UPSTREAM_TIMEOUT_S.", kind="silent"
        )
    if isinstance(error, ModelConnectionError | OSError) or "Connect" in type(error).__name__:
        message = f"{host} cannot be reached ({_root(error)}). Check its address and the network."
        return UpstreamFailed(message, kind="unreachable")
    if isinstance(error, ValueError | TypeError | NotImplementedError):  # the library's own checks of the request
        return explain(ErrorResponse(_message_of(error), status=400), host=host, model=model, key=key)
    message = _message_of(error)
    return UpstreamFailed(f"{host} failed ({type(error).__name__}): {message}", quote=message)


def _error_response(error: Exception) -> ErrorResponse | None:
    """Return the refusal of the provider's server, None if the error is not one of its answers."""
    answer = getattr(error, "response", None)
    statuses = [getattr(error, "status_code", None), getattr(answer, "status_code", None)]
    statuses += [status for kind, status in _STATUSES if isinstance(error, kind)]
    status = next((one for one in statuses if type(one) is int), None)
    body = getattr(error, "body", None)
    if status is None and not (isinstance(body, dict) and body):
        return None
    if status is not None and status < 400:
        status = None  # an error within a stream whose status was a success
    content: dict[str, object] = body if isinstance(body, dict) and body else {"message": _message_of(error)}
    return read_error_response(content, status=status)


def _message_of(error: Exception) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__


def _root(error: BaseException) -> str:
    *_, last = _causes(error)
    return " ".join(str(last).split())[:200] or type(last).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__
