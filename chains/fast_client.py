"""The client that ChatOpenAI uses: aiohttp and orjson, plain dicts, no object per token.

openai's own client builds typed models of every chunk, which costs fifty times the network transfer. ChatOpenAI accepts
dict chunks as well (`_astream`). Because it always streams here, it calls only `create(stream=True)`.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Final, Self, cast

import aiohttp

from chains.blocks import MAX_ANSWER_BYTES, SHORTER_ANSWERS, Blocks, read_all, too_long
from chains.chat_types import ChatRequest
from chains.chunks import AnyChunk, ChunkReader, split_chunk
from chains.error_responses import error_response_of, quoted
from chains.extra_fields import ExtraFields, restore
from chains.read_batching import ReadPauses
from chains.redaction import redact_error
from chains.retries import Retries, is_transient
from chains.sse import SseDecoder
from chains.transport import failure
from chains.upstream import Upstream
from fairness.fair_limits import ANSWERS
from telemetry.context import current_owner
from wire.errors import RunError, UpstreamFailed

__all__ = ["EXCHANGE", "Exchange", "FastCompletions"]

EXCHANGE: Final = "threadhold_exchange"
"""Keyword under which a call carries its Exchange through ChatOpenAI to the client."""

_DONE: Final = b"[DONE]"
_AFTER_FINISH_S: Final = 1.5  # for usage and [DONE] after the finish reason
_AFTER_DONE_S: Final = 0.02  # for the end of the body, without which the connection cannot be reused
_CHUNKS: Final = 50  # yielded before other tasks can run: one read can return thousands

_LARGE: Final = 64 * 1024
"""Bytes. A larger payload is decoded in a thread, because that can take a microsecond for each byte."""

_MAX_PAYLOAD_BYTES: Final = 8 * 1024 * 1024
"""Maximum bytes of a payload, such as an answer that is not streamed."""
_NOT_IN_BODY: Final = ("extra_headers", "extra_query", "extra_body", "timeout")


class Exchange:
    """Controls one call's connection, and carries fields that ChatOpenAI must not see (`response_format`).

    Closing LangChain's generators closes the inner ones only some time later; `close` closes the connection
    immediately.
    """

    def __init__(
        self, fields: ChatRequest | None = None, *, together: bool = False, kept: Mapping[int, str] | None = None
    ) -> None:
        """With `together`, the texts of one read become one chunk, whose content is their list. `kept` has the extra
        fields of messages by index, as text (see `chains.extra_fields`)."""
        self.together = together
        self.kept = kept
        self.fields: ChatRequest = fields or {}
        self.stream: ChunkStream | None = None

    def close(self) -> None:
        """Close the upstream's connection, unless its answer was read to the end."""
        if self.stream is not None:
            self.stream.close()


class FastCompletions:
    """Replaces `AsyncOpenAI().chat.completions`."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def create(self, **payload: Any) -> "ChunkStream":  # as ChatOpenAI calls it
        """Return the answer's chunks. Raises RunError."""
        exchange: Exchange = payload.pop(EXCHANGE, None) or Exchange()
        assert payload.get("stream"), "ChatOpenAI is configured to stream"
        extra = payload.get("extra_body") or {}
        kept = {name: value for name, value in payload.items() if name not in _NOT_IN_BODY}
        body = cast("ChatRequest", {**kept, **extra, **exchange.fields})  # written by ChatOpenAI and `OpenAIBackend`
        body["model"] = model = await self._upstream.resolve(str(body.get("model") or ""))
        if exchange.kept and self._upstream.endpoint is not None:
            url = self._upstream.endpoint.base
            body["messages"] = restore(body["messages"], exchange.kept, url=url, model=model)
        stream = ChunkStream(self._upstream, body, model, together=exchange.together)
        exchange.stream = stream
        await stream.open()
        return stream


class _BrokeOffError(Exception):
    """The connection ended before the answer did; the run fails with `error` if it is not retried."""

    def __init__(self, error: RunError) -> None:
        super().__init__(error.message)
        self.error = error


def _has_content(chunk: AnyChunk) -> bool:
    return any(
        delta.get("content") or delta.get("tool_calls") or delta.get("reasoning_content")
        for delta in (choice["delta"] for choice in chunk["choices"])
    )


class ChunkStream:
    """The chunks of one answer in the form that ChatOpenAI reads: an async context manager and iterator."""

    def __init__(self, upstream: Upstream, body: ChatRequest, model: str, *, together: bool) -> None:
        self._upstream = upstream
        self._together = together
        self._body = body
        self._model = model
        self._idle_s = upstream.limits.idle_s
        self._negotiation = upstream.negotiation(model)
        self._retries = Retries(upstream.limits.retry)
        self._has_output = False
        self._bytes = 0
        self._newest_bytes = 0
        self._blocks: Blocks | None = None
        self._pauses: ReadPauses | None = None

    async def open(self) -> None:
        """Post the request. Raises RunError."""
        self._response = await self._upstream.answer(self._body, self._negotiation, self._retries)
        endpoint = self._upstream.endpoint
        assert endpoint is not None  # otherwise no server would have answered
        self._endpoint = endpoint
        tools = self._body.get("tools")
        self._reader = ChunkReader(
            host=endpoint.host,
            model=self._model,
            learn_limit=self._upstream.learn_limit,
            sent=self._body,
            begins_with_reasoning=self._model in self._upstream.reasoning_models,
            offered=[tool["function"]["name"] for tool in tools or ()],
            extra=ExtraFields(endpoint.base, self._model) if tools else None,
        )
        self._decoder = SseDecoder()
        self._pauses = ReadPauses(self._upstream.loop_lag)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, unless the answer was read to the end (then the pool has it again)."""
        if self._pauses is not None:
            self._pauses.close()
        if self._blocks is not None:
            self._blocks.close()
        if (response := getattr(self, "_response", None)) is not None:
            response.close()
            self._upstream.note_reasoning(self._model, begins=self._reader.begins_with_reasoning)

    def __aiter__(self) -> AsyncIterator[AnyChunk]:
        return self._persistent()

    def _chunks(self) -> AsyncGenerator[AnyChunk]:
        kind = self._response.headers.get("Content-Type", "").lower()
        if "html" in kind:
            return self._page()
        return self._whole() if "json" in kind and "ndjson" not in kind else self._events()

    async def _persistent(self) -> AsyncIterator[AnyChunk]:
        """Yield the answer's chunks. Until the first text or call, a stream that breaks off is retried, and after a
        refusal that names a field, the request is repeated without it."""
        while True:
            try:
                async with aclosing(self._chunks()) as chunks:
                    async for chunk in chunks:
                        self._has_output = self._has_output or _has_content(chunk)
                        yield chunk
                self._negotiation.record_success()
                return
            except _BrokeOffError as broken:
                self.close()
                if self._has_output or not await self._retries.wait_to_retry():
                    redact_error(broken.error, self._endpoint.secrets)
                    raise broken.error from broken
            except RunError as error:
                redact_error(error, self._endpoint.secrets)
                error_response = error_response_of(error)
                if (
                    self._has_output
                    or error_response is None
                    or not await self._negotiation.drop_refused(error_response)
                ):
                    raise
                self.close()
            await self.open()

    async def _events(self) -> AsyncGenerator[AnyChunk]:
        self._blocks = Blocks(self._response, idle_s=self._idle_s)
        while block := await self._next_block():
            self._bytes += len(block)
            if self._bytes > MAX_ANSWER_BYTES:
                raise too_long(self._endpoint.host, MAX_ANSWER_BYTES)
            payloads = self._decoder.feed(block)
            done = _DONE in payloads
            async for chunk in self._read_all(payloads[: payloads.index(_DONE)] if done else payloads):
                yield chunk
            if done:
                await self._drain()
                if self._has_output and not self._reader.finished:  # an end mark without a finish reason
                    yield self._reader.end()
                else:
                    self._check_finished()
                return
        async for chunk in self._read_all([payload for payload in self._decoder.end() if payload != _DONE]):
            yield chunk
        self._check_finished()

    async def _read_all(self, payloads: Sequence[bytes]) -> AsyncGenerator[AnyChunk]:
        """Yield the chunks of payloads, and let other tasks run in between."""
        start = 0
        for at in (*(at for at, payload in enumerate(payloads) if len(payload) > _LARGE), len(payloads)):
            for number, chunk in enumerate(self._read(payloads[start:at]), 1):
                yield chunk
                if number % _CHUNKS == 0:
                    await asyncio.sleep(0)
            if at < len(payloads):
                async for chunk in self._read_large(payloads[at]):
                    yield chunk
            start = at + 1

    async def _read_large(self, payload: bytes) -> AsyncGenerator[AnyChunk]:
        if len(payload) > _MAX_PAYLOAD_BYTES:
            raise too_long(self._endpoint.host, _MAX_PAYLOAD_BYTES)
        chunk = await ANSWERS.run(current_owner(), self._reader.read, payload)
        if chunk is not None:
            for piece in split_chunk(chunk):
                yield piece
                await asyncio.sleep(0)

    def _read(self, payloads: Sequence[bytes]) -> Iterator[AnyChunk]:
        if self._together:
            return self._reader.read_all(payloads)
        return (chunk for payload in payloads if (chunk := self._reader.read(payload)) is not None)

    async def _next_block(self) -> bytes:
        """Return the next bytes; empty at the end. Once the answer has finished, a broken connection is an end, too."""
        assert self._blocks is not None
        if self._reader.finished:
            self._blocks.limit(_AFTER_FINISH_S)
        elif self._has_output and self._pauses is not None:
            await self._pauses.wait(self._newest_bytes, self._blocks.held)
        try:
            block = await self._blocks.next()
            self._newest_bytes = len(block)
            return block
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if self._reader.finished:
                return b""
            failed = failure(error, self._endpoint, idle_s=self._idle_s)
            self._upstream.outcomes[(failed.kind,)] += 1
            if is_transient(error) or isinstance(error, aiohttp.ClientPayloadError):
                raise _BrokeOffError(failed) from error
            raise failed from error

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(_AFTER_DONE_S):
                while await self._response.content.readany():
                    pass
        except (aiohttp.ClientError, TimeoutError, OSError):
            self.close()

    def _check_finished(self) -> None:
        if not self._reader.finished:
            host = self._endpoint.host
            message = f"{host}: the stream ended early, without a finish reason. See the upstream's log."
            self._upstream.outcomes["broke_off",] += 1
            raise _BrokeOffError(UpstreamFailed(message, kind="broke_off"))

    async def _whole(self) -> AsyncGenerator[AnyChunk]:
        """Yield one JSON completion as a chunk: the upstream ignores `stream`."""
        body = await read_all(
            self._response,
            self._endpoint,
            idle_s=self._idle_s,
            max_bytes=_MAX_PAYLOAD_BYTES,
            outcomes=self._upstream.outcomes,
            advice=SHORTER_ANSWERS,
        )
        has_answer = False
        async for chunk in self._read_all([body]):
            has_answer = has_answer or bool(chunk["choices"])
            yield chunk
        if not has_answer:
            quote = quoted(body)
            message = f"{self._endpoint.host} answered with JSON that is no completion: {quote}."
            raise UpstreamFailed(message, kind="garbage", quote=quote)

    async def _page(self) -> AsyncGenerator[AnyChunk]:
        raise UpstreamFailed(
            f"{self._endpoint.host} answered with a web page (HTML) instead of a completion. "
            f"Check that {self._endpoint.setting} is the address of the API, which usually ends in `/v1`.",
            kind="garbage",
        )
        yield {"choices": []}  # pragma: no cover (makes this a generator)
